"""Metrics of pyiqa: optional, shown, never counted."""

import io
import os
from pathlib import Path

import numpy as np
import pyiqa
import pytest
import torch
from PIL import Image
from pyiqa.archs.cnniqa_arch import CNNIQA
from scipy.io import savemat
from skimage import data

from panelworks.errors import Misconfigured
from panelworks.pictures import Picture
from panelworks.quality import assess, decide
from panelworks.quality.learned import SCORE_RANGES, LearnedMetric, ScoreRange, learned_scorers
from panelworks.quality.scorers import SCORERS
from panelworks.settings import LearnedMetricName, Settings
from tests.pages import drawn


@pytest.fixture(scope="module")
def page() -> Picture:
    return drawn(320, 400)


@pytest.fixture
def settings(settings: Settings, tmp_path: Path) -> Settings:
    """Settings with a folder of random weights in the official sizes."""
    return settings.model_copy(update={"model_path": (tmp_path,)})


def _random_weights(name: LearnedMetricName, folder: Path) -> None:
    torch.manual_seed(0)
    if name == "niqe":
        savemat(
            folder / "niqe_modelparameters.mat",
            {"mu_prisparam": np.zeros((1, 36)), "cov_prisparam": np.eye(36)},
        )
    elif name == "brisque":
        torch.save((torch.rand(774, 1), torch.rand(774, 36)), folder / "brisque_svm_weights.pth")
    elif name == "cnniqa":
        net = CNNIQA(pretrained=None)
        torch.save({"params": net.state_dict()}, folder / "CNNIQA_koniq10k-e6f14c91.pth")
    elif name == "musiq":
        net = pyiqa.create_metric(name, device=torch.device("cpu"), pretrained=False).net
        torch.save(net.state_dict(), folder / "musiq_koniq_ckpt-e95806b9.pth")
    elif name == "topiq_nr":
        options = {"pretrained": False, "backbone_pretrain": False}
        net = pyiqa.create_metric(name, device=torch.device("cpu"), **options).net
        torch.save({"params": net.state_dict()}, folder / "cfanet_nr_koniq_res50-9a73138b.pth")


@pytest.mark.parametrize("name", ["musiq", "topiq_nr", "cnniqa", "niqe", "brisque", "piqe"])
def test_a_metric_is_shown_and_does_not_change_other_scores(
    name: LearnedMetricName,
    page: Picture,
    settings: Settings,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    _random_weights(name, tmp_path)
    plain = assess(page)
    capsys.readouterr()
    report = assess(page, (*SCORERS, LearnedMetric(name, settings)))
    assert capsys.readouterr().out == ""  # that is where results are printed
    assert 0 <= report.components[name] <= 1
    assert report.technical == plain.technical
    assert report.components == plain.components | {name: report.components[name]}
    assert decide(report, 0, 1).reason == decide(plain, 0, 1).reason


def test_piqe_distinguishes_a_photograph_from_a_compressed_one(settings: Settings) -> None:
    photograph = data.astronaut()  # type: ignore[no-untyped-call]
    buffer = io.BytesIO()
    Image.fromarray(photograph).save(buffer, "JPEG", quality=8)
    compressed = Picture(np.asarray(Image.open(buffer)))
    metric = (LearnedMetric("piqe", settings),)
    assert (
        assess(Picture(photograph), metric).components["piqe"]
        > assess(compressed, metric).components["piqe"] + 0.1
    )


def test_metrics_in_the_settings_are_cached(settings: Settings) -> None:
    chosen = settings.model_copy(update={"metrics": ("piqe", "musiq")})
    assert [list(scorer.weights) for scorer in learned_scorers(chosen)] == [["piqe"], ["musiq"]]
    assert learned_scorers(chosen) is learned_scorers(chosen)
    assert learned_scorers(settings) == ()


def test_a_page_too_small_for_a_metric_counts_as_good(settings: Settings) -> None:
    speck = Picture(np.zeros((8, 8, 3), np.uint8))
    assert assess(speck, (LearnedMetric("piqe", settings),)).components == {"piqe": 1.0}


def test_weights_with_code_are_refused(page: Picture, settings: Settings, tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.mkdir, (str(tmp_path / "pwned"),)

    torch.save(Trap(), tmp_path / "CNNIQA_koniq10k-e6f14c91.pth")
    with pytest.raises(Misconfigured, match="does not contain the weights of cnniqa"):
        assess(page, (LearnedMetric("cnniqa", settings),))
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize(
    ("scale", "value", "score"),
    [
        (SCORE_RANGES["musiq"], 50, 0.5),
        (SCORE_RANGES["niqe"], 15, 0),
        (SCORE_RANGES["niqe"], 0, 1),
        (ScoreRange(100, 0), 25, 0.75),
    ],
)
def test_scales(scale: ScoreRange, value: float, score: float) -> None:
    assert scale(value) == pytest.approx(score)
