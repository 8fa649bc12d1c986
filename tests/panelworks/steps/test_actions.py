"""Every action with every model: with real weights if available, otherwise with random ones.

All go the whole way: registry, hash check, loading, running.
"""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from panelworks.domain.cards import CARDS, Action
from panelworks.domain.plan import Plan
from panelworks.errors import Misconfigured, UnknownName
from panelworks.pictures import Picture, resize
from panelworks.pictures.picture import from_image, to_image
from panelworks.quality import assess
from panelworks.settings import Settings
from panelworks.steps import Work, provider_named, step_for, take_inventory
from panelworks.steps.inventory import identify_weights
from tests.networks import random_compact, random_rrdb, stand_in, write_pair
from tests.pages import drawn, psnr


def done(
    action: Action, picture: Picture, settings: Settings, model: str | None = None, **config: Any
) -> Picture:
    """Plan and perform an action like a step of a page."""
    step = step_for(action, take_inventory(settings, *([model] if model else [])), model, **config)
    step = identify_weights(Plan(steps=(step,), width=1, height=1), settings)[0].steps[0]
    work = Work(settings, (2 * picture.width, 2 * picture.height))
    return provider_named(step.provider).process(picture, step, work)


@pytest.fixture
def here(assets: Path, settings: Settings) -> Settings:
    """Settings that find the real weights."""
    return settings.model_copy(update={"model_path": (assets / "weights",)})


REAL = [
    ("upscale", "realesr-animevideov3", 4),
    ("upscale", "opencomic-2x", 2),
    ("upscale", "opencomic-4x", 4),
    ("upscale", "realcugan-2x-conservative", 2),
    ("upscale", "panelworks-2x", 2),
    ("fix_artifacts", "opencomic-artifact-removal", 1),
    ("descreen", "opencomic-descreen", 1),
]


@pytest.mark.parametrize(("action", "model", "scale"), REAL)
@pytest.mark.parametrize("look", ["colour", "screentone"])
def test_real_weights(action: Action, model: str, scale: int, look: Any, here: Settings) -> None:
    page = drawn(120, 96, look)
    result = done(action, page, here, model)
    assert result.size == (120 * scale, 96 * scale)
    assert result.is_gray == page.is_gray
    reach = 18 if action != "descreen" else 8
    assert psnr(resize(result, page.size).pixels, page.pixels) > reach


@pytest.mark.parametrize("model", ["realesr-general-x4v3", "realesr-general-wdn-x4v3"])
def test_the_general_pair_by_name(
    model: str, assets: Path, here: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in(monkeypatch, model, assets / "weights" / f"{model}.from-ncnn-fp16.pth")
    assert done("upscale", drawn(64, 48), here, model).size == (256, 192)


@pytest.mark.parametrize(
    ("model", "blocks", "scale"),
    [("realesrgan_x2plus", 23, 2), ("realesrgan_x4plus", 23, 4), ("realesrgan_x4plus_anime_6b", 6, 4)],
)
def test_esrgan_architectures(
    model: str, blocks: int, scale: int, tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in(monkeypatch, model, random_rrdb(tmp_path / CARDS[model].file, blocks=blocks, scale=scale))
    settings = settings.model_copy(update={"model_path": (tmp_path,)})
    assert done("upscale", drawn(40, 24), settings, model).size == (40 * scale, 24 * scale)


def test_a_file_with_other_content_is_not_used(tmp_path: Path, settings: Settings) -> None:
    random_compact(tmp_path / "realesr-animevideov3.pth")
    card = CARDS["realesr-animevideov3"].model_copy(update={"url": None})
    from panelworks.models.weights import require_weights

    with pytest.raises(Misconfigured, match="MODEL_PATH"):
        require_weights(card, settings.model_copy(update={"model_path": (tmp_path,)}))


@pytest.mark.parametrize("action", ["upscale", "fix_artifacts", "descreen", "denoise"])
def test_own_files_and_pairs_perform_any_action(action: Action, tmp_path: Path, settings: Settings) -> None:
    from panelworks.models.weight_files import read_pickle

    file = random_compact(tmp_path / "mine.pth")
    pair = write_pair(tmp_path, "pair", read_pickle(file))
    page = drawn(50, 40)
    for path in (file, pair):
        size = done(action, page, settings, str(path)).size
        assert size == ((100, 80) if action == "upscale" else (50, 40))


@pytest.mark.parametrize("model", ["lanczos", "bicubic", "hamming", "bilinear", "nearest"])
@pytest.mark.parametrize("action", ["enhance", "upscale", "resize"])
def test_resamplers(action: Action, model: str, settings: Settings) -> None:
    page = drawn(60, 44)
    assert done(action, page, settings, model).size == (120, 88)


def test_denoising_by_strength(assets: Path, here: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    for model in ("realesr-general-x4v3", "realesr-general-wdn-x4v3"):
        stand_in(monkeypatch, model, assets / "weights" / f"{model}.from-ncnn-fp16.pth")
    noise = np.random.default_rng(0).normal(128, 20, (96, 96, 3))
    noisy = Picture(np.clip(noise, 0, 255).astype(np.uint8))
    left = [float(done("denoise", noisy, here, strength=s).pixels.std()) for s in (0.0, 0.5, 1.0)]
    assert left == sorted(left, reverse=True), "more strength, less noise"
    assert left[-1] < 0.3 * float(noisy.pixels.std())


def test_blocks_are_smoothed(settings: Settings) -> None:
    import io

    from PIL import Image

    page = drawn(320, 320)
    buffer = io.BytesIO()
    to_image(page).save(buffer, "JPEG", quality=12)
    with Image.open(buffer) as image:
        blocky = from_image(image.convert("RGB"))
    for model in ("deblock", "deblock-deband"):
        result = done("fix_artifacts", blocky, settings, model)
        assert psnr(result.pixels, page.pixels) > psnr(blocky.pixels, page.pixels)
        assert assess(result).components["compression"] > assess(blocky).components["compression"]


def test_bands_are_smoothed_and_drawings_are_unchanged(settings: Settings) -> None:
    slope = np.linspace(40, 90, 400)[None, :, None].repeat(120, axis=0)
    stairs = (np.floor(slope / 4) * 4).astype(np.uint8)
    result = done("fix_artifacts", Picture(stairs), settings, "deband").pixels
    blurred = result[10:-10, 40:-40, 0].astype(float).mean(axis=0)
    # A floor to steps of four is 1.5 levels too dark on average; the stairs must disappear.
    assert np.abs(blurred - (slope[0, 40:-40, 0] - 1.5)).max() < 1.6
    drawing = drawn(160, 120)
    assert psnr(done("fix_artifacts", drawing, settings, "deband").pixels, drawing.pixels) > 40


def test_only_given_regions_are_inpainted(settings: Settings) -> None:
    page = np.full((80, 100, 3), 200, np.uint8)
    page[30:40, 40:60] = (255, 0, 0)
    picture = Picture(page)
    regions = [{"left": 38, "top": 28, "width": 24, "height": 14}]
    result = done("inpaint", picture, settings, regions=regions)
    assert np.abs(result.pixels.astype(int) - 200).max() <= 2
    gray = done("inpaint", Picture(page[:, :, :1]), settings, regions=regions)
    assert gray.is_gray
    untouched = done("inpaint", picture, settings, regions=[{"left": 0, "top": 0, "width": 5, "height": 5}])
    assert np.array_equal(untouched.pixels[10:], picture.pixels[10:])


def test_scratches_are_found(settings: Settings) -> None:
    page = np.full((100, 100, 1), 60, np.uint8)
    page[:, 50:52] = 230
    page[20:23, 20:23] = 255
    result = done("inpaint", Picture(page), settings, scratches=True)
    assert result.pixels.max() < 80


def test_an_inpainting_network_changes_only_masked_pixels(tmp_path: Path, settings: Settings) -> None:
    from spandrel.architectures.LaMa import LaMa

    torch.manual_seed(0)
    path = tmp_path / "lama.pth"
    torch.save(LaMa(in_nc=4, out_nc=3).state_dict(), path)
    page = drawn(96, 80)
    result = done(
        "inpaint", page, settings, str(path), regions=[{"left": 30, "top": 20, "width": 16, "height": 12}]
    )
    changed = (result.pixels != page.pixels).any(axis=2)
    assert changed[20:32, 30:46].mean() > 0.5
    changed[20:32, 30:46] = False
    assert not changed.any()


def test_aura(tmp_path: Path, settings: Settings) -> None:
    import json

    from aura_sr import UnetUpsampler
    from safetensors.torch import save_file

    shape = {
        "dim": 8, "image_size": 256, "input_image_size": 64, "up_dim_mults": [1, 2, 2, 2], "down_dim_mults": [2, 2],
        "full_attn": [False] * 4, "attn_depths": [1] * 4, "mid_attn_depth": 1, "num_conv_kernels": 2,
        "resnet_block_groups": 4, "self_attn_dim_head": 8, "self_attn_heads": 2, "flash_attn": False,
        "style_network": {"dim_in": 128, "dim_out": 32, "depth": 1},
    }  # fmt: skip
    torch.manual_seed(0)
    save_file(UnetUpsampler(**shape).state_dict(), tmp_path / "aura-sr-v2.safetensors")
    (tmp_path / "aura-sr-v2.json").write_text(json.dumps(shape))
    settings = settings.model_copy(update={"model_path": (tmp_path,)})
    page = drawn(70, 40)
    first, second = (done("enhance", page, settings) for _ in range(2))
    assert first.size == (280, 160)
    assert np.array_equal(first.pixels, second.pixels), "the noise is always the same"
    assert (settings.weights_dir / "aura-sr-v2.safetensors.sha256").is_file(), "its hash is pinned"
    assert done("upscale", drawn(40, 30), settings, "aura-sr-v2").size == (160, 120)


def test_a_model_performs_only_its_actions(settings: Settings) -> None:
    for action, model in (("face", "panelworks-2x"), ("upscale", "isnet-anime"), ("colour", "lanczos")):
        with pytest.raises(UnknownName, match="does not do"):
            step_for(action, take_inventory(settings), model)  # type: ignore[arg-type]


@pytest.mark.parametrize("runtime", ["auto", "torch"])
def test_pages_in_many_threads_are_not_mixed(runtime: str, settings: Settings) -> None:
    settings = settings.model_copy(update={"runtime": runtime, "tile": 48})
    pages = [drawn(130, 110, seed=seed) for seed in range(8)]
    alone = [done("upscale", page, settings, "panelworks-2x").pixels for page in pages]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda page: done("upscale", page, settings, "panelworks-2x").pixels, pages))
    assert all(np.array_equal(first, second) for first, second in zip(alone, together, strict=True))
