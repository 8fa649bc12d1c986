from typing import Literal

import pytest
from pydantic import ValidationError

from panelworks.domain.options import EnhanceOptions
from panelworks.domain.quality import Content, Kind, QualityReport
from panelworks.domain.treatment import Conditions, PageFacts, Rule, RuleFile, Treatment, candidates
from panelworks.settings import Settings


def facts(
    width: int = 800, height: int = 1200, path: str = "/archive/1970s/akira-01.cbz/003.jpg"
) -> PageFacts:
    return PageFacts(width=width, height=height, path=path, series="Akira-01")


def report(kind: Kind = "colour", dots: float = 0.0, jpeg_quality: int | None = None) -> QualityReport:
    content = Content(kind=kind, colour=0.5, dots=dots, flat=0.5)
    return QualityReport(
        resolution=0.2, technical=0.9, components={}, overall=0.5, content=content, jpeg_quality=jpeg_quality
    )


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({}, None),
        ({"min_width": 800, "max_width": 800, "min_height": 1200, "max_height": 1200}, None),
        ({"max_width": 799}, "the width 800 is above 799"),
        ({"min_height": 1201}, "the height 1200 is below 1201"),
        ({"max_aspect": 0.5}, "the aspect ratio 0.667 is above 0.5"),
        ({"min_aspect": 0.66}, None),
        ({"series": "akira-*"}, None),
        ({"series": "domu*"}, "'Akira-01' does not match 'domu*'"),
        ({"path": "*/1970S/*"}, None),
        ({"path": "*/1980s/*"}, "'/archive/1970s/akira-01.cbz/003.jpg' does not match '*/1980s/*'"),
        ({"content": "gray", "max_jpeg_quality": 40}, None),
    ],
)  # fmt: skip
def test_size_and_origin_are_known_before_the_page_is_assessed(
    given: dict[str, object], reason: str | None
) -> None:
    assert Conditions.model_validate(given).contradiction(facts()) == reason


def test_a_page_without_a_series_matches_no_pattern_of_one() -> None:
    single = PageFacts(width=1, height=1, path="page.png")
    assert Conditions(series="*").contradiction(single) == "no series does not match '*'"


@pytest.mark.parametrize(
    ("given", "found", "reason"),
    [
        ({"content": ["gray", "line_art"]}, report("line_art"), None),
        ({"content": ["gray", "line_art"]}, report("colour"), "the page is colour, not gray or line_art"),
        ({"content": "halftone"}, report("colour", dots=0.4), None),
        ({"content": "halftone"}, report("screentone", dots=0.4), "the page is screentone, not halftone"),
        ({"max_jpeg_quality": 60}, report(jpeg_quality=60), None),
        ({"max_jpeg_quality": 60}, report(jpeg_quality=65), "the JPEG quality is 65, not at most 60"),
        ({"max_jpeg_quality": 60}, report(), "there is no JPEG compression, not at most 60"),
        ({"min_jpeg_quality": 60}, report(), None),
        ({"min_jpeg_quality": 60}, report(jpeg_quality=55), "the JPEG quality 55 is below 60"),
    ],
)
def test_what_a_page_shows_is_known_after_it_is_assessed(
    given: dict[str, object], found: QualityReport, reason: str | None
) -> None:
    assert Conditions.model_validate(given).contradiction_in(found) == reason


def test_rules_that_may_apply_end_with_the_first_that_certainly_does() -> None:
    rules = [
        Rule(name="wide", when=Conditions(min_width=900)),
        Rule(name="gray", when=Conditions(content=("gray",))),
        Rule(name="small", when=Conditions(max_width=900)),
        Rule(name="all"),
    ]
    assert [rule.name for rule in candidates(rules, facts())] == ["gray", "small"]


@pytest.mark.parametrize(
    ("rules", "reason"),
    [
        ([{"name": "a"}, {"name": "b"}], "'a' has no condition"),
        ([{"name": "a", "when": {"max_width": 1}}, {"name": "a"}], "two rules with the name 'a'"),
        ([{"name": "a", "then": {"sclae": 2}}], "Extra inputs"),
        ([{"name": "a", "when": {"content": "manga"}}], "Input should be"),
    ],
)
def test_rules_that_cannot_mean_what_they_say_are_refused(rules: list[object], reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        RuleFile.model_validate({"rules": rules})
    with pytest.raises(ValidationError, match=reason):
        EnhanceOptions.model_validate({"rules": rules})


@pytest.mark.parametrize(
    ("request_options", "rule", "expected"),
    [
        ({}, {"scale": 3, "levels": 0.5}, {"scale": 3.0, "levels": 0.5}),
        ({"scale": 2}, {"scale": 3, "levels": 0.5}, {"scale": 2.0, "levels": 0.5}),
        ({"scale": 2}, {"longest_side": 4000}, {"scale": 2.0, "longest_side": None}),
        ({"longest_side": 4000}, {"scale": 3}, {"scale": None, "longest_side": 4000}),
    ],
)
def test_a_request_has_precedence_over_a_rule(
    request_options: dict[str, object], rule: dict[str, object], expected: dict[str, object]
) -> None:
    merged = EnhanceOptions.model_validate(request_options).with_defaults_from(
        Rule.model_validate({"name": "a", "then": rule}).then
    )
    assert {name: getattr(merged, name) for name in expected} == expected


@pytest.mark.parametrize(("side", "scale"), [(1600, 2.0), (400, 1.0), (8000, 4.0), (1000, 1.25)])
def test_the_scale_follows_from_the_longest_side(side: int, scale: float, settings: Settings) -> None:
    assert EnhanceOptions(longest_side=side).resolve(settings, (500, 800)).scale == scale


@pytest.mark.parametrize(
    ("preset", "size", "scale"),
    [
        ("comic-page", (1440, 2000), 2.0),
        ("comic-page", (620, 880), 4.0),
        ("comic-page", (2880, 4000), 1.0),
        ("comic-page", (5000, 400), 1.0),
        ("dall-e", (1024, 1024), 2.0),
        ("dall-e", (512, 1024), 2.0),
        ("sora", (1280, 720), 1.5),
        ("comic-page", (800, 100_000), 2.2361),  # more would exceed PANELWORKS_MAX_OUTPUT_PIXELS
    ],
)
@pytest.mark.parametrize("stated", [None, "auto"])
def test_the_scale_is_what_the_largest_variant_needs(
    preset: str, size: tuple[int, int], scale: float, stated: Literal["auto"] | None, settings: Settings
) -> None:
    automatic = settings.model_copy(update={"upscale_scale": "auto" if stated is None else 2.0})
    assert EnhanceOptions(preset=preset, scale=stated).resolve(automatic, size).scale == scale


@pytest.mark.parametrize("scale", [0.5, 4.1, "big", float("nan"), [2], {}])
def test_a_scale_that_cannot_be_used_is_refused(scale: object) -> None:
    with pytest.raises(ValidationError, match="'auto' or a number from 1 to 4"):
        EnhanceOptions.model_validate({"scale": scale})


@pytest.mark.parametrize("model", [EnhanceOptions, Treatment])
def test_scale_and_longest_side_are_refused_together(model: type[Treatment]) -> None:
    with pytest.raises(ValidationError, match="give one of them"):
        model.model_validate({"scale": "auto", "longest_side": 3000})


def test_the_format_of_the_variants_can_be_chosen(settings: Settings) -> None:
    variants = EnhanceOptions(format="avif").resolve(settings).variant_specs
    assert {spec.format for spec in variants} == {"avif"} and len(variants) == 2
