"""Computing parts of a picture at the same time.

numpy, OpenCV, Pillow and zlib release the interpreter's lock. All pages in progress share one thread for each core, so
that many pages at once do not start more threads than there are cores.
"""

import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache
from typing import TypeVar

import cv2

Result = TypeVar("Result")


def compute_in_background(call: Callable[[], Result]) -> Future[Result]:
    """Call a function in a thread; returns its future. From within such a thread, the function is called at once."""
    if not getattr(_this_thread, "is_ours", False):
        return _threads().submit(call)
    finished: Future[Result] = Future()
    try:
        finished.set_result(call())
    except Exception as error:  # noqa: BLE001 - raised by `result`
        finished.set_exception(error)
    return finished


def compute_together(calls: Sequence[Callable[[], Result]]) -> list[Result]:
    """Call functions at the same time as by `compute_in_background`; returns their results in order.

    Raises the exception of the first that failed.
    """
    if len(calls) == 1:
        return [calls[0]()]
    return [future.result() for future in [compute_in_background(call) for call in calls]]


def stop_threads_of_opencv() -> None:
    """Let OpenCV compute in the calling thread only, for the whole process.

    Its own threads made the checks of a page no faster, and cost a fifth of CPU time more
    (docs/explanation/performance.md).
    """
    cv2.setNumThreads(1)


def count_cores() -> int:
    """Number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


_this_thread = threading.local()


def _mark_thread() -> None:
    _this_thread.is_ours = True


@lru_cache(maxsize=1)
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(count_cores(), "picture", initializer=_mark_thread)


if hasattr(os, "register_at_fork"):  # a forked process has none of the threads
    os.register_at_fork(after_in_child=_threads.cache_clear)
