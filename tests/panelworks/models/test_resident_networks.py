"""What stays in memory, and for how long."""

import threading
import time
from collections.abc import Iterable

import numpy as np
import pytest

from panelworks.models.loading import Residency
from panelworks.models.network import Network, Tensor


class Weight:
    """A network that only weighs."""

    scale = channels = margin = alignment = bytes_per_pixel = 1
    window: int | None = None
    device = precision = "test"

    def __init__(self, size: int) -> None:
        self.bytes = size
        self.closed = False

    def __call__(self, tiles: Tensor) -> Tensor:
        return np.zeros(1, np.float32)

    def settled(self, samples: Iterable[Tensor]) -> Network:
        return self

    def free_memory(self) -> int:
        return 0

    def close(self) -> None:
        self.closed = True


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_per_request_leaves_nothing_behind() -> None:
    held, network = Residency(0, 100), Weight(1)
    with held.lent("a", lambda: network) as lent:
        assert lent is network
        assert held.names == ("a",)
    assert network.closed
    assert not held.names


def test_keep_alive_lasts_and_ends() -> None:
    clock = Clock()
    held, network = Residency(10, 100, clock), Weight(1)
    for _ in range(2):
        with held.lent("a", lambda: network):
            clock.now += 5
    clock.now += 9
    held.tidy()
    assert not network.closed
    clock.now += 2
    held.tidy()
    assert network.closed


def test_the_longest_unused_go_first() -> None:
    held = Residency(1000, 100)
    networks = {name: Weight(40) for name in "abc"}
    for name in "abac":
        with held.lent(name, lambda name=name: networks[name]):  # type: ignore[misc]
            pass
    assert held.names == ("a", "c")
    assert networks["b"].closed


def test_what_is_used_is_never_freed() -> None:
    held = Residency(0, 0)
    first, second = Weight(10), Weight(10)
    with held.lent("a", lambda: first), held.lent("b", lambda: second):
        held.tidy()
        assert not first.closed
        assert not second.closed
    assert first.closed
    assert second.closed


def test_two_who_want_the_same_load_it_once() -> None:
    held, loads = Residency(10, 100), []

    def load() -> Weight:
        loads.append(1)
        time.sleep(0.05)
        return Weight(1)

    def use() -> None:
        with held.lent("a", load):
            time.sleep(0.01)

    threads = [threading.Thread(target=use) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(loads) == 1


def test_a_load_that_fails_holds_nobody_up() -> None:
    held = Residency(10, 100)

    def fail() -> Weight:
        raise MemoryError

    for _ in range(2):
        with pytest.raises(MemoryError), held.lent("a", fail):
            pass
    with held.lent("a", lambda: Weight(1)):
        assert held.names == ("a",)


def test_what_expired_is_loaded_anew_once_and_all_is_closed() -> None:
    clock = Clock()
    held, loaded = Residency(10, 100, clock), []

    def load() -> Weight:
        time.sleep(0.02)
        loaded.append(Weight(1))
        return loaded[-1]

    def use() -> None:
        with held.lent("a", load):
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
    held.tidy()
    assert all(network.closed for network in loaded)


def test_what_nobody_asks_for_any_more_is_freed_by_itself() -> None:
    held, network = Residency(0.05, 100), Weight(1)
    with held.lent("a", lambda: network):
        pass
    deadline = time.monotonic() + 10
    while not network.closed and time.monotonic() < deadline:
        time.sleep(0.05)
    assert network.closed
