"""One line in a file changes the provider of an action."""

from pathlib import Path

import pytest

from panelworks.errors import Misconfigured, UnknownName
from panelworks.settings import Settings
from panelworks.steps import catalogue, inventory, step_for, take_inventory
from panelworks.steps.catalogue import provider_named
from panelworks.steps.inventory import read_choices


@pytest.fixture
def configured(tmp_path: Path, settings: Settings) -> "object":
    def write(text: str) -> Settings:
        inventory._read_choices.cache_clear()
        path = tmp_path / "providers.yaml"
        path.write_text(text)
        return settings.model_copy(update={"providers": path})

    return write


@pytest.mark.parametrize(
    ("line", "provider", "model"),
    [
        ("upscale: realesrgan_x4plus", "network", "realesrgan_x4plus"),
        ("upscale: bicubic", "resample", "bicubic"),
        ("upscale: {provider: upstream, model: realesr-animevideov3}", "upstream", "realesr-animevideov3"),
    ],
)
def test_one_line_changes_a_provider(line: str, provider: str, model: str, configured: object) -> None:
    step = step_for("upscale", take_inventory(configured(line)))  # type: ignore[operator]
    assert (step.provider, step.model) == (provider, model)


def test_other_actions_keep_their_provider(configured: object) -> None:
    chosen = read_choices(configured("colour: {model: levels, config: {strength: 0.3}}"))  # type: ignore[operator]
    assert chosen["rembg"].model == "isnet-anime"
    assert chosen["colour"].config == {"strength": 0.3}


@pytest.mark.parametrize(
    "text", ["upscale: [1, 2]", "upsacle: lanczos", "upscale: {modle: x}", "- a", "a: b: c"]
)
def test_the_error_names_an_invalid_file(text: str, configured: object) -> None:
    with pytest.raises(Misconfigured, match=r"providers\.yaml"):
        read_choices(configured(text))  # type: ignore[operator]


def test_the_error_names_a_missing_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalogue, "find_spec", lambda name: None)
    with pytest.raises(UnknownName, match=r"panelworks\[rembg\]"):
        provider_named("rembg")
    with pytest.raises(UnknownName, match="no provider 'x'"):
        provider_named("x")
