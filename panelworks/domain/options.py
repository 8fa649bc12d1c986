"""What a request may ask for: how a page is to be enhanced."""

from typing import Any, Final, Literal

from pydantic import Field

from panelworks.domain.cards import CARDS
from panelworks.domain.fields import Frozen
from panelworks.domain.formats import PRESETS
from panelworks.settings import FallbackMethod, LearnedMetricName, Settings

Switch = Literal["auto", "on", "off"]
"""What a caller says of a step: as the page needs it, always, never."""


def _offer_models(schema: dict[str, Any]) -> None:
    """The run form shows the known networks as a list, and takes a path all the same."""
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
    """Softer edges when a figure is cut out; the thresholds of closed-form matting, as rembg takes them.

    Opacity ends at 255: a foreground threshold above it means that no pixel surely is the figure.
    """

    foreground: int = Field(240, ge=0, le=270, description="Opacity from which a pixel surely is the figure.")
    background: int = Field(10, ge=0, le=270, description="Opacity up to which it surely is not.")
    erode: int = Field(10, ge=0, le=100, description="Pixels of the border in which the edge is sought.")


class EnhanceOptions(Frozen):
    """What a request asks for. What it leaves open, the settings decide."""

    preset: str = Field(
        "comic-page",
        description="Which variants to cut from the master.",
        json_schema_extra={"enum": list(PRESETS)},
    )
    scale: float | None = Field(
        None, ge=1, le=4, description="How many times larger the master shall be; empty: UPSCALE_SCALE."
    )
    model: str = Field(
        "auto",
        description="A known network, 'lanczos', 'auto', or (operators only) the path of a weight file.",
        json_schema_extra=_offer_models,
    )
    fix_artifacts: Switch = Field("auto", description="Take back what JPEG did: as needed, always, never.")
    descreen: Switch = Field(
        "off", description="Turn printed dots into tone; it takes screentone too, which is art."
    )
    denoise: float | None = Field(
        None,
        ge=0,
        le=1,
        description="Remove noise or grain, from weakly (0) to strongly (1); empty: not at all.",
    )
    face: bool = Field(False, description="Restore photographic faces; drawn ones are left alone.")
    colour: float | None = Field(
        None,
        ge=0,
        le=1,
        description="White paper, black ink, more contrast and colour, up to fully (1); empty: no.",
    )
    remove_background: bool = Field(False, description="Cut the figure out.")
    matting: Matting | None = Field(None, description="Softer edges for the figure; empty: none.")
    inpaint: tuple[Region, ...] = Field(
        (), max_length=MAX_REGIONS, description="Rectangles of the source to draw anew."
    )
    inpaint_scratches: bool = Field(False, description="Find light specks and scratches, and draw them anew.")
    accept_damaged: bool = Field(
        False,
        description="Enhance a page whose file is damaged inside; else it is kept as it is, with the reason.",
    )
    quality_threshold: float | None = Field(
        None,
        ge=0,
        le=1,
        description="Resolution score from which a page is good as it is; empty: QUALITY_THRESHOLD.",
    )
    technical_threshold: float | None = Field(
        None,
        ge=0,
        le=1,
        description="Technical score from which a page is good as it is; empty: the setting.",
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
