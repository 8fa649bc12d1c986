"""From what was measured to scores: a small network of two layers, fitted by `training/calibrate.py`."""

from functools import lru_cache
from pathlib import Path
from typing import Final

import numpy as np
from safetensors import safe_open

from panelworks.quality.measures import vector
from panelworks.quality.view import Floats

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
