"""Progress: a callback for the finished share of a piece of work."""

from collections.abc import Callable

Progress = Callable[[float], None]
"""Called with the finished share, in [0, 1]."""


def silent(share: float) -> None:
    """Progress that nobody watches."""
