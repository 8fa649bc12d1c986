"""Variants and watermarks on the command line, and own presets."""

import json
from pathlib import Path
from typing import Any

import pytest

from panelworks.cli.models import presets
from panelworks.cli.variants import parse_variant, parse_watermark
from panelworks.domain.formats import VariantSpec
from panelworks.domain.options import EnhanceOptions
from panelworks.domain.watermark import Watermark
from panelworks.errors import Misconfigured, UnknownName
from panelworks.page.presets import presets_of, with_preset
from panelworks.settings import Settings


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "name=thumb,width=320,height=320,fit=crop,focus=smart,format=avif,bytes_at_most=20000",
            {"width": 320, "height": 320, "fit": "crop", "format": "avif", "bytes_at_most": 20000},
        ),
        ("name=thumb,quality=auto,progressive=true,format=jpeg",
         {"quality": "auto", "progressive": True, "format": "jpeg"}),
        ("name=thumb,width=9,height=9,fit=crop,focus=0.5,0.25,quality=80",
         {"width": 9, "height": 9, "fit": "crop", "focus": (0.5, 0.25), "quality": 80}),
        ("name=thumb,bytes-at-most=500", {"bytes_at_most": 500}),
        ('name=thumb,"watermark.text=a, b",watermark.tiled=true',
         {"watermark": {"text": "a, b", "tiled": True}}),
        ("name=thumb,watermark=logo.png", {"watermark": {"image": "logo.png"}}),
    ],
)  # fmt: skip
def test_variants_are_parsed(text: str, expected: dict[str, Any]) -> None:
    assert parse_variant(text) == VariantSpec.model_validate({"name": "thumb", **expected})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("logo.png", {"image": "logo.png"}),
        ("logo.png,opacity=0.3,position=top", {"image": "logo.png", "opacity": 0.3, "position": "top"}),
        ("text=Example,tiled=true", {"text": "Example", "tiled": True}),
        ("data:image/png;base64,AA==", {"image": "data:image/png;base64,AA=="}),
        ("https://example.com/a.png?b=c", {"image": "https://example.com/a.png?b=c"}),
    ],
)
def test_watermarks_are_parsed(text: str, expected: dict[str, Any]) -> None:
    assert parse_watermark(text) == Watermark.model_validate(expected)


@pytest.mark.parametrize(
    ("parse", "text", "message"),
    [
        (parse_variant, "thumb", "'thumb' is not of the form NAME=VALUE"),
        (parse_variant, "", "name: Field required"),
        (parse_variant, "name=a,name=b", "name is given twice"),
        (parse_variant, "name=a,width=x", "width: Input should be a valid integer"),
        (parse_variant, "name=a,colour=x", "colour: Extra inputs are not permitted"),
        (parse_variant, "name=a,fit=crop", "fit=crop needs a width and a height"),
        (parse_watermark, "opacity=0.5", "a watermark has an image or a text"),
        (parse_watermark, "a.png,b.png", "'b.png' is not of the form NAME=VALUE"),
    ],
)
def test_wrong_values_are_explained(parse: Any, text: str, message: str) -> None:
    with pytest.raises(Misconfigured) as caught:
        parse(text)
    assert message in caught.value.message


def write_presets(folder: Path, content: Any, settings: Settings) -> Settings:
    path = folder / "presets.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return settings.model_copy(update={"presets": path})


def test_own_presets_are_listed_and_used(
    tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    own = {"web": [{"name": "thumb", "width": 320, "height": 320, "fit": "crop", "format": "avif"}]}
    settings = write_presets(tmp_path, own, settings)
    monkeypatch.setattr("panelworks.cli.models.get_settings", lambda: settings)
    presets()
    assert "web                thumb 320x320 crop avif q85" in capsys.readouterr().out
    presets(json=True)
    assert '"fit":"crop"' in capsys.readouterr().out.replace(" ", "")
    options = with_preset(EnhanceOptions(preset="web"), settings)
    assert [spec.name for spec in options.variants] == ["thumb"]
    assert with_preset(EnhanceOptions(), settings) == EnhanceOptions()
    with pytest.raises(UnknownName, match=r"known are comic-page, .*, web"):
        with_preset(EnhanceOptions(preset="wep"), settings)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("{", "is not JSON"),
        ([], "valid dictionary"),
        ({"web": []}, "has no name or no variants"),
        ({"web": [{"name": "a", "width": -1}]}, "web.0.width"),
        ({"web": [{"name": "a"}, {"name": "a"}]}, "two variants with the name 'a'"),
    ],
)
def test_a_wrong_file_of_presets_is_explained(
    content: Any, reason: str, tmp_path: Path, settings: Settings
) -> None:
    with pytest.raises(Misconfigured) as caught:
        presets_of(write_presets(tmp_path, content, settings))
    assert caught.value.code == "bad_presets"
    assert reason in caught.value.message


def test_a_missing_file_of_presets_is_explained(tmp_path: Path, settings: Settings) -> None:
    with pytest.raises(Misconfigured, match="cannot be read"):
        presets_of(settings.model_copy(update={"presets": tmp_path / "none.json"}))
