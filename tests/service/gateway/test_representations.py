"""Conditional requests and ranges: one table each, on a picture of ten bytes, and on an empty one."""

from collections.abc import Mapping
from email.utils import formatdate

import pytest
from fastapi import Request, Response

from service.gateway.representations import MAX_RANGES, Representation, answer_with, parse_ranges

DATA = b"0123456789"
CHANGED = 1_700_000_000
ETAG = '"abc"'
DATE, BEFORE, AFTER = (formatdate(CHANGED + shift, usegmt=True) for shift in (0, -60, 60))


def picture(data: bytes = DATA) -> Representation:
    return Representation(
        "image/webp", len(data), ETAG, CHANGED + 0.7, lambda: data, {"Cache-Control": "no-cache"}
    )


def ask(headers: Mapping[str, str], method: str = "GET", data: bytes = DATA) -> Response:
    raw = [(name.lower().encode(), value.encode("latin-1")) for name, value in headers.items()]
    return answer_with(Request({"type": "http", "method": method, "headers": raw}), picture(data))


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"If-None-Match": ETAG}, 304),
        ({"If-None-Match": f"W/{ETAG}"}, 304),
        ({"If-None-Match": f'"x,y", W/"z" , {ETAG}'}, 304),
        ({"If-None-Match": "*"}, 304),
        ({"If-None-Match": '"other"'}, 200),
        ({"If-None-Match": "abc"}, 200),
        ({"If-None-Match": '"' * 100_000}, 200),
        ({"If-None-Match": '"other"', "If-Modified-Since": AFTER}, 200),
        ({"If-Modified-Since": DATE}, 304),
        ({"If-Modified-Since": AFTER}, 304),
        ({"If-Modified-Since": BEFORE}, 200),
        ({"If-Modified-Since": "yesterday"}, 200),
        ({"If-Modified-Since": "Mon, 99 Jan 99999999999 00:00:00 GMT"}, 200),
        ({"If-None-Match": ETAG, "Range": "bytes=0-1"}, 304),
        ({"If-Match": ETAG}, 200),
        ({"If-Match": "*"}, 200),
        ({"If-Match": f"W/{ETAG}"}, 412),
        ({"If-Match": '"other"'}, 412),
        ({"If-Unmodified-Since": BEFORE}, 412),
        ({"If-Unmodified-Since": DATE}, 200),
        ({"Range": "bytes=0-1", "If-Range": ETAG}, 206),
        ({"Range": "bytes=0-1", "If-Range": DATE}, 206),
        ({"Range": "bytes=0-1", "If-Range": f"W/{ETAG}"}, 200),
        ({"Range": "bytes=0-1", "If-Range": '"other"'}, 200),
        ({"Range": "bytes=0-1", "If-Range": AFTER}, 200),
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_conditions(headers: dict[str, str], status: int, method: str) -> None:
    answer = ask(headers, method)
    assert answer.status_code == status
    assert (answer.headers["etag"], answer.headers["last-modified"]) == (ETAG, DATE)
    assert answer.headers["cache-control"] == "no-cache", "a 304 has the headers of the 200"
    if status == 304 or method == "HEAD":
        assert answer.body == b""
    if status == 200:
        assert answer.headers["content-length"] == "10"


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("bytes=0-0", [(0, 1)]), ("bytes=2-4", [(2, 5)]), ("bytes=7-", [(7, 10)]), ("bytes=-3", [(7, 10)]),
        ("bytes=-99", [(0, 10)]), ("bytes=0-99999999999999999", [(0, 10)]), ("BYTES=0-1", [(0, 2)]),
        ("bytes=0-1,4-5", [(0, 2), (4, 6)]), ("bytes=4-5, 0-1", [(0, 2), (4, 6)]), ("bytes=0-4,3-6,7-7", [(0, 8)]),
        ("bytes=0-1,50-60", [(0, 2)]), ("bytes=10-", []), ("bytes=10-12", []), ("bytes=-0", []),
        ("bytes=99999999999999999-", []), ("bytes=4-2", None), ("bytes=-", None), ("bytes=", None), ("bytes=a-b", None),
        ("bytes=0-1,x", None), ("items=0-1", None), ("bytes 0-1", None), ("bytes=" + "9" * 390 + "-", None),
        ("bytes=0-1," * 1000, None), ("bytes=٣-٤", None), ("bytes=--1", None), ("bytes=1-2-3", None),
    ],
)  # fmt: skip
def test_ranges(header: str, expected: list[tuple[int, int]] | None) -> None:
    assert parse_ranges(header, 10) == expected


def test_too_many_parts_are_the_whole_picture() -> None:
    parts = ",".join(f"{2 * index}-{2 * index}" for index in range(MAX_RANGES + 1))
    assert parse_ranges(f"bytes={parts}", 1000) is None
    assert len(parse_ranges(f"bytes={parts.rpartition(',')[0]}", 1000) or ()) == MAX_RANGES


@pytest.mark.parametrize("header", ["bytes=0-0", "bytes=0-", "bytes=-1", "bytes=-0", "bytes=5-9"])
def test_an_empty_file_has_no_parts(header: str) -> None:
    answer = ask({"Range": header}, data=b"")
    assert (answer.status_code, answer.headers["content-range"], answer.body) == (416, "bytes */0", b"")
    assert ask({}, data=b"").headers["content-length"] == "0"


def test_one_part() -> None:
    answer = ask({"Range": "bytes=2-4"})
    assert (answer.status_code, answer.body) == (206, b"234")
    assert (answer.headers["content-range"], answer.headers["content-length"]) == ("bytes 2-4/10", "3")
    head = ask({"Range": "bytes=2-4"}, "HEAD")
    assert (head.status_code, head.headers["content-range"], head.headers["content-length"]) == (
        206,
        "bytes 2-4/10",
        "3",
    )
    missing = ask({"Range": "bytes=10-"})
    assert (missing.status_code, missing.headers["content-range"]) == (416, "bytes */10")


def test_several_parts() -> None:
    answer = ask({"Range": "bytes=0-1,8-"})
    assert answer.status_code == 206
    boundary = answer.headers["content-type"].partition("multipart/byteranges; boundary=")[2]
    parts = bytes(answer.body).split(f"--{boundary}".encode())
    assert [part.partition(b"\r\n\r\n")[2] for part in parts[1:-1]] == [b"01\r\n", b"89\r\n"]
    assert b"Content-Range: bytes 8-9/10" in parts[2]
    assert parts[-1] == b"--\r\n"
    assert int(answer.headers["content-length"]) == len(answer.body)
