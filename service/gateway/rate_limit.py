"""How many requests a caller may make: a moving window for each caller, in bounded memory."""

import ipaddress
import math
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Final

from limits import RateLimitItem

MAX_CALLERS: Final = 10_000
"""Callers that are counted at a time; beyond, those that have made no request for the longest time are dropped."""
MAX_HITS: Final = 1_000_000
"""Requests that are remembered at a time, of all callers together: 32 MB."""
_IPV6_SUBSCRIBER_BITS: Final = 64
UNKNOWN_CALLER: Final = "unknown"


class MovingWindows:
    """Counts requests of callers; for one thread.

    Own code: the storage of `limits` keeps each caller for ever and looks at all of them with each request (5.8.0).
    """

    def __init__(self, limit: RateLimitItem, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` gives seconds."""
        self._amount: Final = limit.amount
        self._window_seconds: Final = limit.get_expiry()
        self._clock: Final = clock
        self._hits: OrderedDict[str, deque[float]] = (
            OrderedDict()
        )  # in the order of the last accepted request
        self._hit_count = 0

    def __len__(self) -> int:
        """How many callers are counted."""
        return len(self._hits)

    def hit(self, caller: str) -> int | None:
        """Count a request: None when it is accepted, else the seconds until the caller's next one is."""
        now = self._clock()
        self._drop_expired(now - self._window_seconds)
        hits = self._hits.get(caller, deque())
        while hits and hits[0] <= now - self._window_seconds:
            hits.popleft()
            self._hit_count -= 1
        if len(hits) >= self._amount:
            first = hits[0] if hits else now
            return max(1, math.ceil(first + self._window_seconds - now))
        hits.append(now)
        self._hit_count += 1
        self._hits[caller] = hits
        self._hits.move_to_end(caller)
        while len(self._hits) > MAX_CALLERS or (self._hit_count > MAX_HITS and len(self._hits) > 1):
            self._drop_first()
        return None

    def _drop_expired(self, since: float) -> None:
        while self._hits and next(iter(self._hits.values()))[-1] <= since:
            self._drop_first()

    def _drop_first(self) -> None:
        _, hits = self._hits.popitem(last=False)
        self._hit_count -= len(hits)


def counted_address(host: str | None) -> str:
    """By what a client without a key is counted: its IPv4 address, or the /64 network of its IPv6 address.

    One line has a whole /64 of IPv6 addresses. Texts that are no addresses count together.
    """
    try:
        address = ipaddress.ip_address(host or "")
    except ValueError:
        return UNKNOWN_CALLER
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.IPv6Network((int(address), _IPV6_SUBSCRIBER_BITS), strict=False))
