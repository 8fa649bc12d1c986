"""The packages realesrgan and gfpgan as providers, and the engine compared with realesrgan."""

import threading
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from panelworks.domain.cards import CARDS
from panelworks.errors import ResourceExhausted
from panelworks.models import upstream
from panelworks.pictures import Picture
from panelworks.settings import Settings
from panelworks.steps import Work, inventory, provider_named, step_for, take_inventory, upscale
from panelworks.steps.inventory import Choice
from tests.networks import random_rrdb, stand_in
from tests.pages import drawn


def enlarged(
    page: Picture, model: str, provider: str, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> Picture:
    monkeypatch.setitem(inventory.DEFAULTS, "upscale", Choice(model=model, provider=provider))
    monkeypatch.setattr(
        upscale, "restore_tones", lambda source, result: None
    )  # the networks alone are compared
    upscale._load_upsampler.cache_clear()
    step = step_for("upscale", take_inventory(settings)).model_copy(update={"precision": "fp32", "tile": 96})
    assert step.provider == provider
    return provider_named(step.provider).process(
        page, step, Work(settings, (page.width * 4, page.height * 4))
    )


@pytest.mark.parametrize("look", ["colour", "screentone"])
def test_both_engines_agree_for_the_official_file(
    look: str, assets: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings.model_copy(update={"model_path": (assets / "weights",)})
    page = drawn(150, 110, look)  # type: ignore[arg-type]
    theirs = enlarged(page, "realesr-animevideov3", "upstream", settings, monkeypatch)
    ours = enlarged(page, "realesr-animevideov3", "network", settings, monkeypatch)
    assert theirs.size == ours.size == (600, 440)
    # Where their tiles of 96 pixels meet without a fade, more than one level differs.
    assert np.percentile(np.abs(theirs.pixels.astype(int) - ours.pixels), 99) <= 1


def test_an_esrgan_network(tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(monkeypatch, "realesrgan_x4plus_anime_6b", random_rrdb(tmp_path / "six.pth", blocks=6))
    settings = settings.model_copy(update={"model_path": (tmp_path,)})
    page = drawn(40, 32)
    theirs = enlarged(page, "realesrgan_x4plus_anime_6b", "upstream", settings, monkeypatch)
    ours = enlarged(page, "realesrgan_x4plus_anime_6b", "network", settings, monkeypatch)
    assert np.abs(theirs.pixels.astype(int) - ours.pixels).max() <= 1
    assert CARDS["realesrgan_x4plus_anime_6b"].file == "six.pth"


def test_gfpgan_uses_checked_files(
    face_weights: Path, tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    from facexlib.detection.retinaface import RetinaFace

    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # facexlib calls what torchvision deprecates
        detector = RetinaFace(network_name="resnet50", device="cpu")
    for head in detector.ClassHead:
        torch.nn.init.zeros_(head.conv1x1.weight)
    torch.save(detector.state_dict(), tmp_path / "detection_Resnet50_Final.pth")
    stand_in(monkeypatch, "retinaface-resnet50", tmp_path / "detection_Resnet50_Final.pth")
    stand_in(monkeypatch, "gfpgan-1.4", face_weights / "GFPGANv1.4.pth")
    stand_in(monkeypatch, "parsing-parsenet", face_weights / "parsing_parsenet.pth")
    settings = settings.model_copy(update={"model_path": (face_weights, tmp_path)})
    monkeypatch.setitem(inventory.DEFAULTS, "face", Choice(model="gfpgan-1.4", provider="upstream"))
    page = drawn(120, 100)
    step = step_for("face", take_inventory(settings))
    assert step.provider == "upstream"
    result = provider_named(step.provider).process(page, step, Work(settings, page.size))
    assert np.array_equal(result.pixels, page.pixels), "where it sees no face it changes nothing"


class FailsOnce(torch.nn.Module):
    """A network whose second tile fails."""

    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self.network = network
        self.calls = 0

    def forward(self, tile: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        if self.calls == 2:
            raise RuntimeError("out of memory")
        result: torch.Tensor = self.network(tile)
        return result


def test_a_failed_tile_fails_the_page_without_output(
    assets: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from panelworks.models.upstream import enlarge, real_esrganer

    settings = settings.model_copy(update={"model_path": (assets / "weights",)})
    upsampler = real_esrganer(CARDS["realesr-animevideov3"], settings, 64)
    upsampler.model.network = FailsOnce(upsampler.model.network)
    with pytest.raises(ResourceExhausted):
        enlarge(upsampler, drawn(150, 110).pixels)
    assert capsys.readouterr().out == ""


def test_only_the_output_of_the_own_thread_is_logged(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("DEBUG", upstream.logger.name), upstream._log_output():
        print("Tile 1/2")  # noqa: T201 - as the packages do
        other = threading.Thread(target=lambda: print("a result"))  # noqa: T201
        other.start()
        other.join()
    assert capsys.readouterr().out == "a result\n"
    assert "Tile 1/2" in caplog.text
