"""How well the score follows ladders of held-out works: the figures of docs/explanation/quality.md.

    python -m benchmarks.ladders --pages ../shared/assets/pages [--plots docs/images]

Full-reference measures (MS-SSIM, FSIM) need the package piq, plots need matplotlib; both come with the extra `dev`.
"""

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import piq
import torch

from panelworks.quality import assess
from training.ladder_figures import PRINTABLE_SCORE, compute_figures
from training.ladders import LADDERS, Pixels
from training.measurements import Base, make_rungs, read_held_out, to_picture

_SIDE = 512
"""Side of the central square of a page for full-reference measures."""
_SEPARATE_LADDERS = ("clean", "size", "q95")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pages", type=Path, required=True, help="folder of pages with a manifest.json")
    parser.add_argument("--plots", type=Path, help="folder for ladders.png")
    args = parser.parse_args()
    bases = read_held_out(args.pages)
    table = pd.DataFrame([row for number, base in enumerate(bases) for row in score_rungs(number, base)])
    found = compute_figures(table)
    print(found)
    mixed = table[~table["ladder"].isin(_SEPARATE_LADDERS)]
    for reference in ("ms_ssim", "fsim"):
        by_page = [_ranks_agree(part["score"], part[reference]) for _, part in mixed.groupby("base")]
        pooled = _ranks_agree(mixed["score"], mixed[reference])
        print(
            f"rank correlation with {reference}: mean over pages {np.mean(by_page):.3f}, all together {pooled:.3f}"
        )
    clean = table[table["ladder"] == "clean"]
    for work, score in zip(clean["work"], clean["score"], strict=True):
        print(f"  {work:<34} {score:.2f}")
    print(f"one megapixel is assessed in {1000 * seconds_of_a_megapixel():.0f} ms")
    if args.plots:
        plot(table, args.plots / "ladders.png")


def score_rungs(number: int, base: Base) -> list[dict[str, Any]]:
    """Score each rung: a row with base, work, ladder, rung, the technical score and the full-reference measures."""
    rows = []
    for rung in make_rungs(base, number):
        row: dict[str, Any] = {"base": number, "work": base.work, "ladder": rung.ladder, "rung": rung.rung}
        row["score"] = assess(to_picture(rung.pixels)).technical
        if rung.ladder not in _SEPARATE_LADDERS:
            row |= _references(rung.pixels, base.pixels)
        rows.append(row)
    return rows


def _references(pixels: Pixels, clean: Pixels) -> dict[str, float]:
    degraded, reference = _middle(pixels), _middle(clean)
    with torch.inference_mode():
        return {
            "ms_ssim": float(piq.multi_scale_ssim(degraded, reference, data_range=1.0)),
            "fsim": float(piq.fsim(degraded, reference, data_range=1.0)),
        }


def _middle(pixels: Pixels) -> torch.Tensor:
    top, left = (max(0, (side - _SIDE) // 2) for side in pixels.shape[:2])
    part = np.ascontiguousarray(pixels[top : top + _SIDE, left : left + _SIDE])
    return torch.from_numpy(part).permute(2, 0, 1)[None].float() / 255


def _ranks_agree(first: "pd.Series[float]", second: "pd.Series[float]") -> float:
    return float(first.rank().corr(second.rank()))


def seconds_of_a_megapixel() -> float:
    """Measure the median time of nine assessments of a page of 1024x1024."""
    page = to_picture(
        np.kron(np.random.default_rng(0).integers(0, 256, (64, 64, 3)), np.ones((16, 16, 1))).astype(np.uint8)
    )
    taken = []
    for _ in range(9):
        began = time.perf_counter()
        assess(page)
        taken.append(time.perf_counter() - began)
    return float(np.median(taken))


def plot(table: pd.DataFrame, out: Path) -> None:
    """Plot one panel for each ladder: the score of each page on its rungs."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    clean = table[table["ladder"] == "clean"].set_index("base")["score"]
    figure, panels = pyplot.subplots(3, 4, figsize=(12, 7.5), sharex=True, sharey=True)
    for panel, ladder in zip(panels.flat, LADDERS, strict=False):
        for base, part in table[table["ladder"] == ladder].groupby("base"):
            panel.plot([0, *part["rung"]], [clean[base], *part["score"]], linewidth=1)
        panel.axhline(PRINTABLE_SCORE, color="gray", linestyle=":")
        panel.set(title=ladder, ylim=(0, 1))
    panels.flat[-1].axis("off")
    figure.supxlabel("rung (0: clean)")
    figure.supylabel("technical score")
    figure.tight_layout()
    figure.savefig(out, dpi=80)


if __name__ == "__main__":
    main()
