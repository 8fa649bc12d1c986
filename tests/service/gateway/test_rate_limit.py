"""How many requests a caller may make."""

import pytest
from limits import parse

from service.gateway import access
from service.gateway.access import UNKNOWN_CALLER, MovingWindows, counted_address


class _Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_window_moves_and_says_when_it_accepts_again() -> None:
    clock = _Clock()
    windows = MovingWindows(parse("2/minute"), clock)
    answers = []
    for clock.now in (0, 30, 40, 59.5, 60, 61, 89, 90):
        answers.append(windows.hit("a"))
    assert answers == [None, None, 20, 1, None, 29, 1, None]
    assert windows.hit("b") is None


def test_the_announced_time_is_kept() -> None:
    clock = _Clock()
    windows = MovingWindows(parse("3/minute"), clock)
    for _ in range(3):
        windows.hit("a")
        clock.now += 7.3
    wait = windows.hit("a")
    assert wait is not None
    clock.now += wait
    assert windows.hit("a") is None


def test_a_limit_of_nothing_accepts_nothing() -> None:
    windows = MovingWindows(parse("0/minute"))
    assert windows.hit("a") == 60
    assert len(windows) == 0


def test_callers_whose_window_has_passed_are_forgotten() -> None:
    """Before, each address was counted for ever, and each request looked at all of them."""
    clock = _Clock()
    windows = MovingWindows(parse("5/second"), clock)
    for number in range(5000):
        windows.hit(f"10.0.{number >> 8}.{number & 255}")
    assert len(windows) == 5000
    clock.now += 1
    windows.hit("a")
    assert len(windows) == 1


@pytest.mark.parametrize(("callers", "hits", "counted"), [(100, 10_000, 100), (10_000, 50, 50)])
def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch, callers: int, hits: int, counted: int) -> None:
    monkeypatch.setattr(access, "MAX_CALLERS", callers)
    monkeypatch.setattr(access, "MAX_HITS", hits)
    windows = MovingWindows(parse("1/hour"))
    for number in range(1000):
        windows.hit(str(number))
    assert len(windows) == counted
    assert windows.hit("999") is not None, "who came last is still counted"


def test_one_busy_caller_is_limited_beyond_the_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access, "MAX_HITS", 3)
    windows = MovingWindows(parse("5/hour"))
    assert [windows.hit("a") is None for _ in range(6)] == [True] * 5 + [False]


@pytest.mark.parametrize(
    ("host", "counted"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("2001:db8::1", "2001:db8::/64"),
        ("2001:db8::ffff:ffff:ffff:ffff", "2001:db8::/64"),
        ("2001:db8:0:1::1", "2001:db8:0:1::/64"),
        ("::ffff:192.0.2.7", "192.0.2.7"),  # a socket for both families names IPv4 clients so
        ("::1", "::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("no address", UNKNOWN_CALLER),
        ("", UNKNOWN_CALLER),
        (None, UNKNOWN_CALLER),
    ],
)
def test_addresses_are_counted_by_line(host: str | None, counted: str) -> None:
    assert counted_address(host) == counted
