"""Networks: the interface that all runtimes implement, and the cache of loaded networks."""

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt

logger = logging.getLogger(__name__)

Tensor = npt.NDArray[np.float32]
"""NxCxHxW sRGB values, nominally in [0, 1]."""


class Network(Protocol):
    """A loaded network. Calls are stateless: a picture does not influence the next one."""

    scale: int
    """Ratio of output to input size."""
    channels: int
    """Channels of input and output: 3 for colour, 1 for gray."""
    margin: int
    """Source pixels around a tile that noticeably influence its result."""
    window: int | None
    """Side of the only square input that the network accepts; None if it accepts any size."""
    alignment: int
    """Tiles must start at multiples of this number of pixels."""
    bytes_per_pixel: int
    """Approximate working memory for each source pixel."""
    device: str
    """Where the network runs, for logs: `cpu`, `cuda`, `mps`, `openvino`."""
    precision: str
    """Numeric precision: `fp32`, `bf16` or `fp16`."""
    bytes: int
    """Approximate memory of the weights."""

    def __call__(self, tiles: Tensor) -> Tensor:
        """Upscale tiles, NxCxHxW to NxCx(H*scale)x(W*scale). The caller may modify the result.

        Raises:
            ResourceExhausted: the device has too little memory for tiles of this size.
        """
        ...

    def adapt_to_page(self, samples: Iterable[Tensor]) -> "Network":
        """Return the network for one page, given sample tiles of it: itself, unless it pools over whole inputs."""
        ...

    def free_memory(self) -> int:
        """Free bytes of the device's memory."""
        ...

    def close(self) -> None:
        """Release the memory. The network must not be called afterwards."""
        ...


@dataclass
class _CachedNetwork:
    network: Network
    used_at: float
    users: int = 0


class NetworkCache:
    """Loaded networks. Unused ones are kept for some time; the least recently used are freed first.

    With `seconds` 0 each network is loaded for a request and freed after it. A network in use is never freed.
    Thread-safe.
    """

    def __init__(self, seconds: float, max_bytes: int, clock: Callable[[], float] = time.monotonic) -> None:
        """Keep unused networks for `seconds` and in at most `max_bytes` of memory."""
        self._seconds: Final = seconds
        self._max_bytes: Final = max_bytes
        self._clock: Final = clock
        self._entries: OrderedDict[Hashable, _CachedNetwork] = OrderedDict()
        self._lock = threading.Lock()
        self._timer: threading.Timer | None = None
        self._load_locks: dict[Hashable, threading.Lock] = {}

    @contextmanager
    def borrow(self, key: Hashable, load: Callable[[], Network]) -> Iterator[Network]:
        """Provide the network of a key for a block. It is loaded if it is not in the cache."""
        entry = self._acquire(key, load)
        try:
            yield entry.network
        finally:
            with self._lock:
                entry.users -= 1
                entry.used_at = self._clock()
                self._evict()
                self._schedule_eviction()

    def free_expired(self) -> None:
        """Free networks that were not used for `seconds`."""
        with self._lock:
            self._evict()

    def free_unused(self) -> None:
        """Free all networks that are not in use."""
        with self._lock:
            for key in [key for key, entry in self._entries.items() if not entry.users]:
                self._free(key)

    @property
    def keys(self) -> tuple[Hashable, ...]:
        """Keys of the cached networks, least recently used first."""
        with self._lock:
            return tuple(self._entries)

    def _acquire(self, key: Hashable, load: Callable[[], Network]) -> _CachedNetwork:
        with self._lock:
            load_lock = self._load_locks.setdefault(key, threading.Lock())
        with load_lock:  # two threads that need the same network load it once
            with self._lock:
                self._evict()
                entry = self._entries.get(key)
                if entry is not None:
                    entry.users += 1
                    self._entries.move_to_end(key)
                    return entry
            entry = _CachedNetwork(load(), self._clock(), users=1)
            with self._lock:
                self._entries[key] = entry
                self._evict()
            return entry

    def _evict(self) -> None:
        now = self._clock()
        for key in [
            key
            for key, entry in self._entries.items()
            if not entry.users and now - entry.used_at >= self._seconds
        ]:
            self._free(key)
        for key in [key for key, entry in self._entries.items() if not entry.users]:
            if sum(entry.network.bytes for entry in self._entries.values()) <= self._max_bytes:
                return
            self._free(key)

    def _schedule_eviction(self) -> None:
        """Start a timer that frees networks which are not requested again."""
        if self._entries and self._timer is None:
            self._timer = threading.Timer(self._seconds + 1, self._evict_on_timer)
            self._timer.daemon = True
            self._timer.start()

    def _evict_on_timer(self) -> None:
        with self._lock:
            self._timer = None
            self._evict()
            self._schedule_eviction()

    def _free(self, key: Hashable) -> None:
        self._entries.pop(key).network.close()
        logger.info("freed a network")
