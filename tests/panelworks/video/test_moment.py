"""Addresses of moments."""

import pytest

from panelworks.errors import Rejected
from panelworks.video.moment import (
    BEST,
    Moment,
    format_time,
    names_video,
    split_moment,
    with_moment,
    without_moment,
)


@pytest.mark.parametrize(
    ("source", "address", "moment"),
    [
        ("clip.mp4", "clip.mp4", None),
        ("clip.mp4#best", "clip.mp4", BEST),
        ("clip.mp4#t=12.5", "clip.mp4", Moment(12.5)),
        ("clip.mp4#t=0", "clip.mp4", Moment(0)),
        ("clip.mp4#t=12.5s", "clip.mp4", Moment(12.5)),
        ("clip.mp4#t=1:02.5", "clip.mp4", Moment(62.5)),
        ("clip.mp4#t=01:00:02", "clip.mp4", Moment(3602)),
        ("clip.mp4#t=npt:10,20", "clip.mp4", Moment(10)),
        ("s3://bucket/a #1/clip.mov#t=3", "s3://bucket/a #1/clip.mov", Moment(3)),
        ("https://example.com/clip.webm?a=b#best", "https://example.com/clip.webm?a=b", BEST),
        ("clip.mp4#xywh=1,2,3,4", "clip.mp4#xywh=1,2,3,4", None),
        ("Saga #1/page.png", "Saga #1/page.png", None),
        ("data:image/png;base64,#best", "data:image/png;base64,#best", None),
    ],
)
def test_a_moment_is_split_off(source: str, address: str, moment: Moment | None) -> None:
    assert split_moment(source) == (address, moment)
    assert without_moment(source) == address


@pytest.mark.parametrize(
    "text", ["t=", "t=abc", "t=-1", "t=1e5", "t=nan", "t=1:2:3:4", "t=99999999999", "t=１"]
)
def test_a_time_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(Rejected) as caught:
        split_moment(f"clip.mp4#{text}")
    assert caught.value.code == "bad_time"
    assert without_moment(f"clip.mp4#{text}") == "clip.mp4"


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("clip.MP4", True),
        ("https://example.com/clip.webm?size=1", True),
        ("page.png#best", True),
        ("page.png", False),
        ("https://[x/clip.mp4", False),
        ("data:video/mp4;base64,AAAA", False),
        ("stored:" + "0" * 64 + ".png/clip.mp4", False),
    ],
)
def test_videos_are_recognised_by_their_addresses(source: str, expected: bool) -> None:
    assert names_video(source) is expected


def test_times_are_written_for_people_and_for_addresses() -> None:
    assert format_time(3723.0415) == "01-02-03.042"
    assert format_time(59.9996) == "00-01-00.000"
    assert with_moment("clip.mp4", 2.0) == "clip.mp4#t=2"
    assert split_moment(with_moment("clip.mp4", 1 / 3)) == ("clip.mp4", Moment(0.333333))
