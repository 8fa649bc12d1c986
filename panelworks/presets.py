"""Presets: which variants a tool asks for. Adding a preset is adding a row here."""

from typing import Final

from panelworks.errors import UnknownName
from panelworks.frozen import Frozen
from panelworks.pictures.formats import PictureFormat


class VariantSpec(Frozen):
    """An encoded derivative: fitted inside a box, aspect kept, never enlarged."""

    name: str
    width: int | None
    """Widest it may be, in pixels; None does not bound."""
    height: int | None
    """Tallest it may be, in pixels; None does not bound (a webtoon strip keeps its width)."""
    format: PictureFormat
    quality: int


def _box(name: str, width: int, height: int | None, format: PictureFormat, quality: int) -> VariantSpec:
    return VariantSpec(name=name, width=width, height=height, format=format, quality=quality)


PRESETS: Final[dict[str, tuple[VariantSpec, ...]]] = {
    "comic-page": (_box("normal", 1440, None, "jpeg", 85), _box("high", 2880, None, "webp", 95)),
    "dall-e": (_box("normal", 1024, 1024, "jpeg", 80), _box("high", 2048, 2048, "webp", 95)),
    "sora": (_box("normal", 1280, 720, "jpeg", 85), _box("high", 1920, 1080, "webp", 95)),
    "stable-diffusion": (_box("normal", 768, 768, "jpeg", 80), _box("high", 1536, 1536, "webp", 95)),
}
"""Variants by preset. `comic-page` bounds only the width, so that long strips stay readable."""


def preset_named(name: str) -> tuple[VariantSpec, ...]:
    """The variants of a preset.

    Raises:
        UnknownName: `unknown_preset`.
    """
    try:
        return PRESETS[name]
    except KeyError:
        raise UnknownName(
            "unknown_preset", f"There is no preset '{name}'; known are {', '.join(PRESETS)}."
        ) from None
