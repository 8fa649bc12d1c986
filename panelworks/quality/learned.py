"""Learned and classic metrics of the package pyiqa, as additional scorers of a report.

They were trained on photographs. Therefore they are shown and recorded but never counted: the technical score depends
on the built-in components only (docs/explanation/quality.md). PANELWORKS_METRICS enables them.
"""

import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, Final

import numpy as np

from panelworks.domain.cards import ModelCard
from panelworks.errors import Misconfigured
from panelworks.models.registry import card_for
from panelworks.models.weights import download_missing, download_weights, record_digest
from panelworks.pictures.view import View
from panelworks.settings import LearnedMetricName, Settings


@dataclass(frozen=True)
class ScoreRange:
    """Range of a metric: it maps linearly to 0 at `worst` and 1 at `best`."""

    worst: float
    best: float

    def __call__(self, value: float) -> float:
        return float(np.clip((value - self.worst) / (self.best - self.worst), 0.0, 1.0))


SCORE_RANGES: Final[dict[LearnedMetricName, ScoreRange]] = {
    "musiq": ScoreRange(0, 100),
    "clipiqa+": ScoreRange(0, 1),
    "topiq_nr": ScoreRange(0, 1),
    "cnniqa": ScoreRange(0, 1),
    "niqe": ScoreRange(15, 2),
    "brisque": ScoreRange(100, 0),
    "piqe": ScoreRange(100, 0),
}
"""The ranges stated by pyiqa. NIQE is unbounded; its range is what its authors report for clean and damaged
pictures."""

_MIN_SIDE_PIXELS: Final = 96
"""Minimum side for all metrics. NIQE uses blocks of this size."""


class LearnedMetric:
    """One metric of pyiqa. Its network is loaded for the first page."""

    def __init__(self, name: LearnedMetricName, settings: Settings) -> None:
        self._name, self._settings = name, settings
        self._turn = threading.Lock()
        self._metric: Any = None

    @property
    def weights(self) -> Mapping[str, float]:
        return {self._name: 0.0}

    def scores(self, views: Sequence[View]) -> dict[str, float]:
        """The mean over the views that are large enough; 1 if there are none.

        Raises:
            Misconfigured: `missing_package`, `weights_missing`, `unsupported_model`.
            Transient: `weights_unavailable`.
        """
        shown = [view for view in views if min(view.luma.shape) >= _MIN_SIDE_PIXELS]
        with self._turn:
            if self._metric is None:
                with redirect_stdout(sys.stderr):  # pyiqa prints what it loads
                    self._metric = _build_metric(self._name, self._settings)
            values = [_measure(self._metric, view) for view in shown]
        return {self._name: SCORE_RANGES[self._name](float(np.mean(values))) if values else 1.0}


@lru_cache(maxsize=1)
def learned_scorers(settings: Settings) -> tuple[LearnedMetric, ...]:
    """The metrics in the settings. They are cached together with their networks."""
    return tuple(LearnedMetric(name, settings) for name in settings.metrics)


def _measure(metric: Any, view: View) -> float:
    import torch

    pixels = np.stack([view.luma] * 3, axis=2) if view.colour is None else view.colour
    tensor = torch.from_numpy(np.ascontiguousarray(pixels, dtype=np.float32)).permute(2, 0, 1)[None] / 255
    with torch.inference_mode():
        return float(metric(tensor.clamp(0, 1)))


def _build_metric(name: LearnedMetricName, settings: Settings) -> Any:
    """Build the metric with checked weights. pyiqa itself downloads nothing."""
    try:
        from pyiqa import create_metric
    except ImportError as error:
        raise Misconfigured(
            "missing_package",
            f"The metric {name} needs the package pyiqa: pip install 'panelworks[iqa]' (its licence is"
            " non-commercial).",
        ) from error
    if name == "piqe":
        return create_metric(name, device=_cpu())
    card = card_for(name)
    path = _download_metric_weights(card, settings)
    try:
        if name == "clipiqa+":
            backbone = download_weights(card_for(card.parts[0]), settings)
            metric = create_metric(name, device=_cpu(), pretrained=False, backbone=str(backbone))
            metric.net.prompt_learner.ctx.data = _read_weights_safely(path)
            return metric
        if path.suffix != ".mat":
            _read_weights_safely(path)
        options = {"backbone_pretrain": False} if name == "topiq_nr" else {}
        return create_metric(name, device=_cpu(), pretrained_model_path=str(path), **options)
    except (RuntimeError, KeyError, ValueError, TypeError, UnpicklingError) as error:
        raise Misconfigured("unsupported_model", f"{path} does not contain the weights of {name}.") from error


def _download_metric_weights(card: ModelCard, settings: Settings) -> Path:
    """Return the weight file, downloaded if it is missing. Its hash is not published: that of the first file is used."""
    download_missing([card], settings)
    return download_weights(card.model_copy(update={"sha256": record_digest(card, settings)}), settings)


def _read_weights_safely(path: Path) -> Any:
    """Read the file without running code in it; pyiqa would run it.

    Raises:
        UnpicklingError: it contains more than numbers.
    """
    import torch

    return torch.load(path, map_location="cpu", weights_only=True)


def _cpu() -> Any:
    import torch

    return torch.device("cpu")
