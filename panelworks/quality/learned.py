"""Learned and classic metrics of the package pyiqa, as further scorers of a report.

They were trained on photographs, so they are shown and recorded but never counted: the technical score means
what it means (docs/explanation/quality.md) because of our own components alone. Opt in with PANELWORKS_METRICS.
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
class Scale:
    """What a metric's numbers mean: 0 at `worst`, 1 at `best`, linear between."""

    worst: float
    best: float

    def __call__(self, value: float) -> float:
        return float(np.clip((value - self.worst) / (self.best - self.worst), 0.0, 1.0))


SCALES: Final[dict[LearnedMetricName, Scale]] = {
    "musiq": Scale(0, 100),
    "clipiqa+": Scale(0, 1),
    "topiq_nr": Scale(0, 1),
    "cnniqa": Scale(0, 1),
    "niqe": Scale(15, 2),
    "brisque": Scale(100, 0),
    "piqe": Scale(100, 0),
}
"""The ranges that pyiqa states; NIQE's, which has no end, from what its authors report of clean and spoilt pictures."""

_LEAST_SIDE: Final = 96
"""Side from which every metric has something to look at; NIQE takes blocks of that size."""


class LearnedMetric:
    """One metric of pyiqa. Its network is built when the first page comes."""

    def __init__(self, name: LearnedMetricName, settings: Settings) -> None:
        self._name, self._settings = name, settings
        self._turn = threading.Lock()
        self._metric: Any = None

    @property
    def weights(self) -> Mapping[str, float]:
        return {self._name: 0.0}

    def scores(self, views: Sequence[View]) -> dict[str, float]:
        """The mean over the views that are large enough; 1 where there is none.

        Raises:
            Misconfigured: `missing_package`, `weights_missing`, `unsupported_model`.
            Transient: `weights_unavailable`.
        """
        shown = [view for view in views if min(view.luma.shape) >= _LEAST_SIDE]
        with self._turn:
            if self._metric is None:
                with redirect_stdout(sys.stderr):  # pyiqa prints what it loads
                    self._metric = _build(self._name, self._settings)
            values = [_measured(self._metric, view) for view in shown]
        return {self._name: SCALES[self._name](float(np.mean(values))) if values else 1.0}


@lru_cache(maxsize=1)
def learned_scorers(settings: Settings) -> tuple[LearnedMetric, ...]:
    """The metrics that the settings ask for, kept with their networks."""
    return tuple(LearnedMetric(name, settings) for name in settings.metrics)


def _measured(metric: Any, view: View) -> float:
    import torch

    pixels = np.stack([view.luma] * 3, axis=2) if view.colour is None else view.colour
    tensor = torch.from_numpy(np.ascontiguousarray(pixels, dtype=np.float32)).permute(2, 0, 1)[None] / 255
    with torch.inference_mode():
        return float(metric(tensor.clamp(0, 1)))


def _build(name: LearnedMetricName, settings: Settings) -> Any:
    """The metric with weights that we fetched and checked; pyiqa itself downloads nothing."""
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
    path = _downloaded(card, settings)
    try:
        if name == "clipiqa+":
            backbone = download_weights(card_for(card.parts[0]), settings)
            metric = create_metric(name, device=_cpu(), pretrained=False, backbone=str(backbone))
            metric.net.prompt_learner.ctx.data = _harmless(path)
            return metric
        if path.suffix != ".mat":
            _harmless(path)
        options = {"backbone_pretrain": False} if name == "topiq_nr" else {}
        return create_metric(name, device=_cpu(), pretrained_model_path=str(path), **options)
    except (RuntimeError, KeyError, ValueError, TypeError, UnpicklingError) as error:
        raise Misconfigured("unsupported_model", f"{path} does not hold the weights of {name}.") from error


def _downloaded(card: ModelCard, settings: Settings) -> Path:
    """The weight file, downloaded where it is missing; its publisher states no hash, so that of the first file counts."""
    download_missing([card], settings)
    return download_weights(card.model_copy(update={"sha256": record_digest(card, settings)}), settings)


def _harmless(path: Path) -> Any:
    """What the file holds, read in a way that runs no code; pyiqa reads it in one that would.

    Raises:
        UnpicklingError: it holds more than numbers.
    """
    import torch

    return torch.load(path, map_location="cpu", weights_only=True)


def _cpu() -> Any:
    import torch

    return torch.device("cpu")
