"""Variants and watermarks on the command line: `name=thumb,width=320,fit=crop`."""

import csv
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from panelworks.domain.formats import VariantSpec
from panelworks.domain.watermark import Watermark
from panelworks.errors import Misconfigured

Model = TypeVar("Model", bound=BaseModel)
_NESTED = "watermark"
_FOCUS = "focus"


def parse_variant(text: str) -> VariantSpec:
    """Parse `NAME=VALUE,...`; a value with a comma is quoted, fields of its watermark begin with `watermark.`.

    Raises:
        Misconfigured: `bad_variant`.
    """
    fields: dict[str, Any] = {}
    for key, value in _parse_pairs(text, "bad_variant", "--variant"):
        outer, _, inner = key.partition(".")
        if outer == _NESTED:
            fields.setdefault(_NESTED, {})[inner or "image"] = value
        else:
            fields[key] = value
    return _validate(VariantSpec, fields, "bad_variant", "--variant")


def parse_watermark(text: str) -> Watermark:
    """Parse `FILE`, `FILE,NAME=VALUE,...` or `NAME=VALUE,...`.

    Raises:
        Misconfigured: `bad_watermark`.
    """
    fields = dict(_parse_pairs(text, "bad_watermark", "--watermark", first="image"))
    return _validate(Watermark, fields, "bad_watermark", "--watermark")


def _parse_pairs(text: str, code: str, option: str, first: str | None = None) -> list[tuple[str, str]]:
    """The pairs of a text. The first part may be the value of `first` alone. `focus=0.5,0.2` needs no quotes."""
    if first is not None and text.startswith("data:"):  # contains commas
        return [(first, text)]
    parts = next(csv.reader([text], skipinitialspace=True), [])
    pairs: list[tuple[str, str]] = []
    for number, part in enumerate(parts):
        key, equals, value = part.partition("=")
        known = key.strip().replace("-", "_")
        if equals and known.replace(".", "").replace("_", "").isalpha():
            pairs.append((known, value))
        elif number == 0 and first is not None:
            pairs.append((first, part))
        elif pairs and pairs[-1][0] == _FOCUS:
            pairs[-1] = (_FOCUS, f"{pairs[-1][1]},{part}")
        else:
            raise Misconfigured(code, f"{option}: '{part[:100]}' is not of the form NAME=VALUE.")
    names = [name for name, _ in pairs]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise Misconfigured(code, f"{option}: {twice} is given twice.")
    return pairs


def _validate(model: type[Model], fields: dict[str, Any], code: str, option: str) -> Model:
    try:
        return model.model_validate(fields)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"][:2])
        message = first["msg"].removeprefix("Value error, ")
        raise Misconfigured(code, f"{option}: {place + ': ' if place else ''}{message}.") from error
