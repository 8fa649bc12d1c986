"""What all tests of the service share."""

import gc
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True, scope="module")
def nothing_left_open() -> Iterator[None]:
    """Report a connection that a module left open as its fault, and not as that of whichever test runs when it is freed.

    Freed while `ast.parse` runs, it also breaks that call in Python 3.11 (SystemError: AST constructor recursion depth
    mismatch): the traceback of its warning parses code.
    """
    yield
    gc.collect()
