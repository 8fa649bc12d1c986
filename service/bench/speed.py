"""Seconds to enlarge a page with our engine and the package, alternating in one run, and the difference of the pixels."""

import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from panelworks.errors import Misconfigured
from panelworks.models.loading import Recipe, load_network
from panelworks.models.tiling import choose_batch_size, choose_tile_size, run_pages
from panelworks.pictures.picture import Pixels
from panelworks.settings import Settings
from service.bench.subjects import SUBJECTS, Subject, page_of, weights_of

_UNTILED = 4096


def compare_all(settings: Settings, folder: Path, runs: int) -> list[dict[str, Any]]:
    """One row a network."""
    return [_compare(subject, settings, folder, runs) for subject in SUBJECTS]


def _compare(subject: Subject, settings: Settings, folder: Path, runs: int) -> dict[str, Any]:
    card, official = weights_of(subject, settings, folder)
    pixels = page_of(subject.side, subject.side).pixels
    network = load_network(Recipe(card), settings)
    exact = load_network(Recipe(card, "fp32"), settings)
    tile = choose_tile_size(network, settings.tile)

    def ours() -> Pixels:
        return next(run_pages(network, [pixels], tile, choose_batch_size(network, tile)))

    sides: dict[str, Callable[[], Pixels]] = {"ours": ours}
    theirs = _theirs(card, settings)
    if theirs is not None:
        sides["theirs"] = lambda: theirs(pixels)
    seconds, results = _alternating(sides, runs)
    reference = next(run_pages(exact, [pixels], _UNTILED))
    row: dict[str, Any] = {
        "network": subject.name,
        "weights": "official" if official else "random, official shape",
        "side": subject.side,
        "runtime": network.device,
        "precision": network.precision,
        "tile": tile,
        "seconds": round(seconds["ours"], 3),
        "agreement_db": _decibels(results["ours"], reference),
    }
    if "theirs" in seconds:
        difference = np.abs(results["theirs"].astype(int) - reference)
        row |= {
            "realesrgan_seconds": round(seconds["theirs"], 3),
            "times_faster": round(seconds["theirs"] / seconds["ours"], 2),
            "fp32_difference_levels": int(difference.max()),
        }
    return row


def _theirs(card: Any, settings: Settings) -> Callable[[Pixels], Pixels] | None:
    """The package `realesrgan`, untiled as its script runs it; None where it is not installed."""
    try:
        from panelworks.models.upstream import enlarge, real_esrganer

        upsampler = real_esrganer(card, settings, 0)
    except (ImportError, Misconfigured):
        return None
    return lambda pixels: enlarge(upsampler, pixels)


def _alternating(
    sides: dict[str, Callable[[], Pixels]], runs: int
) -> tuple[dict[str, float], dict[str, Pixels]]:
    """Median seconds and last result of each side, after one run that is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    results = {name: run() for name, run in sides.items()}
    for _ in range(runs):
        for name, run in sides.items():
            began = time.perf_counter()
            results[name] = run()
            seconds[name].append(time.perf_counter() - began)
    return {name: statistics.median(times) for name, times in seconds.items()}, results


def _decibels(first: Pixels, second: Pixels) -> float:
    error = float(np.mean((first.astype(float) - second.astype(float)) ** 2))
    return 99.0 if error == 0 else round(10 * float(np.log10(255**2 / error)), 1)
