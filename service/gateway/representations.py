"""Answers with a stored picture: ETag, conditional requests, ranges and HEAD, as RFC 9110 describes them."""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from email.utils import formatdate, parsedate_to_datetime
from typing import Final
from uuid import uuid4

from fastapi import Request, Response

MAX_RANGES: Final = 16
"""A request for more parts, after those that overlap are joined, gets the whole picture."""
_RANGES: Final = re.compile(r"bytes=(.{1,400})", re.ASCII | re.IGNORECASE)
_RANGE: Final = re.compile(r"([0-9]{0,18})-([0-9]{0,18})", re.ASCII)
_ETAGS: Final = re.compile(r'\s*(W/)?("[\x21\x23-\x7e\x80-\xff]*")\s*(?:,|\Z)')
_MAX_CONDITION_CHARACTERS: Final = 4000


@dataclass(frozen=True)
class Representation:
    """A picture in one format."""

    media_type: str
    size: int
    """In bytes."""
    etag: str
    """Strong, with its quotation marks."""
    changed: float
    """Time of the last write in seconds since 1970."""
    read: Callable[[], bytes]
    """Reads the bytes; called only if they are sent."""
    headers: dict[str, str] = field(default_factory=dict)
    """Headers of every answer with this picture, also of 304."""

    @property
    def last_modified(self) -> str:
        """The time of the last write as an HTTP date."""
        return formatdate(int(self.changed), usegmt=True)


Span = tuple[int, int]
"""First byte, and the byte behind the last one."""


def answer_with(request: Request, picture: Representation) -> Response:
    """The answer to a GET or HEAD: 200, 206, 304, 412 or 416."""
    headers = {
        **picture.headers,
        "ETag": picture.etag,
        "Last-Modified": picture.last_modified,
        "Accept-Ranges": "bytes",
        "X-Content-Type-Options": "nosniff",
    }
    if not _is_expected(request, picture):
        return Response(status_code=412, headers=headers)
    if _is_known(request, picture):
        return Response(status_code=304, headers=headers)
    spans = _ranges_of(request, picture)
    if spans is not None and not spans:
        return Response(status_code=416, headers={**headers, "Content-Range": f"bytes */{picture.size}"})
    if request.method == "HEAD":
        length = picture.size if spans is None or len(spans) > 1 else spans[0][1] - spans[0][0]
        spans = None if spans is None or len(spans) > 1 else spans
        more = {} if spans is None else {"Content-Range": _content_range(spans[0], picture.size)}
        return Response(
            status_code=200 if spans is None else 206,
            headers={**headers, **more, "Content-Length": str(length)},
            media_type=picture.media_type,
        )
    data = picture.read()
    if spans is None:
        return Response(data, headers=headers, media_type=picture.media_type)
    if len(spans) == 1:
        headers["Content-Range"] = _content_range(spans[0], len(data))
        return Response(data[slice(*spans[0])], 206, headers, picture.media_type)
    return _multipart(data, spans, picture.media_type, headers)


def _is_expected(request: Request, picture: Representation) -> bool:
    """Do If-Match and If-Unmodified-Since hold?"""
    wanted = request.headers.get("if-match")
    if wanted is not None:
        return wanted.strip() == "*" or (False, picture.etag) in _etags(wanted)
    since = _seconds(request.headers.get("if-unmodified-since"))
    return since is None or int(picture.changed) <= since


def _is_known(request: Request, picture: Representation) -> bool:
    """Has the client this picture, by If-None-Match or If-Modified-Since? The first one decides if both are given."""
    known = request.headers.get("if-none-match")
    if known is not None:
        return known.strip() == "*" or picture.etag in {tag for _, tag in _etags(known)}
    since = _seconds(request.headers.get("if-modified-since"))
    return since is not None and int(picture.changed) <= since


def _etags(header: str) -> list[tuple[bool, str]]:
    """The entity tags of a list, and whether they are weak; nothing behind what is not well-formed."""
    tags, position = [], 0
    header = header[:_MAX_CONDITION_CHARACTERS]
    while match := _ETAGS.match(header, position):
        tags.append((match[1] is not None, match[2]))
        position = match.end()
    return tags


def _seconds(date: str | None) -> float | None:
    """Seconds since 1970 of an HTTP date; None for what is no date."""
    if date is None:
        return None
    try:
        return parsedate_to_datetime(date[:100]).timestamp()
    except (ValueError, OverflowError, TypeError, IndexError):
        return None


def _ranges_of(request: Request, picture: Representation) -> list[Span] | None:
    """The parts that are requested; None: all of it; empty: none of them exists."""
    given = request.headers.get("range")
    if given is None:
        return None
    condition = request.headers.get("if-range")
    if condition is not None and condition.strip() not in (picture.etag, picture.last_modified):
        return None
    return parse_ranges(given, picture.size)


def parse_ranges(header: str, size: int) -> list[Span] | None:
    """The parts that a Range header names, without gaps between overlapping ones, in the order of the picture.

    Returns:
        None if the header is not well-formed, has another unit or too many parts: the whole is sent then. Empty if no part exists.
    """
    match = _RANGES.fullmatch(header.strip())
    if match is None:
        return None
    spans: list[Span] = []
    for text in match[1].split(","):
        part = _RANGE.fullmatch(text.strip())
        if part is None or part[0] == "-" or (part[1] and part[2] and int(part[2]) < int(part[1])):
            return None
        first = int(part[1]) if part[1] else max(0, size - int(part[2]))
        end = min(size, int(part[2]) + 1) if part[1] and part[2] else size
        if first < end:
            spans.append((first, end))
    joined = _joined(sorted(spans))
    return joined if len(joined) <= MAX_RANGES else None


def _joined(spans: Iterable[Span]) -> list[Span]:
    """Spans in ascending order, those that overlap or touch joined."""
    joined: list[Span] = []
    for first, end in spans:
        if joined and first <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((first, end))
    return joined


def _content_range(span: Span, size: int) -> str:
    return f"bytes {span[0]}-{span[1] - 1}/{size}"


def _multipart(data: bytes, spans: list[Span], media_type: str, headers: dict[str, str]) -> Response:
    """Several parts, each with its own headers."""
    boundary = uuid4().hex
    body = bytearray()
    for span in spans:
        head = f"--{boundary}\r\nContent-Type: {media_type}\r\nContent-Range: {_content_range(span, len(data))}\r\n\r\n"
        body += head.encode() + data[slice(*span)] + b"\r\n"
    body += f"--{boundary}--\r\n".encode()
    return Response(bytes(body), 206, headers, f"multipart/byteranges; boundary={boundary}")
