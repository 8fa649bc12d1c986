"""All that is measured of a page before it is scored, as one row of numbers."""

from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Final

import numpy as np
from safetensors import safe_open

from panelworks.pictures.view import Floats, View
from panelworks.quality.edges import grain, residual, ringing, rises, spectrum
from panelworks.quality.patterns import blocks, dots, levels, stairs

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


_FILE: Final = Path(__file__).with_name("head.safetensors")
_FARTHEST: Final = 6.0
"""Standard deviations beyond which a measure counts as so far off: what was never seen does not decide alone."""


class Head:
    """Scores by component, each in [0, 1], from the measures of a page."""

    def __init__(
        self, arrays: dict[str, Floats], measures: tuple[str, ...], components: tuple[str, ...]
    ) -> None:
        self._arrays, self.measures, self.components = arrays, measures, components

    def scores(self, measured: dict[str, float]) -> dict[str, float]:
        """The scores of a page with these measures."""
        arrays = self._arrays
        offset = (vector(measured, self.measures) - arrays["mean"]) / arrays["deviation"]
        hidden = np.tanh(arrays["first"] @ np.clip(offset, -_FARTHEST, _FARTHEST) + arrays["first_bias"])
        values = (1 / (1 + np.exp(-(arrays["second"] @ hidden + arrays["second_bias"])))) ** arrays["stretch"]
        return {name: float(value) for name, value in zip(self.components, values, strict=True)}


@lru_cache(maxsize=1)
def drawn_head() -> Head:
    """The head that was fitted on drawn pages, as it ships."""
    with safe_open(_FILE, "numpy") as file:
        told = file.metadata()
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
    return Head(arrays, tuple(told["measures"].split()), tuple(told["components"].split()))
