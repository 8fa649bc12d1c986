"""Options of a request: how to enhance a page."""

from typing import Any, Final, Literal

from pydantic import Field

from panelworks.domain.cards import CARDS
from panelworks.domain.fields import Frozen
from panelworks.domain.formats import PRESETS
from panelworks.settings import FallbackMethod, LearnedMetricName, Settings

Switch = Literal["auto", "on", "off"]
"""Whether a step runs: if the page needs it, always, never."""


def _offer_models(schema: dict[str, Any]) -> None:
    """The run form shows the known networks as a list; it also accepts a path."""
    schema.pop("type", None)
    known = ["auto", "lanczos", *(name for name, card in CARDS.items() if "upscale" in card.actions)]
    schema["anyOf"] = [
        {"title": "known network", "type": "string", "enum": known},
        {"title": "weight file", "type": "string"},
    ]


MAX_COORDINATE: Final = 2**31 - 1
MAX_REGIONS: Final = 256


class Region(Frozen):
    """A rectangle of a page, in pixels of the source."""

    left: int = Field(ge=0, le=MAX_COORDINATE)
    top: int = Field(ge=0, le=MAX_COORDINATE)
    width: int = Field(ge=1, le=MAX_COORDINATE)
    height: int = Field(ge=1, le=MAX_COORDINATE)


class Matting(Frozen):
    """Softer edges of a figure that is cut out: the thresholds of closed-form matting in rembg.

    The maximum opacity is 255: with a foreground threshold above it, no pixel is certain to be the figure.
    """

    foreground: int = Field(
        240, ge=0, le=270, description="Opacity from which a pixel is certain to be the figure."
    )
    background: int = Field(
        10, ge=0, le=270, description="Opacity up to which a pixel is certain not to be the figure."
    )
    erode: int = Field(
        10, ge=0, le=100, description="Width in pixels of the border in which the edge is searched."
    )


class EnhanceOptions(Frozen):
    """Options of a request. The settings supply the values that are empty."""

    preset: str = Field(
        "comic-page",
        description="Set of variants to make from the master.",
        json_schema_extra={"enum": list(PRESETS)},
    )
    scale: float | None = Field(
        None, ge=1, le=4, description="Enlargement factor of the master; empty: UPSCALE_SCALE."
    )
    model: str = Field(
        "auto",
        description="A known network, 'lanczos', 'auto', or (operators only) the path of a weight file.",
        json_schema_extra=_offer_models,
    )
    fix_artifacts: Switch = Field("auto", description="Remove JPEG artifacts: if needed, always, never.")
    descreen: Switch = Field(
        "off",
        description="Turn printed halftone dots into tone. It also removes screentone, which is part of the art.",
    )
    denoise: float | None = Field(
        None,
        ge=0,
        le=1,
        description="Remove noise or grain, from weak (0) to strong (1); empty: off.",
    )
    face: bool = Field(False, description="Restore photographic faces; drawn faces are not changed.")
    colour: float | None = Field(
        None,
        ge=0,
        le=1,
        description="Whiten paper, blacken ink, raise contrast and colour, from 0 to 1; empty: off.",
    )
    remove_background: bool = Field(False, description="Cut the figure out.")
    matting: Matting | None = Field(None, description="Softer edges of the figure; empty: off.")
    inpaint: tuple[Region, ...] = Field(
        (), max_length=MAX_REGIONS, description="Rectangles of the source to inpaint."
    )
    inpaint_scratches: bool = Field(False, description="Find light specks and scratches and inpaint them.")
    accept_damaged: bool = Field(
        False,
        description="Enhance a page with damaged pixel data. Without it, the page is delivered unchanged, with the reason.",
    )
    quality_threshold: float | None = Field(
        None,
        ge=0,
        le=1,
        description="Minimum resolution score of a page that needs no enhancement; empty: QUALITY_THRESHOLD.",
    )
    technical_threshold: float | None = Field(
        None,
        ge=0,
        le=1,
        description="Minimum technical score of a page that needs no enhancement; empty: PANELWORKS_TECHNICAL_THRESHOLD.",
    )

    def with_defaults_from(self, base: "EnhanceOptions") -> "EnhanceOptions":
        """These options; those that have their default value come from `base`."""
        given = [one.model_dump(exclude_defaults=True) for one in (base, self)]
        return EnhanceOptions.model_validate(given[0] | given[1])

    def resolve(self, settings: Settings) -> "ResolvedOptions":
        """These options, with values from the settings where they have none."""
        given = self.model_dump()
        for name, default in (
            ("scale", settings.upscale_scale),
            ("quality_threshold", settings.quality_threshold),
            ("technical_threshold", settings.technical_threshold),
        ):
            if given[name] is None:
                given[name] = default
        given |= {"target_score": settings.target_score, "fallbacks": settings.fallbacks}
        given |= {"metrics": settings.metrics}
        return ResolvedOptions.model_validate(given)


class ResolvedOptions(EnhanceOptions):
    """Options with all values that settings decide. Every field is part of the content key."""

    scale: float
    quality_threshold: float
    technical_threshold: float
    target_score: float
    fallbacks: tuple[FallbackMethod, ...]
    metrics: tuple[LearnedMetricName, ...]
