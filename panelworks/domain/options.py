"""Options of a request: how to enhance a page."""

from typing import Annotated, Final, Literal

from pydantic import Field

from panelworks.domain.fields import Frozen
from panelworks.domain.formats import VariantSpec, preset_named
from panelworks.domain.regions import Region as Region
from panelworks.domain.treatment import RuleList, Treatment
from panelworks.settings import MAX_SCALE, FallbackMethod, LearnedMetricName, ReviewPolicy, Settings

MAX_REGIONS: Final = 256
Detection = Literal["off", "report", "inpaint"]
"""What is done about artifacts of parts of a page: nothing; report them; also inpaint what detectors found."""


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


Level = Annotated[float, Field(ge=0, le=255)]


class TonePoints(Frozen):
    """Levels of paper and of ink, in each channel: one for gray, three for colour."""

    white: tuple[Level, ...] = Field(min_length=1, max_length=3)
    black: tuple[Level, ...] = Field(min_length=1, max_length=3)


class EnhanceOptions(Treatment):
    """Options of a request. Rules, then the settings supply the values that are empty."""

    rules: RuleList | None = Field(
        None, description="Treatments by type, size and origin of the page; empty: PANELWORKS_RULES."
    )
    ignore_series_rule: bool = Field(
        False,
        description="Do not use what a person chose for the series of the page.",
        exclude_if=lambda given: not given,  # earlier releases read records and know no such field
    )
    matting: Matting | None = Field(None, description="Softer edges of the figure; empty: off.")
    inpaint: tuple[Region, ...] = Field(
        (), max_length=MAX_REGIONS, description="Rectangles of the source to inpaint."
    )
    tone_points: TonePoints | None = Field(
        None,
        description="Paper and ink for levels; empty: measured on the page, or over the pages of its book.",
    )
    inpaint_scratches: bool = Field(False, description="Find light specks and scratches and inpaint them.")
    detect: Detection = Field(
        "off",
        description="Find artifacts in parts of the page by measures and by the installed detectors: off; report them; also"
        " inpaint what detectors found.",
        exclude_if=lambda given: given == "off",  # the content keys of requests without it stay
    )
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
    review: ReviewPolicy | None = Field(
        None,
        description="Whether a person approves the page before it is published: never, always, or if it is doubtful: original"
        " kept, fallback used, or score below PANELWORKS_TARGET_SCORE. A book waits as a whole; empty: PANELWORKS_REVIEW.",
    )

    @property
    def treatment(self) -> Treatment:
        """What the request states of the treatment."""
        return Treatment.model_validate(self.given)

    @property
    def wanted_variants(self) -> tuple[VariantSpec, ...]:
        """The variants that the request states, or those of its preset.

        Raises:
            UnknownName: `unknown_preset`.
        """
        return self.variants or preset_named(self.preset)

    def with_defaults_from(self, base: Treatment) -> "EnhanceOptions":
        """These options; those that have their default value come from `base`: a profile, or the treatment of a rule."""
        defaults, given = (one.model_dump(exclude_defaults=True) for one in (base, self))
        if "scale" in given or "longest_side" in given:  # both state the size of the master
            defaults.pop("scale", None)
            defaults.pop("longest_side", None)
        if "preset" in given:  # both state the variants
            defaults.pop("variants", None)
        return EnhanceOptions.model_validate(defaults | given)

    def resolve(self, settings: Settings, size: tuple[int, int] | None = None) -> "ResolvedOptions":
        """These options, with values from the settings where they have none, and without rules: they have been applied.

        Args:
            settings: The settings.
            size: Width and height of the page, from which the scale follows if it is 'auto' or `longest_side` is given.
        """
        given = self.model_dump(exclude={"rules", "ignore_series_rule", "longest_side", "review"})
        given["scale"] = self._resolve_scale(settings, size)
        for name, default in (
            ("quality_threshold", settings.quality_threshold),
            ("technical_threshold", settings.technical_threshold),
        ):
            if given[name] is None:
                given[name] = default
        given |= {"target_score": settings.target_score, "fallbacks": settings.fallbacks}
        given |= {"metrics": settings.metrics}
        return ResolvedOptions.model_validate(given)

    def _resolve_scale(self, settings: Settings, size: tuple[int, int] | None) -> float:
        """The scale of a page of `size`; 1 where it follows from an unknown size."""
        scale = settings.upscale_scale if self.scale is None else self.scale
        if self.longest_side is None and scale != "auto":
            return scale
        if size is None:
            return 1.0
        if self.longest_side is not None:
            return limit_scale(self.longest_side / max(size))
        wanted = max(spec.scale_of(size) for spec in self.wanted_variants)
        allowed = (settings.max_output_pixels / (size[0] * size[1])) ** 0.5
        return limit_scale(min(wanted, allowed))


def limit_scale(scale: float) -> float:
    """A scale within the limits, rounded as it enters the content key."""
    return round(min(max(scale, 1.0), MAX_SCALE), 4)


class ResolvedOptions(EnhanceOptions):
    """Options with all values that settings decide. Every field with a value is part of the content key."""

    rules: None = None
    review: None = None
    scale: float
    quality_threshold: float
    technical_threshold: float
    target_score: float
    fallbacks: tuple[FallbackMethod, ...]
    metrics: tuple[LearnedMetricName, ...]
    detectors: tuple[str, ...] = Field((), exclude_if=lambda given: not given)
    """Names and versions of the detectors that look at the page."""

    @property
    def finds_regions(self) -> bool:
        """Are artifacts located?"""
        return self.detect != "off" or self.fix_artifacts == "regions"

    @property
    def variant_specs(self) -> tuple[VariantSpec, ...]:
        """The variants that are stated or those of the preset, in the format and with the watermark that are asked for.

        Raises:
            UnknownName: `unknown_preset`.
        """
        specs = self.wanted_variants
        if self.format is not None:
            specs = tuple(spec.model_copy(update={"format": self.format}) for spec in specs)
        if self.watermark is None:
            return specs
        marks = ({"watermark": spec.watermark or self.watermark} for spec in specs)
        return tuple(spec.model_copy(update=mark) for spec, mark in zip(specs, marks, strict=True))
