"""Own presets: sets of variants as data in a file, beside those of `panelworks.domain.formats`."""

import json
from functools import lru_cache
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from panelworks.domain.formats import PRESETS, VariantSpec
from panelworks.domain.options import EnhanceOptions
from panelworks.domain.treatment import VariantList
from panelworks.errors import Misconfigured, UnknownName
from panelworks.settings import Settings


def presets_of(settings: Settings) -> dict[str, tuple[VariantSpec, ...]]:
    """The presets of an installation: the built-in ones, and those of PANELWORKS_PRESETS, which replace them by name.

    Raises:
        Misconfigured: `bad_presets`, the file cannot be used; the message says which variant.
    """
    if settings.presets is None:
        return PRESETS
    try:
        return {**PRESETS, **_read_presets(settings.presets, settings.presets.stat().st_mtime_ns)}
    except OSError as error:
        raise _bad_presets(settings.presets, f"cannot be read ({type(error).__name__}).") from error


def with_preset(options: EnhanceOptions, settings: Settings) -> EnhanceOptions:
    """The options with the variants of an own preset, if they name one and state no variants.

    Raises:
        UnknownName: `unknown_preset`. Misconfigured: `bad_presets`.
    """
    if options.variants:
        return options
    known = presets_of(settings)
    if options.preset not in known:
        raise UnknownName(
            "unknown_preset", f"There is no preset '{options.preset}'; known are {', '.join(known)}."
        )
    specs = known[options.preset]
    if specs == PRESETS.get(options.preset):  # content keys of built-in presets do not change
        return options
    return options.model_copy(update={"variants": specs})


@lru_cache(maxsize=4)
def _read_presets(path: Path, changed: int) -> dict[str, tuple[VariantSpec, ...]]:
    """The presets of a file that was changed at the time `changed`."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        presets = TypeAdapter(dict[str, VariantList]).validate_python(content)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the file"
        raise _bad_presets(path, f"{place}: {first['msg'].removeprefix('Value error, ')}.") from error
    except ValueError as error:
        raise _bad_presets(path, f"is not JSON ({error}).") from error
    empty = next((name for name, specs in presets.items() if not specs or not name), None)
    if empty is not None:
        raise _bad_presets(path, f"the preset '{empty}' has no name or no variants.")
    return presets


def _bad_presets(path: Path, reason: str) -> Misconfigured:
    return Misconfigured("bad_presets", f"PANELWORKS_PRESETS: {path}: {reason}")
