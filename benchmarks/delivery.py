"""How well the overall score agrees with the truth, and what pages reach with default settings.

    python -m benchmarks.delivery --assets ../shared/assets [--every 1] [--default]

Pages of works that neither the networks nor the quality head have seen are reduced, perhaps damaged, and enlarged again by
filters and networks: their order by score is compared with that by PSNR and MS-SSIM. With `--default`, whole pages are
enhanced with default settings instead.
"""

import argparse
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd
import piq
import torch
from PIL import Image

from panelworks.domain.cards import BUNDLED
from panelworks.models.loading import Recipe, load_network
from panelworks.models.network import Network
from panelworks.models.registry import card_for
from panelworks.page.direct import enhance_picture
from panelworks.quality import assess
from panelworks.settings import get_settings
from training.enlargements import Enlargement, make_enlargements, make_halos
from training.ladder_figures import PRINTABLE_SCORE
from training.ladders import Pixels
from training.measurements import Base, is_unseen, read_unseen, to_picture

MAX_FILTERED_SCORE: Final = 0.7
"""An enlargement by a filter should stay below this score."""
_STRONGER: Final = (
    "opencomic-ai-upscale-2x-compact-450000.pth",
    "realcugan-se_up2x-conservative.from-ncnn-fp16.pth",
    "realesr-animevideov3.pth",
)
_DAMAGES: Final = ("q20", "blur", "noise")
_MIN_PAGE_WIDTH_PIXELS: Final = 600
DAMAGED_NAMES: Final = ("degraded", "derived_jpeg", "three_blind_mice")
_TOLERANCE: Final = 0.005


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--assets", type=Path, required=True, help="folder with pages, corpus and weights")
    parser.add_argument("--every", type=int, default=1, help="take only every Nth page")
    parser.add_argument("--default", action="store_true", help="enhance pages with default settings instead")
    args = parser.parse_args()
    if args.default:
        enhance_pages(args.assets, args.every)
        return
    bases = read_unseen(args.assets)[:: args.every]
    networks = {Path(name).stem.split(".")[0]: _load(args.assets, name) for name in (BUNDLED, *_STRONGER)}
    table = pd.DataFrame([row for base in bases for row in score_enlargements(base, networks)])
    print_agreement(table)
    print_methods(table)
    print_damage(table)


def _load(assets: Path, name: str) -> Network:
    model = name if name == BUNDLED else str(assets / "weights" / name)
    return load_network(Recipe(card_for(model), "fp32"), get_settings())


def score_enlargements(base: Base, networks: dict[str, Network]) -> Iterator[dict[str, Any]]:
    """Score the page and its enlargements: rows with page, method, factor, damage, score, and PSNR and MS-SSIM to the truth."""
    seed = len(base.work)
    yield _row(base, Enlargement("truth", 1.0, "", base.pixels))
    for one in make_enlargements(base.pixels, networks, seed, (2.0,), ("",)):
        yield _row(base, one)
        if one.method in ("bicubic", BUNDLED):
            for rung, pixels in make_halos(one.pixels):
                yield _row(base, Enlargement(one.method, 2.0, f"halo {rung}", pixels))
    bundled = {BUNDLED: networks[BUNDLED]}
    for one in make_enlargements(base.pixels, bundled, seed, (3.0, 4.0), ("",)):
        yield _row(base, one)
    for one in make_enlargements(base.pixels, bundled, seed, (2.0,), _DAMAGES):
        if one.method in ("bicubic", BUNDLED):
            yield _row(base, one)


def _row(base: Base, one: Enlargement) -> dict[str, Any]:
    score = assess(to_picture(one.pixels)).overall
    row = {
        "page": base.work,
        "method": one.method,
        "factor": one.factor,
        "damage": one.damage,
        "score": score,
    }
    return row | (_references(one.pixels, base.pixels) if one.method != "truth" else {})


def _references(pixels: Pixels, truth: Pixels) -> dict[str, float]:
    first, second = (_to_luma(one) for one in (pixels, truth))
    error = float(np.mean((first - second) ** 2))
    tensors = (torch.from_numpy(one.astype(np.float32))[None, None] / 255 for one in (first, second))
    return {
        "psnr": float(10 * np.log10(255**2 / max(error, 1e-3))),
        "ms_ssim": float(piq.multi_scale_ssim(*tensors, data_range=1.0)),
    }


def _to_luma(pixels: Pixels) -> npt.NDArray[np.float64]:
    return np.asarray(Image.fromarray(pixels).convert("L"), dtype=np.float64)


def print_agreement(table: pd.DataFrame) -> None:
    """Print the rank correlation of the score with the references at 2x: over the methods of each page, and of their means."""
    plain = table[(table["factor"] == 2.0) & (table["damage"] == "")]
    for reference in ("psnr", "ms_ssim"):
        found = [
            part["score"].rank().corr(part[reference].rank())
            for _, part in plain.groupby("page")
            if len(part) > 2
        ]
        means = plain.groupby("method")[["score", reference]].mean().rank()
        print(
            f"rank correlation with {reference}: mean over {len(found)} pages {np.nanmean(found):.3f},"
            f" of the means of {len(means)} methods {means['score'].corr(means[reference]):.3f}"
        )


def print_methods(table: pd.DataFrame) -> None:
    """Print the scores of each method and factor."""
    print("\n| method | scale | pages | mean | below 0.7 | 0.8 or more |\n|---|---|---|---|---|---|")
    for (method, factor), part in table[table["damage"] == ""].groupby(["method", "factor"]):
        below, above = (part["score"] < MAX_FILTERED_SCORE).mean(), (part["score"] >= PRINTABLE_SCORE).mean()
        print(
            f"| {method} | {factor:g} | {len(part)} | {part['score'].mean():.2f} | {below:.0%} | {above:.0%} |"
        )
    filtered = table[
        table["method"].isin(["bicubic", "lanczos"]) & (table["damage"] == "") & (table["factor"] >= 2)
    ]
    share = (filtered["score"] < MAX_FILTERED_SCORE).mean()
    print(f"\nbicubic and Lanczos by 2 or more below {MAX_FILTERED_SCORE}: {share:.1%} of {len(filtered)}")


def print_damage(table: pd.DataFrame) -> None:
    """Print how damage before the enlargement and halos after it change the score of a method."""
    plain = table[(table["damage"] == "") & (table["factor"] == 2.0)]
    clean = {(row.page, row.method): row.score for row in plain.itertuples()}
    print("\n| method | damage | mean | higher than without | 0.8 or more |\n|---|---|---|---|---|")
    for (method, damage), part in table[table["damage"] != ""].groupby(["method", "damage"]):
        before = np.array([clean[page, str(method)] for page in part["page"]])
        raised = (part["score"].to_numpy() > before + _TOLERANCE).mean()
        above = (part["score"] >= PRINTABLE_SCORE).mean()
        print(f"| {method} | {damage} | {part['score'].mean():.2f} | {raised:.0%} | {above:.0%} |")


def enhance_pages(assets: Path, every: int) -> None:
    """Enhance pages of `pages`, and unseen ones of `corpus`, with default settings; print their scores before and after."""
    print("| page | size | damaged | before | after | route | at |\n|---|---|---|---|---|---|---|")
    reached = []
    for path, damaged in list(_pages_of(assets))[::every]:
        with tempfile.TemporaryDirectory() as folder:
            os.environ["PANELWORKS_CACHE_DIR"] = folder
            result = enhance_picture(path, Path(folder) / "out")
        if result.quality is None or result.source is None:
            print(f"| {path.name} | | | | | {result.error.message if result.error else ''} | |")
            continue
        before, after = result.quality.before, result.quality.after
        delivery = after.delivery
        at = f"{delivery.width}x{delivery.height}" if delivery else ""
        print(
            f"| {path.name} | {result.source.width}x{result.source.height} | {'yes' if damaged else 'no'}"
            f" | {before.overall:.2f} | {after.overall:.2f} | {result.route} | {at} |",
            flush=True,
        )
        if not damaged:
            reached.append(after.overall > PRINTABLE_SCORE)
    print(f"\nundamaged pages above {PRINTABLE_SCORE}: {np.mean(reached):.1%} of {len(reached)}")


def _pages_of(assets: Path) -> Iterator[tuple[Path, bool]]:
    """Pages of at least 600 pixels, and whether they are damaged: prints with halftone, strong JPEG compression, and scans
    that the manifest does not call clean: these are soft or show the grain of the paper."""
    for folder in ("pages", "corpus"):
        for entry in json.loads((assets / folder / "manifest.json").read_text()):
            name = str(entry["file"])
            if name.endswith(".cbz") or (folder == "corpus" and not is_unseen(name)):
                continue
            with Image.open(assets / folder / name) as image:
                width = image.width
            if width >= _MIN_PAGE_WIDTH_PIXELS:
                damaged = any(word in name for word in DAMAGED_NAMES) or "halftone" in str(entry["kind"])
                yield assets / folder / name, damaged or not entry.get("clean", True)


if __name__ == "__main__":
    main()
