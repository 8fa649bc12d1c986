"""Treatments, and the rules that choose one by what a page shows, its size and where it comes from.

The first rule that matches applies.
"""

from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from typing import Annotated, Any, Final, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, PlainSerializer, model_validator

from panelworks.domain.cards import CARDS
from panelworks.domain.fields import Frozen
from panelworks.domain.formats import MAX_VARIANTS, PRESETS, PictureFormat, VariantSpec
from panelworks.domain.quality import PageType, QualityReport
from panelworks.domain.watermark import Watermark
from panelworks.settings import Scale


def _read_switch(value: Any) -> Any:
    """YAML 1.1 reads the words on and off as Booleans."""
    return {True: "on", False: "off"}[value] if isinstance(value, bool) else value


Switch = Annotated[Literal["auto", "on", "off"], BeforeValidator(_read_switch)]
"""Whether a step runs: if the page needs it, always, never."""
ArtifactSwitch = Annotated[Literal["auto", "on", "off", "regions"], BeforeValidator(_read_switch)]
"""As `Switch`; `regions`: only the parts of the page that need it."""


def _offer_models(schema: dict[str, Any]) -> None:
    """The run form shows the known networks as a list; it also accepts a path."""
    schema.pop("type", None)
    known = ["auto", "lanczos", *(name for name, card in CARDS.items() if "upscale" in card.actions)]
    schema["anyOf"] = [
        {"title": "known network", "type": "string", "enum": known},
        {"title": "weight file", "type": "string"},
    ]


def _offer_presets(schema: dict[str, Any]) -> None:
    """The run form shows the presets as a list; it also accepts one of PANELWORKS_PRESETS."""
    schema.pop("type", None)
    schema["anyOf"] = [
        {"title": "preset", "type": "string", "enum": list(PRESETS)},
        {"title": "own preset", "type": "string"},
    ]


def _check_variants(variants: tuple[VariantSpec, ...]) -> tuple[VariantSpec, ...]:
    """Refuse two variants with one name."""
    names = [spec.name for spec in variants]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"there are two variants with the name '{name}'")
    return variants


VariantList = Annotated[
    tuple[VariantSpec, ...], Field(max_length=MAX_VARIANTS), AfterValidator(_check_variants)
]
"""Variants with different names."""
MAX_SIDE_PIXELS: Final = 65_535


class Treatment(Frozen):
    """What is done to a page and its variants. A request states it, or a rule for the pages that it applies to."""

    preset: str = Field(
        "comic-page",
        description="Set of variants to make from the master.",
        max_length=100,
        json_schema_extra=_offer_presets,
    )
    scale: Scale | None = Field(
        None,
        description="Enlargement factor of the master, from 1 to 4, or 'auto': what the largest variant needs; empty:"
        " UPSCALE_SCALE.",
    )
    model: str = Field(
        "auto",
        description="A known network, 'lanczos', 'auto', or (operators only) the path of a weight file.",
        json_schema_extra=_offer_models,
    )
    fix_artifacts: ArtifactSwitch = Field(
        "auto",
        description="Remove JPEG artifacts: if needed, always, never; or, with banding and noise, only in the regions that have"
        " them.",
    )
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
    levels: float | None = Field(
        None,
        ge=0,
        le=1,
        description="Whiten yellowed or faded paper and blacken its ink before the enlargement, from 0 to 1; empty: off."
        " Paintings and photographs are not changed.",
    )
    gray: Switch = Field(
        "off", description="Remove colour: from gray pages whose only colour is noise (auto), always, never."
    )
    longest_side: int | None = Field(
        None,
        ge=16,
        le=MAX_SIDE_PIXELS,
        description="Pixels of the longest side of the master, in place of the scale, which is then from 1 to 4.",
    )
    format: PictureFormat | None = Field(
        None, description="Format of the variants; empty: that of the preset."
    )
    variants: VariantList = Field(
        (),
        description="Variants in place of those of the preset, such as name=thumb,width=320,height=320,fit=crop,format=avif.",
        exclude_if=lambda given: not given,  # content keys of earlier releases stay the same
    )
    watermark: Watermark | None = Field(
        None,
        description="Picture or text on every variant that has no watermark of its own, such as text=Example,opacity=0.4.",
        exclude_if=lambda given: given is None,
    )

    @model_validator(mode="after")
    def _has_one_size(self) -> Self:
        if self.scale is not None and self.longest_side is not None:
            raise ValueError("scale and longest_side both state the size of the master; give one of them")
        return self

    @property
    def given(self) -> dict[str, Any]:
        """The fields of a treatment that have another value than the default, as JSON values."""
        return self.model_dump(mode="json", exclude_defaults=True, include=set(Treatment.model_fields))

    def describe(self) -> str:
        """The given fields as text, such as `scale 2, model lanczos`."""
        return ", ".join(
            f"{name.replace('_', ' ')} {_describe_value(value)}" for name, value in self.given.items()
        )


def _describe_value(value: Any) -> str:
    """A value of a treatment as text: lists by the names of what they contain."""
    if isinstance(value, list):
        return " and ".join(str(one.get("name", one)) for one in value)
    if isinstance(value, dict):
        return " ".join(str(part)[:40] for part in value.values())
    return f"{value:g}" if isinstance(value, float) else str(value)


def _given_fields(treatment: Treatment) -> dict[str, Any]:
    return treatment.given


GivenTreatment = Annotated[Treatment, PlainSerializer(_given_fields)]
"""A treatment in a record: only what it states is written, so that records do not change with the defaults."""

MAX_RULES: Final = 100
Pixels = Annotated[int, Field(ge=1)]
JpegQuality = Annotated[int, Field(ge=0, le=100)]


class PageFacts(Frozen):
    """What conditions ask about a page before it is assessed."""

    width: int
    """Pixels of the source."""
    height: int
    path: str
    """Path or address of the source; for a page of a book, that of the book, a slash and the name in the book."""
    series: str | None = None
    """The comic's identity in its generator, or the name of the book without extension."""


class Conditions(Frozen):
    """Conditions of a rule. A page matches if it meets all that are given."""

    content: tuple[PageType, ...] = Field((), description="Types of pages, one of which it must be.")
    min_width: Pixels | None = Field(None, description="Minimum width of the source in pixels.")
    max_width: Pixels | None = Field(None, description="Maximum width of the source in pixels.")
    min_height: Pixels | None = Field(None, description="Minimum height of the source in pixels.")
    max_height: Pixels | None = Field(None, description="Maximum height of the source in pixels.")
    min_aspect: float | None = Field(None, gt=0, description="Minimum width divided by height.")
    max_aspect: float | None = Field(None, gt=0, description="Maximum width divided by height.")
    min_jpeg_quality: JpegQuality | None = Field(
        None, description="Minimum JPEG quality found in the pixels; pages without JPEG compression have any."
    )
    max_jpeg_quality: JpegQuality | None = Field(
        None,
        description="Maximum JPEG quality found in the pixels; pages without JPEG compression have none.",
    )
    series: str | None = Field(
        None, description="Pattern for the comic's id or the book's name, such as 'akira-*'."
    )
    path: str | None = Field(
        None, description="Pattern for the path or address, such as '*/1970s/*'; * also matches slashes."
    )

    @model_validator(mode="before")
    @classmethod
    def _one_type_is_a_list(cls, given: Any) -> Any:
        if isinstance(given, dict) and isinstance(given.get("content"), str):
            return {**given, "content": [given["content"]]}
        return given

    @property
    def need_assessment(self) -> bool:
        """Whether they ask for what is known only after the page has been assessed."""
        return bool(self.content or self.min_jpeg_quality is not None or self.max_jpeg_quality is not None)

    def contradiction(self, facts: PageFacts) -> str | None:
        """The first condition on size and origin that the page does not meet, as text; None if it meets all."""
        aspect = facts.width / facts.height
        for value, low, high, noun in (
            (facts.width, self.min_width, self.max_width, "width"),
            (facts.height, self.min_height, self.max_height, "height"),
            (round(aspect, 3), self.min_aspect, self.max_aspect, "aspect ratio"),
        ):
            if low is not None and value < low:
                return f"the {noun} {value} is below {low}"
            if high is not None and value > high:
                return f"the {noun} {value} is above {high}"
        for name, pattern in ((facts.series, self.series), (facts.path, self.path)):
            if pattern is not None and (name is None or not fnmatchcase(name.lower(), pattern.lower())):
                return f"{'no series' if name is None else repr(name)} does not match '{pattern}'"
        return None

    def contradiction_in(self, report: QualityReport) -> str | None:
        """The first condition on what the page shows that it does not meet, as text; None if it meets all."""
        kind = report.content.type if report.content is not None else None
        if self.content and kind not in self.content:
            return f"the page is {kind or 'of no known type'}, not {' or '.join(self.content)}"
        quality = report.jpeg_quality
        if self.max_jpeg_quality is not None and (quality is None or quality > self.max_jpeg_quality):
            found = "there is no JPEG compression" if quality is None else f"the JPEG quality is {quality}"
            return f"{found}, not at most {self.max_jpeg_quality}"
        if self.min_jpeg_quality is not None and quality is not None and quality < self.min_jpeg_quality:
            return f"the JPEG quality {quality} is below {self.min_jpeg_quality}"
        return None

    def describe(self) -> str:
        """The conditions as text, such as `content line_art or screentone, max_width 1600`; `every page` if there are none."""
        given = self.model_dump(exclude_defaults=True)
        parts = [
            f"{name} {' or '.join(value) if isinstance(value, tuple | list) else value}"
            for name, value in given.items()
        ]
        return ", ".join(parts) or "every page"


class Rule(Frozen):
    """Pages, and what is done to them."""

    name: str = Field(min_length=1, max_length=100)
    when: Conditions = Conditions()
    then: Treatment = Treatment()


def check_that_each_can_match(rules: tuple[Rule, ...]) -> tuple[Rule, ...]:
    """Refuse two rules with one name, and rules after one that matches every page.

    Raises:
        ValueError: with the reason.
    """
    for index, rule in enumerate(rules):
        if any(other.name == rule.name for other in rules[:index]):
            raise ValueError(f"there are two rules with the name '{rule.name}'")
        if rule.when == Conditions() and index + 1 < len(rules):
            raise ValueError(
                f"'{rule.name}' has no condition and matches every page, so that no later rule applies"
            )
    return rules


RuleList = Annotated[tuple[Rule, ...], Field(max_length=MAX_RULES), AfterValidator(check_that_each_can_match)]
"""Rules in the order in which they are tried."""


class RuleFile(Frozen):
    """The content of a file of rules."""

    rules: RuleList


def candidates(rules: Sequence[Rule], facts: PageFacts) -> Iterator[Rule]:
    """The rules that may apply to a page, as far as is known before it is assessed; the first that matches applies."""
    for rule in rules:
        if rule.when.contradiction(facts) is None:
            yield rule
            if not rule.when.need_assessment:
                return
