"""Progress: the finished share of a piece of work, and of a page from what its stages report."""

from collections.abc import Callable
from typing import Final, Literal

Progress = Callable[[float], None]
"""Called with the finished share, in [0, 1]."""
StageName = Literal[
    "ingest", "recall", "wait", "assess", "enhance", "validate", "fallback", "variants", "publish", "record"
]
"""The stages of the story, in order; `wait` is for another worker who computes the same page."""

_SPANS: Final[dict[StageName, tuple[float, float]]] = {
    "ingest": (0, 6),
    "recall": (6, 7),
    "wait": (7, 7),
    "assess": (7, 10),
    "enhance": (10, 72),
    "validate": (72, 78),
    "fallback": (72, 78),
    "variants": (78, 92),
    "publish": (92, 97),
    "record": (97, 99),
}
"""Begin and end of each stage in percent of a page: roughly their shares of the time on a CPU."""


def silent(share: float) -> None:
    """Progress that nobody watches."""


def part_of(progress: Progress, index: int, count: int) -> Progress:
    """The progress of one of `count` equal parts of a piece of work."""
    return lambda share: progress((index + share) / count)


def page_percent(stage: StageName, share: float) -> float:
    """Percent of the page that are done when `share`, in [0, 1], of a stage is."""
    begin, end = _SPANS[stage]
    return round(begin + (end - begin) * min(max(share, 0.0), 1.0), 1)
