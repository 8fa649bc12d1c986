"""Progress: the finished share of a piece of work."""

from collections.abc import Callable

Progress = Callable[[float], None]
"""Called with the finished share, in [0, 1]."""


def ignore_progress(share: float) -> None:
    """Discard progress. The default where no caller needs it."""


def part_progress(progress: Progress, index: int, count: int) -> Progress:
    """Return a callback that maps the progress of one of `count` equal parts to the progress of the whole."""
    return lambda share: progress((index + share) / count)


def both_progress(first: Progress, second: Progress) -> Progress:
    """Return a callback that reports to two callbacks."""

    def report(share: float) -> None:
        first(share)
        second(share)

    return report
