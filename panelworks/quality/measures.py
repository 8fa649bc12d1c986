"""All that is measured of a page before it is scored, as one row of numbers."""

from collections.abc import Iterable
from typing import Final

import numpy as np

from panelworks.quality.dots import dots
from panelworks.quality.edges import rises, spectrum
from panelworks.quality.grain import grain, residual, ringing
from panelworks.quality.grid import blocks, levels, stairs
from panelworks.quality.view import Floats, View

_LEAST_SIDE: Final = 16


def measure(view: View) -> dict[str, float]:
    """Each measure by its name; a view without anything to measure (flat, tiny) has neutral values."""
    luma = view.luma
    if min(luma.shape) < _LEAST_SIDE:
        pad = tuple((0, max(0, _LEAST_SIDE - side)) for side in luma.shape)
        luma = np.pad(luma, pad, mode="edge")
        view = View(luma, None)
    steepness, edges = rises(luma)
    residue = residual(luma)
    flat = float((np.diff(luma, axis=1) == 0).mean())
    return {
        **steepness,
        **spectrum(luma, edges),
        **grain(luma, residue),
        **ringing(residue, edges),
        **blocks(luma),
        **stairs(luma),
        **dots(view),
        **levels(view),
        "flat": flat,
        "extreme": float(((luma < 8) | (luma > 247)).mean()),
    }


def joined(measured: Iterable[dict[str, float]]) -> dict[str, float]:
    """The mean of the measures of several views; how steep edges are counts where there are edges."""
    rows = list(measured)
    weights = np.array([row["edges"] for row in rows]) + 1e-6
    return {
        name: float(
            np.average(
                [row[name] for row in rows],
                weights=weights if name.startswith(("rise", "octave_edge")) else None,
            )
        )
        for name in rows[0]
    }


def vector(measured: dict[str, float], names: Iterable[str]) -> Floats:
    """The measures in a fixed order."""
    return np.array([measured[name] for name in names], dtype=np.float32)
