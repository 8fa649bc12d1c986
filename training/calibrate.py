"""Fit the quality head: scores of five components from the measures of a page.

    python -m training.calibrate --pages PAGES --folder CLIPART --folder PAINTINGS --fonts FONTS --table ladders.parquet

The table of measures is stored. If it exists, only the fit is repeated. Works of `training.corpus.HELD_OUT` are not used
for the fit: `python -m benchmarks.ladders` evaluates with them. Cross-validation over the works of the table is printed
first. It determines the final stretch of the scores.
"""

import argparse
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from safetensors.numpy import save_file

from training.ladder_figures import compute_figures
from training.ladders import COMPONENTS
from training.measurements import measure_names, measure_rungs, read_for_fitting

HEAD_PATH: Final = Path(__file__).parents[1] / "panelworks" / "quality" / "head.safetensors"
_HIDDEN_UNITS: Final = 24
_FOLDS: Final = 4
_MAX_DEVIATIONS: Final = 6.0
_MIN_LOG_SCORE_FALL: Final = 0.04
"""Minimum decrease of the log of the score from one rung to the next."""
_DRAWN_WORKS: Final = ("clip", "drawing")
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
        """Weight of each row: rows that must score alike and real pages have a larger weight."""
        alike = self.rows["ladder"].isin(["clean", "size", "q95"]).to_numpy()
        real = ~self.rows["work"].str.startswith(_DRAWN_WORKS).to_numpy()
        return np.where(alike, 6.0, 1.0) * np.where(real, 2.0, 1.0)

    def _pairs(self) -> npt.NDArray[np.int64]:
        """Rows of neighbouring rungs of a ladder: (better, worse)."""
        places = {
            (int(base), str(ladder), int(rung)): row
            for row, (base, ladder, rung) in enumerate(
                zip(self.rows["base"], self.rows["ladder"], self.rows["rung"], strict=True)
            )
        }
        pairs = []
        for (base, ladder, rung), row in places.items():
            if ladder not in ("clean", "size", "q95"):
                before = (base, ladder, rung - 1) if rung > 1 else (base, "clean", 0)
                pairs.append((places[before], row))
        return np.array(pairs)


def fit_network(table: Table, chosen: npt.NDArray[np.bool_], steps: int) -> torch.nn.Sequential:
    """Fit a network to the chosen rows: to their wanted scores and to the order within each ladder."""
    torch.manual_seed(0)
    generator = np.random.default_rng(0)
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
        loss = loss + 0.3 * torch.relu(torch.clamp(0.5 * ought, min=_MIN_LOG_SCORE_FALL) - fell).mean()
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        schedule.step()
    return network


def _log_score(network: torch.nn.Sequential, inputs: torch.Tensor) -> torch.Tensor:
    """Logarithm of the product of the components."""
    return torch.nn.functional.logsigmoid(network(inputs)).sum(1)


def score_rows(network: torch.nn.Sequential, table: Table, stretch: float = 1.0) -> Floats:
    """The product of the components of each row, to the power of `stretch`."""
    with torch.no_grad():
        product = torch.sigmoid(network(table.inputs())).prod(1).numpy()
    return np.asarray(product**stretch, dtype=np.float32)


def cross_validate(table: Table) -> Floats:
    """Score each row with a network that was not fitted to its work."""
    works = sorted(set(table.rows["work"]))
    result = np.zeros(len(table.rows), dtype=np.float32)
    for fold in range(_FOLDS):
        aside = table.rows["work"].isin(works[fold::_FOLDS]).to_numpy()
        result[aside] = score_rows(fit_network(table, ~aside, 1500), table)[aside]
    return result


def find_stretch(table: Table, score: Floats) -> float:
    """Find the power with which most clean pages score 0.8 or more and at most 4.5 % of the bad ones do."""
    best = 1.0
    for power in np.arange(1.0, 0.3, -0.05):
        if compute_figures(table.rows.assign(score=score**power)).bad_above > 0.045:
            break
        best = float(power)
    return best


def save_head(network: torch.nn.Sequential, table: Table, stretch: float, out: Path) -> None:
    """Write the head; `stretch` is the power to which each component is taken."""
    first, second = (layer for layer in network if isinstance(layer, torch.nn.Linear))
    arrays = {
        "mean": table.mean,
        "deviation": table.deviation,
        "first": first.weight.detach().numpy(),
        "first_bias": first.bias.detach().numpy(),
        "second": second.weight.detach().numpy(),
        "second_bias": second.bias.detach().numpy(),
        "stretch": np.array([stretch], dtype=np.float32),
    }
    metadata = {"measures": " ".join(table.names), "components": " ".join(COMPONENTS)}
    save_file({name: np.ascontiguousarray(value) for name, value in arrays.items()}, out, metadata=metadata)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pages", type=Path, help="folder of pages with a manifest.json")
    parser.add_argument("--folder", type=Path, action="append", default=[], help="clean PNG files")
    parser.add_argument("--fonts", type=Path)
    parser.add_argument("--table", type=Path, required=True, help="Parquet file of measures, made if missing")
    parser.add_argument("--out", type=Path, default=HEAD_PATH)
    args = parser.parse_args()
    if not args.table.exists():
        bases = read_for_fitting(args.pages, args.folder, args.fonts)
        pd.DataFrame(measure_rungs(bases)).to_parquet(args.table)
    table = Table(pd.read_parquet(args.table))
    outside = cross_validate(table)
    stretch = find_stretch(table, outside)
    print("held-out works:", compute_figures(table.rows.assign(score=outside**stretch)))
    network = fit_network(table, np.ones(len(table.rows), dtype=np.bool_), 4000)
    print("all works:", compute_figures(table.rows.assign(score=score_rows(network, table, stretch))))
    save_head(network, table, stretch, args.out)


if __name__ == "__main__":
    main()
