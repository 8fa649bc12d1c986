"""Loading a network: the runtime follows from architecture and device, the precision from a check.

Half precision overflows in some networks, which then return black or speckled pages. Therefore a network that would
run in bf16 or fp16 is first compared with itself in fp32 on a small picture. The result is stored for later processes.
"""

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final, Literal

import numpy as np
from pydantic import TypeAdapter

from panelworks.domain.cards import ModelCard
from panelworks.errors import Misconfigured
from panelworks.models.network import Network, NetworkCache, Tensor
from panelworks.models.weight_files import Arrays, blended, read_arrays
from panelworks.models.weights import require_weights
from panelworks.settings import Settings
from panelworks.storage.atomic import write_atomically

logger = logging.getLogger(__name__)
Precision = Literal["auto", "fp32", "bf16", "fp16"]
MIN_AGREEMENT_DECIBELS: Final = 45.0
"""Agreement with fp32 from which a precision is used: the differences are invisible."""
_MIN_CACHED_WEIGHT_BYTES: Final = 16 * 2**20
"""Compiled networks are stored on disk from this size of weights. Smaller ones compile quickly."""
_PROBE_SIDE: Final = 64
_DECIBELS_OF_CHECKS: Final = TypeAdapter(dict[str, float])


@dataclass(frozen=True)
class Recipe:
    """What determines a network: its weights, its precision and the weights blended into it."""

    card: ModelCard
    precision: Precision = "auto"
    partner: ModelCard | None = None
    """Network whose weights are blended in."""
    share: float = 1.0
    """Share of the card's own weights."""

    @property
    def key(self) -> tuple[str, str, str, float]:
        """Identity of the network by the content of its files."""
        return (self.card.sha256, self.precision, self.partner.sha256 if self.partner else "", self.share)


@contextmanager
def borrow_network(recipe: Recipe, settings: Settings) -> Iterator[Network]:
    """Provide a network for a block, from the cache of this process if possible.

    Raises:
        Misconfigured: the file is not a usable network, or `weights_missing`.
        ResourceExhausted: the device has too little memory for it.
    """
    key = (recipe.key, settings.device, settings.threads, settings.runtime)
    cache = network_cache(settings.keep_models_seconds, settings.keep_models_bytes)
    with cache.borrow(key, lambda: load_network(recipe, settings)) as network:
        yield network


@cache
def network_cache(seconds: float, max_bytes: int) -> NetworkCache:
    """The network cache of this process for these limits."""
    return NetworkCache(seconds, max_bytes)


def free_unused_networks(settings: Settings) -> None:
    """Free the networks of this process that are not in use."""
    network_cache(settings.keep_models_seconds, settings.keep_models_bytes).free_unused()


def load_network(recipe: Recipe, settings: Settings) -> Network:
    """Load a network outside of the cache. Raises as `borrow_network` does."""
    arrays = _read_weights(recipe, settings)
    network = _build_checked(recipe, arrays, settings)
    logger.info("loaded %s on %s in %s", recipe.card.name, network.device, network.precision)
    return network


def _read_weights(recipe: Recipe, settings: Settings) -> Arrays:
    arrays = read_arrays(require_weights(recipe.card, settings))
    if recipe.partner is None or recipe.share == 1:
        return arrays
    return blended(arrays, read_arrays(require_weights(recipe.partner, settings)), recipe.share)


def _build_checked(recipe: Recipe, arrays: Arrays, settings: Settings) -> Network:
    """Build the network in the requested precision. `auto` uses a fast precision only if it agrees with fp32."""
    network = _build(arrays, settings, recipe.precision)
    if recipe.precision != "auto" or network.precision == "fp32":
        return network
    checks = PrecisionChecks(settings.cache_dir / "precision.json")
    subject = " ".join((*map(str, recipe.key), network.device, network.precision))
    passed = checks.passed(subject)
    if passed:
        return network
    exact = _build(arrays, settings, "fp32")
    if passed is None:
        decibels = measure_agreement(network, exact)
        checks.store(subject, decibels)
        if decibels >= MIN_AGREEMENT_DECIBELS:
            exact.close()
            return network
        logger.warning(
            "%s uses fp32: %s differs from it (%.1f dB)", recipe.card.name, network.precision, decibels
        )
    network.close()
    return exact


def _build(arrays: Arrays, settings: Settings, precision: Precision) -> Network:
    """Build a network: compact networks and RRDBNets on a CPU with OpenVINO, all others with torch.

    Importing torch takes seconds. It is avoided on a CPU: `auto` asks torch for an accelerator only if the device file
    of a driver exists.
    """
    from panelworks.models.openvino_network import OpenVinoNetwork, has_graph

    dimensions = {name: array.ndim for name, array in arrays.items()}
    if settings.runtime != "torch" and has_graph(dimensions) and _runs_on_cpu(settings):
        is_large = sum(array.nbytes for array in arrays.values()) > _MIN_CACHED_WEIGHT_BYTES
        cache = settings.cache_dir / "openvino" if is_large else None
        return OpenVinoNetwork(arrays, precision=precision, threads=settings.threads, cache=cache)
    if settings.runtime == "openvino":
        raise Misconfigured("no_runtime", "OpenVINO runs compact networks and RRDBNets, on the CPU only.")
    return _build_with_torch(arrays, settings, precision)


def _build_with_torch(arrays: Arrays, settings: Settings, precision: Precision) -> Network:
    import torch

    from panelworks.models.torch_network import TorchNetwork, fast_precision, pick_device

    state: dict[str, torch.Tensor] = {name: torch.from_numpy(array) for name, array in arrays.items()}
    device = pick_device(settings.device)
    return TorchNetwork(
        state,
        device=device,
        precision=fast_precision(device) if precision == "auto" else precision,
        threads=settings.threads,
        compiled=settings.compile_models,
    )


def _runs_on_cpu(settings: Settings) -> bool:
    if settings.device == "cpu" or (settings.device == "auto" and not _may_have_accelerator()):
        return True
    from panelworks.models.torch_network import pick_device

    return pick_device(settings.device).type == "cpu"


def _may_have_accelerator() -> bool:
    """Whether the device file of an NVIDIA driver exists, or this is a Mac, whose GPU has none."""
    return Path("/dev/nvidiactl").exists() or Path("/System/Library/Frameworks/Metal.framework").exists()


def measure_agreement(fast: Network, exact: Network) -> float:
    """PSNR in dB between two precisions of a network on the probe picture; -inf if the output is not finite."""
    tile = probe_picture(exact.channels, exact.window or _PROBE_SIDE)
    first, second = np.clip(fast(tile), 0, 1), np.clip(exact(tile), 0, 1)
    if not np.isfinite(first).all():
        return float("-inf")
    error = float(np.mean((first.astype(np.float64) - second) ** 2))
    return float("inf") if error == 0 else -10 * float(np.log10(error))


def probe_picture(channels: int, side: int) -> Tensor:
    """A small picture with typical content of comics: a slope, paper, solid black, thin lines and dots.

    1xCxHxW in [0, 1].
    """
    down, across = np.mgrid[0:side, 0:side].astype(np.float32) / side
    picture = np.stack([across, down, 1 - across], axis=0)[:channels].copy()
    picture[:, : side // 4, : side // 2] = 1
    picture[:, side // 4 : side // 2, side // 2 :] = 0
    picture[:, :: max(2, side // 8)] = 0
    picture[:, side // 2 :, : side // 2] *= (np.indices((side - side // 2, side // 2)).sum(axis=0) % 3 > 0)[
        None
    ]
    return np.ascontiguousarray(picture[None], dtype=np.float32)


class PrecisionChecks:
    """Results of precision checks in a small file, so that each check runs once on a machine."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def passed(self, subject: str) -> bool | None:
        """Whether the check of a network passed; None if it never ran."""
        decibels = self._read().get(subject)
        return None if decibels is None else decibels >= MIN_AGREEMENT_DECIBELS

    def store(self, subject: str, decibels: float) -> None:
        """Store a result. If another process overwrites it at the same time, the check runs once more."""
        results = self._read()
        results[subject] = round(max(-1.0, min(decibels, 999.0)), 1)
        try:
            write_atomically(self._path, json.dumps(results, indent=1).encode())
        except OSError as error:
            logger.warning("precision check is not stored: %s", error)

    def _read(self) -> dict[str, float]:
        """Decibels by subject; empty if the file is missing or damaged, so that it is written again."""
        try:
            return _DECIBELS_OF_CHECKS.validate_json(self._path.read_bytes())
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            logger.warning("precision checks in %s are lost: %s", self._path, type(error).__name__)
            return {}
