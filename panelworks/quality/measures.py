"""All measures of a page as one row of numbers, and the network that maps them to scores."""

from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Final

import cv2
import numpy as np
from safetensors import safe_open

from panelworks.pictures.view import Floats, View
from panelworks.quality.edges import (
    compute_residual,
    measure_grain,
    measure_ringing,
    measure_rises,
    measure_spectrum,
)
from panelworks.quality.patterns import (
    horizontal_steps,
    measure_bands,
    measure_blocks,
    measure_dots,
    measure_levels,
    measure_stairs,
)

_MIN_SIDE_PIXELS: Final = 16


def measure_view(view: View) -> dict[str, float]:
    """Measure a view. The result has each measure by name; a flat or tiny view has neutral values."""
    luma = view.luma
    if min(luma.shape) < _MIN_SIDE_PIXELS:
        pad = tuple((0, max(0, _MIN_SIDE_PIXELS - side)) for side in luma.shape)
        luma = np.pad(luma, pad, mode="edge")
        view = View(luma, None)
    whole = luma.astype(np.uint8)
    steepness, edges = measure_rises(whole)
    residue = compute_residual(luma)
    steps = horizontal_steps(whole)
    return {
        **steepness,
        **measure_spectrum(luma, edges),
        **measure_bands(luma),
        **measure_grain(whole, residue),
        **measure_ringing(residue, edges),
        **measure_blocks(whole),
        **measure_stairs(whole),
        **measure_dots(view),
        **measure_levels(view),
        "flat": 1 - cv2.countNonZero(steps) / steps.size,
        "extreme": 1 - cv2.countNonZero(cv2.inRange(whole, 8, 247)) / whole.size,
    }


def average_measures(measured: Iterable[dict[str, float]]) -> dict[str, float]:
    """Average the measures of several views. Edge measures are weighted by the number of edges."""
    rows = list(measured)
    weights = np.array([row["edges"] for row in rows]) + 1e-6
    return {
        name: float(
            np.average(
                [row[name] for row in rows],
                weights=weights if name.startswith(("rise", "halo", "octave_edge")) else None,
            )
        )
        for name in rows[0]
    }


def to_vector(measured: dict[str, float], names: Iterable[str]) -> Floats:
    """Return the measures in a fixed order."""
    return np.array([measured[name] for name in names], dtype=np.float32)


_HEAD_FILE: Final = Path(__file__).with_name("head.safetensors")
_MAX_DEVIATIONS: Final = 6.0
"""Limit of a normalised measure in standard deviations, so that a single unusual measure does not decide."""


class Head:
    """A small network that maps the measures of a page to scores in [0, 1] for each component."""

    def __init__(
        self, arrays: dict[str, Floats], measures: tuple[str, ...], components: tuple[str, ...]
    ) -> None:
        self._arrays, self.measures, self.components = arrays, measures, components

    def scores(self, measured: dict[str, float]) -> dict[str, float]:
        """Score a page with these measures."""
        arrays = self._arrays
        offset = (to_vector(measured, self.measures) - arrays["mean"]) / arrays["deviation"]
        hidden = np.tanh(
            arrays["first"] @ np.clip(offset, -_MAX_DEVIATIONS, _MAX_DEVIATIONS) + arrays["first_bias"]
        )
        values = (1 / (1 + np.exp(-(arrays["second"] @ hidden + arrays["second_bias"])))) ** arrays["stretch"]
        return {name: float(value) for name, value in zip(self.components, values, strict=True)}


@lru_cache(maxsize=1)
def load_head() -> Head:
    """Load the bundled head, which was fitted on drawn pages."""
    with safe_open(_HEAD_FILE, "numpy") as file:
        metadata = file.metadata()
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
    return Head(arrays, tuple(metadata["measures"].split()), tuple(metadata["components"].split()))
