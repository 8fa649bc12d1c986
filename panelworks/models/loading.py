"""Loading a network: the runtime is chosen by architecture and device, the precision by a check."""

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final, Literal

from panelworks.domain.cards import ModelCard
from panelworks.errors import Misconfigured
from panelworks.models.network import Network
from panelworks.models.precision import ENOUGH, PrecisionBook, agreement
from panelworks.models.weight_files import Arrays, blended, read_arrays
from panelworks.models.weights import weights_path
from panelworks.settings import Settings

logger = logging.getLogger(__name__)


@dataclass
class _Held:
    network: Network
    used: float
    users: int = 0


class Residency:
    """Networks in memory: lent for a block, kept for a while after, the longest unused go first.

    With `seconds` 0 nothing remains: each is loaded for a request and freed after it. Thread-safe;
    a network that somebody uses is never freed.
    """

    def __init__(self, seconds: float, limit: int, clock: Callable[[], float] = time.monotonic) -> None:
        """Keep unused networks for `seconds`, and at most `limit` bytes of them."""
        self._seconds: Final = seconds
        self._limit: Final = limit
        self._clock: Final = clock
        self._held: OrderedDict[Hashable, _Held] = OrderedDict()
        self._lock = threading.Lock()
        self._later: threading.Timer | None = None
        self._loading: dict[Hashable, threading.Lock] = {}

    @contextmanager
    def lent(self, key: Hashable, load: Callable[[], Network]) -> Iterator[Network]:
        """The network of a key, loaded if it is not here."""
        held = self._borrow(key, load)
        try:
            yield held.network
        finally:
            with self._lock:
                held.users -= 1
                held.used = self._clock()
                self._tidy()
                self._look_later()

    def tidy(self) -> None:
        """Free what was not used for long enough."""
        with self._lock:
            self._tidy()

    def make_room(self) -> None:
        """Free all that nobody uses: memory is needed for something else."""
        with self._lock:
            for key in [key for key, one in self._held.items() if not one.users]:
                self._free(key)

    @property
    def names(self) -> tuple[Hashable, ...]:
        """Keys of what is held, the longest unused first."""
        with self._lock:
            return tuple(self._held)

    def _borrow(self, key: Hashable, load: Callable[[], Network]) -> _Held:
        with self._lock:
            gate = self._loading.setdefault(key, threading.Lock())
        with gate:  # two who want the same network load it once
            with self._lock:
                self._tidy()
                held = self._held.get(key)
                if held is not None:
                    held.users += 1
                    self._held.move_to_end(key)
                    return held
            held = _Held(load(), self._clock(), users=1)
            with self._lock:
                self._held[key] = held
                self._tidy()
            return held

    def _tidy(self) -> None:
        now = self._clock()
        for key in [
            key for key, one in self._held.items() if not one.users and now - one.used >= self._seconds
        ]:
            self._free(key)
        for key in [key for key, one in self._held.items() if not one.users]:
            if sum(one.network.bytes for one in self._held.values()) <= self._limit:
                return
            self._free(key)

    def _look_later(self) -> None:
        """Free in time what nobody asks for any more."""
        if self._held and self._later is None:
            self._later = threading.Timer(self._seconds + 1, self._look)
            self._later.daemon = True
            self._later.start()

    def _look(self) -> None:
        with self._lock:
            self._later = None
            self._tidy()
            self._look_later()

    def _free(self, key: Hashable) -> None:
        self._held.pop(key).network.close()
        logger.info("freed a network")


Precision = Literal["auto", "fp32", "bf16", "fp16"]
_LARGE: Final = 16 * 2**20
"""Bytes of weights from which compiled networks are kept on disk; smaller ones compile in no time."""


@dataclass(frozen=True)
class Recipe:
    """What makes a network: its weights, how it computes, and what is blended into it."""

    card: ModelCard
    precision: Precision = "auto"
    partner: ModelCard | None = None
    """Whose weights are mixed in."""
    share: float = 1.0
    """Share of the card's own weights."""

    @property
    def key(self) -> tuple[str, str, str, float]:
        """What it is by its contents."""
        return (self.card.sha256, self.precision, self.partner.sha256 if self.partner else "", self.share)


@contextmanager
def network_for(recipe: Recipe, settings: Settings) -> Iterator[Network]:
    """A network for a block, from memory when it is held there.

    Raises:
        Transient: the weights could not be downloaded.
        Misconfigured: the file is not a usable network.
        ResourceExhausted: the device has no room for it.
    """
    key = (recipe.key, settings.device, settings.threads, settings.runtime)
    with residency(settings.keep_models_seconds, settings.keep_models_bytes).lent(
        key, lambda: load_network(recipe, settings)
    ) as network:
        yield network


@cache
def residency(seconds: float, limit: int) -> Residency:
    """What this process holds, under one policy."""
    return Residency(seconds, limit)


def free_unused(settings: Settings) -> None:
    """Free the networks that this process holds and nobody uses."""
    residency(settings.keep_models_seconds, settings.keep_models_bytes).make_room()


def load_network(recipe: Recipe, settings: Settings) -> Network:
    """Load a network, held by nobody. Raises as `network_for` does."""
    arrays = _arrays(recipe, settings)
    network = _checked(recipe, arrays, settings)
    logger.info("loaded %s on %s in %s", recipe.card.name, network.device, network.precision)
    return network


def _arrays(recipe: Recipe, settings: Settings) -> Arrays:
    arrays = read_arrays(weights_path(recipe.card, settings))
    if recipe.partner is None or recipe.share == 1:
        return arrays
    return blended(arrays, read_arrays(weights_path(recipe.partner, settings)), recipe.share)


def _checked(recipe: Recipe, arrays: Arrays, settings: Settings) -> Network:
    """The network in the precision asked for; `auto` takes a fast one only if it agrees with fp32."""
    network = _built(arrays, settings, recipe.precision)
    if recipe.precision != "auto" or network.precision == "fp32":
        return network
    book = PrecisionBook(settings.cache_dir / "precision.json")
    question = " ".join((*map(str, recipe.key), network.device, network.precision))
    good = book.good(question)
    if good:
        return network
    exact = _built(arrays, settings, "fp32")
    if good is None:
        decibels = agreement(network, exact)
        book.write(question, decibels)
        if decibels >= ENOUGH:
            exact.close()
            return network
        logger.warning(
            "%s in %s differs from fp32 (%.1f dB): fp32 is taken",
            recipe.card.name,
            network.precision,
            decibels,
        )
    network.close()
    return exact


def _built(arrays: Arrays, settings: Settings, precision: Precision) -> Network:
    """Compact networks and RRDBNets run on OpenVINO on a CPU, everything else on torch.

    Torch takes seconds to import, so on a CPU the former never touch it: `auto` asks torch for an
    accelerator only where a driver's device file says that there may be one.
    """
    from panelworks.models.openvino_network import OpenVinoNetwork, has_graph

    dimensions = {name: array.ndim for name, array in arrays.items()}
    if settings.runtime != "torch" and has_graph(dimensions) and _on_cpu(settings):
        large = sum(array.nbytes for array in arrays.values()) > _LARGE
        cache = settings.cache_dir / "openvino" if large else None
        return OpenVinoNetwork(arrays, precision=precision, threads=settings.threads, cache=cache)
    if settings.runtime == "openvino":
        raise Misconfigured("no_runtime", "OpenVINO runs compact networks and RRDBNets, on the CPU only.")
    return _with_torch(arrays, settings, precision)


def _with_torch(arrays: Arrays, settings: Settings, precision: Precision) -> Network:
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


def _on_cpu(settings: Settings) -> bool:
    if settings.device == "cpu" or (settings.device == "auto" and not _may_have_accelerator()):
        return True
    from panelworks.models.torch_network import pick_device

    return pick_device(settings.device).type == "cpu"


def _may_have_accelerator() -> bool:
    """Is there a device file of an NVIDIA driver, or a Mac (whose GPU needs none)?"""
    return Path("/dev/nvidiactl").exists() or Path("/System/Library/Frameworks/Metal.framework").exists()
