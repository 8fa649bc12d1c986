"""Moments of videos in addresses: `clip.mp4#t=12.5` names a frame by its time, `clip.mp4#best` the frame that represents the video.

Times are those of the W3C's Media Fragments: seconds, `mm:ss` or `hh:mm:ss`, with decimals. Of an interval `t=10,20`, the begin counts.
"""

import re
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Final
from urllib.parse import urlsplit

from panelworks.errors import Rejected
from panelworks.video.signature import VIDEO_SUFFIXES

_MOMENT: Final = re.compile(r"(?P<address>.*)#(?P<moment>best|t=[^#/]*)", re.DOTALL)
_TIME: Final = re.compile(
    r"t=(?:npt:)?(?:(?:(?P<hours>\d{1,4}):)?(?P<minutes>\d{1,2}):)?(?P<seconds>\d{1,9}(?:\.\d{0,9})?)s?(?:,.*)?",
    re.ASCII,
)


@dataclass(frozen=True)
class Moment:
    """Which frame of a video is meant."""

    seconds: float | None
    """Time since the first frame; None: the frame that represents the video."""


BEST: Final = Moment(None)


def split_moment(source: str) -> tuple[str, Moment | None]:
    """The address of a video, and the moment that is named after it; None if there is none.

    Raises:
        Rejected: `bad_time`, the time is not well formed.
    """
    match = None if source.startswith("data:") else _MOMENT.fullmatch(source)
    if match is None:
        return source, None
    if match["moment"] == "best":
        return match["address"], BEST
    time = _TIME.fullmatch(match["moment"])
    if time is None:
        raise Rejected("bad_time", "The time after # is not well formed; write #t=12.5, #t=1:02.5 or #best.")
    hours, minutes = int(time["hours"] or 0), int(time["minutes"] or 0)
    return match["address"], Moment(3600 * hours + 60 * minutes + float(time["seconds"]))


def without_moment(source: str) -> str:
    """The address of a source without the moment that is named after it, even if the time is not well formed."""
    match = None if source.startswith("data:") else _MOMENT.fullmatch(source)
    return source if match is None else match["address"]


def names_video(source: str) -> bool:
    """Does an address name a moment of a video, or has it the extension of a video? Its content may still be another."""
    if source.startswith(("data:", "stored:")):
        return False
    return without_moment(source) != source or has_video_suffix(source)


def has_video_suffix(source: str) -> bool:
    """Has the file of an address the extension of a video?"""
    path = source
    if source.startswith(("https:", "http:")):
        try:
            path = urlsplit(source).path
        except ValueError:
            return False
    return PurePosixPath(path.replace("\\", "/")).suffix.lower() in VIDEO_SUFFIXES


def format_time(seconds: float) -> str:
    """A time for the names of files: hours, minutes, seconds and milliseconds, such as `00-01-02.500`."""
    milliseconds = round(seconds * 1000)
    minutes, rest = divmod(milliseconds, 60_000)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02d}-{minutes:02d}-{rest // 1000:02d}.{rest % 1000:03d}"


def with_moment(address: str, seconds: float) -> str:
    """The address of the frame at a time."""
    return f"{address}#t={round(seconds, 6):.6f}".rstrip("0").rstrip(".")
