"""Fit the quality head: scores of five components from the measures of a page.

    python -m training.calibrate --pages PAGES --pages CORPUS --weights WEIGHTS --table measures.parquet

The table of measures is stored. If it exists, only the fit is repeated. Works that are held out or unseen
(`training.measurements`) are not used for the fit: `python -m benchmarks.ladders` and `python -m benchmarks.delivery` evaluate
with them. Cross-validation over the works of the table is printed first.
"""

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from safetensors.numpy import save_file

from panelworks.domain.cards import BUNDLED
from panelworks.models.loading import Recipe, load_network
from panelworks.models.network import Network
from panelworks.models.registry import card_for
from panelworks.settings import get_settings
from training.ladder_figures import compute_figures
from training.ladders import COMPONENTS, LADDERS
from training.measurements import (
    GRADIENT_WORKS,
    Base,
    draw_gradients,
    measure_names,
    measure_rungs,
    read_for_fitting,
)

HEAD_PATH: Final = Path(__file__).parents[1] / "panelworks" / "quality" / "head.safetensors"
_HIDDEN_UNITS: Final = 24
_NETWORKS: Final = 5
"""Networks whose outputs are averaged: works that were not fitted are scored more evenly. They are stored as one."""
_CROSS_STEPS: Final = 1200
_STEPS: Final = 3000
_STRETCH: Final = 0.85
"""Power to which each component is taken, so that most clean pages have 0.8 or more and pages enlarged by a filter less than
0.7. Chosen by the cross-validation."""
_MIN_PSNR_DIFFERENCE: Final = 0.25
"""Minimum difference in dB between two enlargements of a page of which one counts as better."""
_PAIR_WEIGHT: Final = 0.5
_STRONG_NETWORKS: Final = (
    "opencomic-ai-upscale-2x-compact-450000.pth",
    "realcugan-se_up2x-conservative.from-ncnn-fp16.pth",
    "realesr-animevideov3.pth",
)
"""Networks beside the bundled one whose enlargements the head should find sharp."""
_FOLDS: Final = 4
_MAX_DEVIATIONS: Final = 6.0
_MIN_LOG_SCORE_FALL: Final = 0.04
"""Minimum decrease of the log of the score from one rung to the next."""
_DRAWN_WORKS: Final = ("drawing", GRADIENT_WORKS)
_LADDER_WEIGHT: Final = 2.0
"""Weight of the rows of a ladder of damage. With 1, noise of 16 levels had 0.72 on a drawn page; the ladder wants 0.6."""
_BANDING_WEIGHT: Final = 4.0
"""Weight of the rows of the banding ladder, which few pages have. With 1, drawn gradients of 14 levels had 0.91 for banding."""
_SAME_SCORE_LADDERS: Final = ("clean", "size", "q95")
Floats = npt.NDArray[np.float32]


class Table:
    """The measures and wanted scores of a table, and the pairs of better and worse rungs."""

    def __init__(self, rows: pd.DataFrame) -> None:
        self.rows = rows.reset_index(drop=True)
        self.names = measure_names(rows)
        self.measures = self.rows[self.names].to_numpy(np.float32)
        self.wanted = self.rows[[f"want_{name}" for name in COMPONENTS]].to_numpy(np.float32)
        self.mean = self.measures.mean(axis=0)
        self.deviation = self.measures.std(axis=0) + np.float32(1e-6)
        self.pairs = self._pairs()

    def inputs(self) -> torch.Tensor:
        """The measures in standard deviations, N x measures."""
        return torch.tensor((self.measures - self.mean) / self.deviation).clamp(
            -_MAX_DEVIATIONS, _MAX_DEVIATIONS
        )

    def shares(self) -> npt.NDArray[np.float64]:
        """Weight of each row: rows that must score alike, ladders, enlargements and real pages have a larger weight."""
        rows = self.rows
        alike = rows["ladder"].isin(_SAME_SCORE_LADDERS)
        real = ~rows["work"].str.startswith(_DRAWN_WORKS)
        enlarged = (rows["ladder"] == "enlarged") & (rows["damage"] == "")
        filtered = enlarged & rows["method"].isin(["bicubic", "lanczos"]) & (rows["factor"] >= 2)
        weights = 1.0 + 5 * alike + 3 * enlarged + (rows["damage"] != "")
        weights = weights.mask(rows["ladder"].isin(LADDERS), _LADDER_WEIGHT)
        weights = weights.mask(rows["ladder"] == "banding", _BANDING_WEIGHT)
        return np.asarray(weights * (1.0 + real) * (1.0 + 0.5 * filtered), dtype=np.float64)

    def _pairs(self) -> npt.NDArray[np.int64]:
        """Pairs of rows: (better, worse)."""
        return np.array([*self._ladder_pairs(), *self._enlarged_pairs(), *self._damage_pairs()])

    def _ladder_pairs(self) -> Iterator[tuple[int, int]]:
        """Neighbouring rungs of a ladder."""
        places = {
            (int(base), str(ladder), int(rung)): row
            for row, (base, ladder, rung) in enumerate(
                zip(self.rows["base"], self.rows["ladder"], self.rows["rung"], strict=True)
            )
            if ladder not in ("enlarged", "halo")
        }
        for (base, ladder, rung), row in places.items():
            if ladder not in _SAME_SCORE_LADDERS:
                yield places[(base, ladder, rung - 1) if rung > 1 else (base, "clean", 0)], row

    def _enlarged_pairs(self) -> Iterator[tuple[int, int]]:
        """Enlargements of a page by one factor, of which one is closer to the truth."""
        plain = self.rows[(self.rows["ladder"] == "enlarged") & (self.rows["damage"] == "")]
        for _, part in plain.groupby(["base", "factor"]):
            rows, psnr = part.index.to_numpy(), part["psnr"].to_numpy()
            for better, worse in np.argwhere(psnr[:, None] > psnr[None, :] + _MIN_PSNR_DIFFERENCE):
                yield int(rows[better]), int(rows[worse])

    def _damage_pairs(self) -> Iterator[tuple[int, int]]:
        """A page as it was enlarged, and the same with damage or halos."""
        plain = {
            (base, "truth" if ladder == "clean" else method): row
            for row, (base, ladder, method, factor, damage) in enumerate(
                self.rows[["base", "ladder", "method", "factor", "damage"]].itertuples(index=False)
            )
            if ladder == "clean" or (ladder == "enlarged" and not damage and factor == 2)
        }
        for row, (base, method, damage) in enumerate(
            self.rows[["base", "method", "damage"]].itertuples(index=False)
        ):
            if damage:
                yield plain[base, method], row


def fit_networks(table: Table, chosen: npt.NDArray[np.bool_], steps: int) -> list[torch.nn.Sequential]:
    """Fit several networks to the chosen rows, which differ in their random numbers."""
    return [fit_network(table, chosen, steps, seed) for seed in range(_NETWORKS)]


def fit_network(table: Table, chosen: npt.NDArray[np.bool_], steps: int, seed: int) -> torch.nn.Sequential:
    """Fit a network to the chosen rows: to their wanted scores and to the order of the pairs."""
    torch.manual_seed(seed)
    generator = np.random.default_rng(seed)
    network = torch.nn.Sequential(
        torch.nn.Linear(len(table.names), _HIDDEN_UNITS),
        torch.nn.Tanh(),
        torch.nn.Linear(_HIDDEN_UNITS, len(COMPONENTS)),
    )
    optimiser = torch.optim.AdamW(network.parameters(), lr=1e-2, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    inputs, wanted = table.inputs(), torch.tensor(table.wanted)
    rows = np.flatnonzero(chosen)
    shares = table.shares()[rows]
    pairs = table.pairs[chosen[table.pairs[:, 0]]]
    for _ in range(steps):
        some = generator.choice(rows, 1024, p=shares / shares.sum())
        score_rows = torch.sigmoid(network(inputs[some] + 0.03 * torch.randn(1024, len(table.names))))
        loss = ((score_rows - wanted[some]) ** 2).mean()
        loss = loss + 2 * ((score_rows.prod(1) - wanted[some].prod(1)) ** 2).mean()
        better, worse = pairs[generator.integers(0, len(pairs), 1024)].T
        fell = _log_score(network, inputs[better]) - _log_score(network, inputs[worse])
        ought = torch.log(wanted[better]).sum(1) - torch.log(wanted[worse]).sum(1)
        loss = (
            loss + _PAIR_WEIGHT * torch.relu(torch.clamp(0.5 * ought, min=_MIN_LOG_SCORE_FALL) - fell).mean()
        )
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        schedule.step()
    return network


def _log_score(network: torch.nn.Sequential, inputs: torch.Tensor) -> torch.Tensor:
    """Logarithm of the product of the components."""
    return torch.nn.functional.logsigmoid(network(inputs)).sum(1)


def score_rows(networks: Sequence[torch.nn.Sequential], table: Table) -> Floats:
    """The technical score of each row: the product of the components, which are those of the averaged outputs."""
    with torch.no_grad():
        outputs = torch.stack([network(table.inputs()) for network in networks]).mean(0)
        return np.asarray((torch.sigmoid(outputs) ** _STRETCH).prod(1).numpy(), dtype=np.float32)


def cross_validate(table: Table) -> Floats:
    """Score each row with networks that were not fitted to its work."""
    works = sorted(set(table.rows["work"]))
    result = np.zeros(len(table.rows), dtype=np.float32)
    for fold in range(_FOLDS):
        aside = table.rows["work"].isin(works[fold::_FOLDS]).to_numpy()
        result[aside] = score_rows(fit_networks(table, ~aside, _CROSS_STEPS), table)[aside]
    return result


def print_enlarged(rows: pd.DataFrame) -> None:
    """Print the scores of enlargements by method and factor."""
    plain = rows[(rows["ladder"] == "enlarged") & (rows["damage"] == "")]
    for (method, factor), part in plain.groupby(["method", "factor"]):
        score = part["score"]
        print(
            f"  {method} {factor:g}x: mean {score.mean():.2f}, < 0.7 {(score < 0.7).mean():.0%}, >= 0.8 {(score >= 0.8).mean():.0%}"
        )


def save_head(networks: Sequence[torch.nn.Sequential], table: Table, out: Path) -> None:
    """Write the head: one network with the hidden units of all, whose outputs are averaged."""
    layers = [[layer for layer in network if isinstance(layer, torch.nn.Linear)] for network in networks]
    firsts, seconds = [first for first, _ in layers], [second for _, second in layers]
    arrays = {
        "mean": table.mean,
        "deviation": table.deviation,
        "first": torch.cat([one.weight for one in firsts]).detach().numpy(),
        "first_bias": torch.cat([one.bias for one in firsts]).detach().numpy(),
        "second": (torch.cat([one.weight for one in seconds], dim=1) / len(networks)).detach().numpy(),
        "second_bias": torch.stack([one.bias for one in seconds]).mean(0).detach().numpy(),
        "stretch": np.array([_STRETCH], dtype=np.float32),
    }
    metadata = {"measures": " ".join(table.names), "components": " ".join(COMPONENTS)}
    save_file({name: np.ascontiguousarray(value) for name, value in arrays.items()}, out, metadata=metadata)


def read_table(args: argparse.Namespace) -> pd.DataFrame:
    """Read the table of measures. What it lacks is measured and added: pages, or drawings with large gradients."""
    rows = pd.read_parquet(args.table) if args.table.exists() else pd.DataFrame()
    if rows.empty:
        rows = _measure(read_for_fitting(args.pages, args.store, args.fonts), args.weights, 0)
        rows.to_parquet(args.table)
    if not is_gradient(rows).any():
        first = int(rows["base"].max()) + 1
        rows = pd.concat([rows, _measure(draw_gradients(args.fonts), args.weights, first)], ignore_index=True)
        rows.to_parquet(args.table)
    return rows


def _measure(bases: Sequence[Base], weights: Path, first: int) -> pd.DataFrame:
    return pd.DataFrame(measure_rungs(bases, load_networks(weights), first))


def is_gradient(rows: pd.DataFrame) -> "pd.Series[bool]":
    """Which rows are of drawings with large gradients?"""
    return rows["work"].str.startswith(GRADIENT_WORKS)


def load_networks(weights: Path) -> dict[str, Network]:
    """Load the bundled network and those in the folder `weights`."""
    names = (BUNDLED, *(str(weights / name) for name in _STRONG_NETWORKS))
    return {
        Path(name).stem.split(".")[0]: load_network(Recipe(card_for(name), "fp32"), get_settings())
        for name in names
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--pages", type=Path, action="append", default=[], help="folder of pages with a manifest.json"
    )
    parser.add_argument("--weights", type=Path, help="folder of the other networks")
    parser.add_argument("--store", type=Path, help="folder for decoded pages, as in the training")
    parser.add_argument("--fonts", type=Path)
    parser.add_argument("--table", type=Path, required=True, help="Parquet file of measures, made if missing")
    parser.add_argument("--out", type=Path, default=HEAD_PATH)
    args = parser.parse_args()
    table = Table(read_table(args))
    outside = table.rows.assign(score=cross_validate(table))
    gradients = is_gradient(outside)
    print("works that were not fitted:", compute_figures(outside[~gradients]))
    print_enlarged(outside[~gradients])
    print("drawings with large gradients that were not fitted:", compute_figures(outside[gradients]))
    fitted = fit_networks(table, np.ones(len(table.rows), dtype=np.bool_), _STEPS)
    print("all works:", compute_figures(table.rows.assign(score=score_rows(fitted, table))))
    save_head(fitted, table, args.out)


if __name__ == "__main__":
    main()
