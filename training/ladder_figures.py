"""How well scores follow ladders: the figures that docs/explanation/quality.md compares with their targets."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

PRINTABLE_SCORE = 0.8
"""Minimum score of a page that a publisher would print."""
_SEPARATE_LADDERS = ("clean", "size", "q95", "enlarged", "halo")


@dataclass(frozen=True)
class Figures:
    """The figures of a table of scores."""

    spearman: dict[str, float]
    """Negated rank correlation of the score with the severity for each ladder, mean over pages."""
    clean_above: float
    """Share of clean pages with a score of at least 0.8."""
    bad_above: float
    """Share of bad pages with a score of at least 0.8: JPEG q40 or worse, a blur of 1.5 px or more, or enlarged 2x or
    more with bilinear."""
    size_moves: float
    """Mean change of the score at another size."""
    encoding_moves: float
    """Mean change of the score by JPEG q95."""

    def __str__(self) -> str:
        ladders = "  ".join(f"{name} {value:.3f}" for name, value in self.spearman.items())
        return (
            f"clean >= {PRINTABLE_SCORE}: {self.clean_above:.1%}  bad >= {PRINTABLE_SCORE}: {self.bad_above:.1%}"
            f"  another size {self.size_moves:.3f}  q95 {self.encoding_moves:.3f}\n  {ladders}"
        )


def compute_figures(rows: pd.DataFrame) -> Figures:
    """Compute the figures of rows with `base`, `ladder`, `rung` and `score`."""
    clean = rows[rows["ladder"] == "clean"].set_index("base")["score"]
    bad = (
        ((rows["ladder"] == "jpeg") & (rows["rung"] >= 4))
        | ((rows["ladder"] == "blur") & (rows["rung"] >= 3))
        | ((rows["ladder"] == "down-up") & (rows["rung"] >= 3))
    )
    return Figures(
        spearman={
            str(ladder): _spearman(part, clean)
            for ladder, part in rows.groupby("ladder")
            if ladder not in _SEPARATE_LADDERS
        },
        clean_above=float((clean >= PRINTABLE_SCORE).mean()),
        bad_above=float((rows[bad]["score"] >= PRINTABLE_SCORE).mean()),
        size_moves=_mean_change(rows[rows["ladder"] == "size"], clean),
        encoding_moves=_mean_change(rows[rows["ladder"] == "q95"], clean),
    )


def _spearman(ladder: pd.DataFrame, clean: "pd.Series[float]") -> float:
    found = []
    for base, rungs in ladder.groupby("base"):
        severities = pd.Series(np.r_[0, rungs["rung"]])
        found.append(-severities.rank().corr(pd.Series(np.r_[clean[base], rungs["score"]]).rank()))
    return float(np.nanmean(found))


def _mean_change(rows: pd.DataFrame, clean: "pd.Series[float]") -> float:
    return float((rows["score"] - rows["base"].map(clean)).abs().mean())
