"""Functions that tests run in a child process. They import no test library."""

import ctypes
import os
import resource
import time
from collections.abc import Iterator
from typing import Any

from panelworks.errors import Misconfigured


def echo(*values: Any) -> list[Any]:
    return list(values)


def process_and_parent() -> list[int]:
    return [os.getpid(), os.getppid()]


def misconfigured() -> None:
    raise Misconfigured("missing_library", "A library is missing.")


def allocate(count: int) -> int:
    return len(bytearray(count))


def touch_memory_outside_python(count: int) -> int:
    """Allocate as a C library does that ignores a failed malloc."""
    libc = ctypes.CDLL(None)
    libc.malloc.restype = ctypes.c_void_p
    address = libc.malloc(ctypes.c_size_t(count))
    ctypes.memset(address, 1, count)
    return count


def spin() -> None:
    while True:
        pass


def limits() -> dict[str, int]:
    return {name: resource.getrlimit(getattr(resource, f"RLIMIT_{name}"))[0] for name in ("CORE", "FSIZE")}


def environment() -> list[str]:
    return sorted(os.environ)


def write_file(path: str) -> None:
    with open(path, "w", encoding="utf-8") as file:  # noqa: PTH123
        file.write("content")


def print_something() -> str:
    os.write(1, b"a library prints")
    print("as does Python", flush=True)  # noqa: T201
    return "result"


def count_to(last: int, failing_at: int | None = None) -> Iterator[int]:
    for number in range(last):
        if number == failing_at:
            os.abort()
        yield number


def sleep(seconds: float) -> None:
    time.sleep(seconds)


def entries(path: bytes, format_name: str, filter_name: str) -> Iterator[list[Any]]:
    """List three pages as a parser of archives does."""
    yield [[index, b"%d.png" % index, None, False, True] for index in range(3)]


def contents(path: bytes, format_name: str, filter_name: str, wanted: list[int], limit: int) -> Iterator[Any]:
    """Read three pages as a parser of archives does that crashes at the second."""
    for index in range(3):
        if index == 1 and index in wanted:
            os.abort()
        yield [index, "" if index in wanted else None, b"content"]
