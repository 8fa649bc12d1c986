"""Variants as data: what a specification allows, and that requests without them have the records of earlier releases."""

from typing import Any

import pytest
from pydantic import ValidationError

from panelworks.domain.formats import PRESETS, VariantSpec
from panelworks.domain.options import EnhanceOptions
from panelworks.domain.result import DeliveredVariant
from panelworks.domain.treatment import Treatment
from panelworks.domain.watermark import Watermark
from panelworks.settings import Settings


def test_presets_and_requests_are_written_as_before(settings: Settings) -> None:
    """Their content keys contain these records."""
    for specs in PRESETS.values():
        for spec in specs:
            assert set(spec.model_dump()) == {"name", "width", "height", "format", "quality"}
            assert spec.is_plain
    resolved = EnhanceOptions().resolve(settings)
    assert not {"variants", "watermark"} & set(resolved.model_dump())
    assert not {"variants", "watermark"} & set(EnhanceOptions(preset="sora").given)


def test_a_record_of_an_earlier_release_is_read() -> None:
    fields = {"name": "a", "uri": "u", "width": 1, "height": 1, "format": "jpeg", "bytes": 1}
    variant = DeliveredVariant.model_validate(fields)
    assert variant.quality is None
    assert variant.model_dump() == fields


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"fit": "crop", "width": 10}, "needs a width and a height"),
        ({"fit": "fill", "height": 10}, "needs a width and a height"),
        ({"fit": "fill", "width": 65_535, "height": 65_535}, "allows 100 megapixels"),
        ({"width": 0}, "greater than or equal to 1"),
        ({"width": 65_536}, "less than or equal to 65535"),
        ({"name": "../evil"}, "pattern"),
        ({"name": ""}, "pattern"),
        ({"name": "Ä"}, "pattern"),
        ({"quality": 0}, "greater than or equal to 1"),
        ({"quality": "best"}, "auto"),
        ({"format": "png", "bytes_at_most": 1000}, "PNG has no quality"),
        ({"format": "png", "quality": "auto"}, "PNG has no quality"),
        ({"bytes_at_most": 5}, "greater than or equal to 100"),
        ({"bytes_at_most": 1000, "quality": 10}, "below min_quality"),
        ({"focus": "0.5,2"}, "less than or equal to 1"),
        ({"focus": "0.5"}, "smart"),
        ({"focus": "nan,0"}, "less_than_equal"),
        ({"background": "red"}, "pattern"),
        ({"watermark": {}}, "an image or a text"),
        ({"watermark": {"text": "a", "image": "b"}}, "an image or a text"),
        ({"watermark": {"text": "a\nb"}}, "one line"),
        ({"watermark": {"text": "a", "size": 2}}, "less than or equal to 1"),
        ({"watermark": {"text": "a", "opacity": 0}}, "greater than 0"),
        ({"unknown": 1}, "not permitted"),
    ],
)
def test_what_cannot_be_made_is_refused(fields: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValidationError) as caught:
        VariantSpec.model_validate({"name": "thumb", **fields})
    assert reason in str(caught.value)


def test_two_variants_of_one_name_are_refused() -> None:
    twice = VariantSpec(name="thumb")
    with pytest.raises(ValidationError, match="two variants with the name 'thumb'"):
        EnhanceOptions(variants=(twice, twice))


def test_a_request_states_its_variants(settings: Settings) -> None:
    own = VariantSpec(name="own", width=320, watermark=Watermark(text="own"))
    options = EnhanceOptions(
        variants=(own, VariantSpec(name="other")), watermark=Watermark(text="all"), format="avif"
    )
    specs = options.resolve(settings).variant_specs
    assert [spec.name for spec in specs] == ["own", "other"]
    assert [spec.watermark.text if spec.watermark else None for spec in specs] == ["own", "all"]
    assert {spec.format for spec in specs} == {"avif"}
    assert EnhanceOptions.model_validate(options.model_dump(mode="json")) == options
    assert "own and other" in options.describe()


@pytest.mark.parametrize(
    ("request_fields", "names"),
    [({}, ["rule"]), ({"preset": "sora"}, ["normal", "high"]), ({"variants": ({"name": "mine"},)}, ["mine"])],
)
def test_what_a_request_states_precedes_a_rule(
    request_fields: dict[str, Any], names: list[str], settings: Settings
) -> None:
    rule = Treatment(variants=(VariantSpec(name="rule"),))
    options = EnhanceOptions.model_validate(request_fields).with_defaults_from(rule)
    assert [spec.name for spec in options.resolve(settings).variant_specs] == names


@pytest.mark.parametrize(
    ("fit", "scale", "box"),
    [("inside", 0.5, (100, 100)), ("fill", 0.5, (100, 100)), ("crop", 1.0, (100, 200))],
)
def test_scale_and_box_follow_from_the_fit(fit: Any, scale: float, box: tuple[int, int]) -> None:
    spec = VariantSpec(name="a", width=100, height=100, fit=fit)
    assert spec.scale_of((100, 200)) == scale
    assert spec.box_of((100, 200)) == box
