"""Which networks stay in memory, and for how long."""

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from panelworks.models.network import Network

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
