"""Parts of a picture at the same time."""

import os
import threading
from collections.abc import Callable
from functools import partial

import cv2
import pytest

from panelworks.page.engine import Engine
from panelworks.pictures.parallel import compute_in_background, compute_together, count_cores
from panelworks.settings import Settings


def double(number: int) -> int:
    return 2 * number


def test_results_are_in_the_order_of_the_calls() -> None:
    assert compute_together([partial(double, number) for number in range(50)]) == list(range(0, 100, 2))
    assert compute_together([]) == []


@pytest.mark.skipif(count_cores() < 2, reason="needs two cores")
def test_calls_run_at_the_same_time() -> None:
    both = threading.Barrier(2, timeout=60)
    assert sorted(compute_together([both.wait, both.wait])) == [0, 1]


def test_a_call_may_start_others_whatever_the_number_of_threads() -> None:
    """Each of many calls waits for calls of its own."""

    def nested() -> list[int]:
        return compute_together([partial(double, number) for number in range(3)])

    assert compute_together([nested] * 100) == [[0, 2, 4]] * 100


def fail() -> int:
    raise ValueError("as requested")


def fail_inside() -> int:
    return compute_in_background(fail).result()


@pytest.mark.parametrize("call", [fail, fail_inside])
def test_the_exception_of_a_call_is_raised(call: Callable[[], int]) -> None:
    calls: list[Callable[[], int]] = [partial(double, 1), call]
    with pytest.raises(ValueError, match="as requested"):
        compute_together(calls)


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # of newer Pythons
def test_a_forked_process_has_threads_of_its_own() -> None:
    """It would wait for ever for those of its parent."""
    assert compute_together([partial(double, 1), partial(double, 2)]) == [2, 4]
    child = os.fork()
    if not child:
        os._exit(sum(compute_together([partial(double, 1), partial(double, 2)])))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 6


def test_an_engine_stops_the_threads_of_opencv(settings: Settings) -> None:
    cv2.setNumThreads(2)
    Engine(settings)
    assert cv2.getNumThreads() == 1
