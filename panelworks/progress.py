"""Progress: the finished share of a piece of work, and of a page computed from the progress of its stages."""

from collections.abc import Callable
from typing import Final, Literal

Progress = Callable[[float], None]
"""Called with the finished share, in [0, 1]."""
StageName = Literal[
    "ingest", "recall", "wait", "assess", "enhance", "validate", "fallback", "variants", "publish", "record"
]
"""The stages of a page, in order. In `wait`, another worker is computing the same page."""

_STAGE_PERCENTAGES: Final[dict[StageName, tuple[float, float]]] = {
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
"""Start and end of each stage in percent of a page, roughly proportional to their time on a CPU."""


def ignore_progress(share: float) -> None:
    """Discard progress. The default where no caller needs it."""


def part_progress(progress: Progress, index: int, count: int) -> Progress:
    """Return a callback that maps the progress of one of `count` equal parts to the progress of the whole."""
    return lambda share: progress((index + share) / count)


def page_percent(stage: StageName, share: float) -> float:
    """Percent of the page that is finished when `share` of a stage, in [0, 1], is finished."""
    begin, end = _STAGE_PERCENTAGES[stage]
    return round(begin + (end - begin) * min(max(share, 0.0), 1.0), 1)
