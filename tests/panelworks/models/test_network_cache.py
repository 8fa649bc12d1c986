"""Which networks stay in memory, and for how long."""

import threading
import time
from collections.abc import Iterable

import numpy as np
import pytest

from panelworks.models.network import Network, NetworkCache, Tensor


class Weight:
    """A network that only has a size."""

    scale = channels = margin = alignment = bytes_per_pixel = 1
    window: int | None = None
    device = precision = "test"

    def __init__(self, size: int) -> None:
        self.bytes = size
        self.closed = False

    def __call__(self, tiles: Tensor) -> Tensor:
        return np.zeros(1, np.float32)

    def adapt_to_page(self, samples: Iterable[Tensor]) -> Network:
        return self

    def free_memory(self) -> int:
        return 0

    def close(self) -> None:
        self.closed = True


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_with_zero_seconds_nothing_stays() -> None:
    cache, network = NetworkCache(0, 100), Weight(1)
    with cache.borrow("a", lambda: network) as borrowed:
        assert borrowed is network
        assert cache.keys == ("a",)
    assert network.closed
    assert not cache.keys


def test_unused_networks_expire() -> None:
    clock = Clock()
    cache, network = NetworkCache(10, 100, clock), Weight(1)
    for _ in range(2):
        with cache.borrow("a", lambda: network):
            clock.now += 5
    clock.now += 9
    cache.free_expired()
    assert not network.closed
    clock.now += 2
    cache.free_expired()
    assert network.closed


def test_the_least_recently_used_are_freed_first() -> None:
    cache = NetworkCache(1000, 100)
    networks = {name: Weight(40) for name in "abc"}
    for name in "abac":
        with cache.borrow(name, lambda name=name: networks[name]):  # type: ignore[misc]
            pass
    assert cache.keys == ("a", "c")
    assert networks["b"].closed


def test_a_network_in_use_is_not_freed() -> None:
    cache = NetworkCache(0, 0)
    first, second = Weight(10), Weight(10)
    with cache.borrow("a", lambda: first), cache.borrow("b", lambda: second):
        cache.free_expired()
        assert not first.closed
        assert not second.closed
    assert first.closed
    assert second.closed


def test_concurrent_requests_load_a_network_once() -> None:
    cache, loads = NetworkCache(10, 100), []

    def load() -> Weight:
        loads.append(1)
        time.sleep(0.05)
        return Weight(1)

    def use() -> None:
        with cache.borrow("a", load):
            time.sleep(0.01)

    threads = [threading.Thread(target=use) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(loads) == 1


def test_a_failed_load_does_not_block_the_next_one() -> None:
    cache = NetworkCache(10, 100)

    def fail() -> Weight:
        raise MemoryError

    for _ in range(2):
        with pytest.raises(MemoryError), cache.borrow("a", fail):
            pass
    with cache.borrow("a", lambda: Weight(1)):
        assert cache.keys == ("a",)


def test_an_expired_network_is_loaded_once_and_all_are_closed() -> None:
    clock = Clock()
    cache, loaded = NetworkCache(10, 100, clock), []

    def load() -> Weight:
        time.sleep(0.02)
        loaded.append(Weight(1))
        return loaded[-1]

    def use() -> None:
        with cache.borrow("a", load):
            time.sleep(0.01)

    use()
    clock.now += 400
    threads = [threading.Thread(target=use) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(loaded) == 2
    clock.now += 400
    cache.free_expired()
    assert all(network.closed for network in loaded)


def test_expired_networks_are_freed_without_a_request() -> None:
    cache, network = NetworkCache(0.05, 100), Weight(1)
    with cache.borrow("a", lambda: network):
        pass
    deadline = time.monotonic() + 10
    while not network.closed and time.monotonic() < deadline:
        time.sleep(0.05)
    assert network.closed
