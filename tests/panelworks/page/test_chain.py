"""A page through all steps and through each step alone, by the engine."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from panelworks import EnhanceOptions, PageResult, enhance_picture
from panelworks import settings as settings_module
from panelworks.page import engine as engine_module
from panelworks.steps import cutout
from panelworks.steps import face as face_provider
from tests.networks import stand_in
from tests.pages import write_page
from tests.panelworks.steps.test_cutout import small_network
from tests.panelworks.steps.test_faces import use_face_weights

EVERY: dict[str, Any] = {
    "fix_artifacts": "on",
    "descreen": "on",
    "denoise": 0.8,
    "face": True,
    "colour": 0.6,
    "remove_background": True,
    "inpaint": [{"left": 10, "top": 12, "width": 20, "height": 8}],
}


@pytest.fixture
def weights(assets: Path, face_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every model that the chain takes is on this machine."""
    folder = assets / "weights"
    for model in ("realesr-general-x4v3", "realesr-general-wdn-x4v3"):
        stand_in(monkeypatch, model, folder / f"{model}.from-ncnn-fp16.pth")
    stand_in(monkeypatch, "isnet-anime", small_network(tmp_path / "isnet-anime.onnx", 1024))
    use_face_weights(face_weights, folder, monkeypatch)
    monkeypatch.setenv("MODEL_PATH", f"{folder}:{face_weights}:{tmp_path}")
    for cached in (
        cutout._open_session,
        face_provider._load_networks,
        settings_module.get_settings,
        engine_module.get_engine,
    ):
        cached.cache_clear()


def enhanced(tmp_path: Path, **options: Any) -> PageResult:
    page = write_page(tmp_path / "page.png", 240, 200)
    return enhance_picture(page, tmp_path / "out", options=EnhanceOptions.model_validate(options))


@pytest.mark.usefixtures("weights")
def test_every_step_at_once(tmp_path: Path) -> None:
    result = enhanced(tmp_path, **EVERY)
    assert result.status == "success", result.error
    assert result.master is not None
    assert [step.action for step in result.steps] == [
        "inpaint", "fix_artifacts", "descreen", "denoise", "upscale", "resize", "face", "colour", "rembg",
    ] or result.fallback is not None  # fmt: skip
    assert (result.master.width, result.master.height) == (480, 400)
    assert any("inpainted" in note for note in result.notes)
    assert any("face" in note for note in result.notes)
    with Image.open(result.master.uri.removeprefix("file://")) as master:
        assert master.mode == "RGBA"


@pytest.mark.usefixtures("weights")
@pytest.mark.parametrize("option", EVERY)
def test_each_step_alone(option: str, tmp_path: Path) -> None:
    result = enhanced(tmp_path, **{option: EVERY[option]})
    assert (result.status, result.route) == ("success", "upscaled"), (result.error, result.fallback)
    named = {"remove_background": "rembg"}.get(option, option)
    if result.fallback is None:
        assert named in {step.action for step in result.steps}
    else:
        assert option == "descreen", "only descreening may cost too much of the drawing"


@pytest.mark.usefixtures("weights")
def test_what_is_asked_for_is_done_to_a_good_page_too(tmp_path: Path) -> None:
    result = enhanced(tmp_path, quality_threshold=0, technical_threshold=0, remove_background=True)
    assert result.route == "upscaled"
    assert result.master is not None
    assert (result.master.width, [step.action for step in result.steps]) == (240, ["rembg"])
    plain = enhanced(tmp_path, quality_threshold=0, technical_threshold=0)
    assert plain.route == "good_quality"


def test_tone_moves_the_paper_and_nothing_complains(tmp_path: Path) -> None:
    page = write_page(tmp_path / "yellowed.png", 260, 220)
    with Image.open(page) as image:
        yellowed = (np.asarray(image.convert("RGB")) * np.array([0.9, 0.82, 0.62])).astype(np.uint8)
    Image.fromarray(yellowed).save(page)
    result = enhance_picture(page, tmp_path / "out", options=EnhanceOptions(colour=1.0))
    assert (result.route, result.fallback) == ("upscaled", None)
    assert result.master is not None
    with Image.open(result.master.uri.removeprefix("file://")) as master:
        white = np.percentile(np.asarray(master).reshape(-1, 3), 99, axis=0)
    assert white.min() > 248, "paper is white"
