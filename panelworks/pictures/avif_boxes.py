"""The timing of an AVIF sequence, which Pillow neither reads nor writes: boxes of ISO/IEC 14496-12."""

import struct
from collections.abc import Iterator
from fractions import Fraction
from typing import Final

_MAX_SAMPLES: Final = 100_000
_DEFAULT_TIMESCALE: Final = 1000
_ENDLESS: Final = b"\xff"
_MOVIE_DURATION: Final = {0: slice(16, 20), 1: slice(24, 32)}
"""Where the duration of the movie is in its header (8.2.2), by the version of the box."""
_TRACK_DURATION: Final = {0: slice(20, 24), 1: slice(28, 36)}
"""The same of a track (8.3.2)."""
_SEGMENT_DURATION: Final = {0: slice(8, 12), 1: slice(8, 16)}
"""The same of the first entry of an edit list (8.6.6)."""
_TIMESCALE: Final = {0: slice(12, 16), 1: slice(20, 24)}
"""Units a second, in the header of the media of a track (8.4.2)."""
_REPEATED: Final = 1
"""Flag of an edit list that is repeated."""


def read_plays(data: bytes) -> int:
    """How often a sequence is played, from the edit list of its track; 0: without end."""
    track = _find_box(data, b"moov", b"trak")
    header, edits = _find_box(track, b"tkhd"), _find_box(track, b"edts", b"elst")
    if len(edits) < 16 or len(header) < 36:
        return 0
    if not edits[3] & _REPEATED:
        return 1
    length = bytes(header[_TRACK_DURATION.get(header[0], slice(0, 0))])
    once = int.from_bytes(edits[_SEGMENT_DURATION.get(edits[0], slice(0, 0))], "big")
    if not length.strip(_ENDLESS) or not once:
        return 0
    return max(1, -(-int.from_bytes(length, "big") // once))


def read_delays(data: bytes, count: int) -> list[Fraction]:
    """The delays of `count` frames in milliseconds, from the table of durations (8.6.1.2); 0 where it has none."""
    media = _find_box(data, b"moov", b"trak", b"mdia")
    header, table = _find_box(media, b"mdhd"), _find_box(media, b"minf", b"stbl", b"stts")
    scale = _DEFAULT_TIMESCALE
    if header:
        scale = int.from_bytes(header[_TIMESCALE.get(header[0], slice(0, 0))], "big") or scale
    delays: list[Fraction] = []
    for start in range(8, len(table) - 7, 8):
        same, units = struct.unpack(">II", table[start : start + 8])
        delays += [Fraction(1000 * units, scale)] * min(same, count - len(delays))
        if len(delays) == count:
            break
    return delays + [Fraction(0)] * (count - len(delays))


def is_sequence(data: bytes) -> bool:
    """Does the file state that it is an AVIF sequence?"""
    return data[4:8] == b"ftyp" and b"avis" in data[8 : int.from_bytes(data[:4], "big")]


def complete_sequence(data: bytes, max_bytes: int) -> tuple[bytes, int | None]:
    """A sequence that ends early, filled with zeros to the size that it states, and the number of its complete frames.

    The decoder reads no file that is shorter than stated. Others are returned as they are, with None; so is a file that states
    more than `max_bytes`.
    """
    stated = 0
    while stated + 8 <= len(data):
        size = int.from_bytes(data[stated : stated + 4], "big")
        if size < 8:
            return data, None
        stated += size
    if not len(data) < stated <= max_bytes:
        return data, None
    tables = [_find_box(track, b"mdia", b"minf", b"stbl") for track in _find_boxes(data, b"moov", b"trak")]
    counts = [sum(end <= len(data) for end in _sample_ends(table)) for table in tables]
    return data.ljust(stated, b"\x00"), min(counts, default=0)


def _sample_ends(table: memoryview) -> Iterator[int]:
    """Where each sample of a track ends in the file (8.7)."""
    sizes, offsets, runs = (_find_box(table, kind) for kind in (b"stsz", b"stco", b"stsc"))
    if len(sizes) < 12:
        return
    same, count = struct.unpack(">II", sizes[4:12])
    each = (
        [same] * min(count, _MAX_SAMPLES)
        if same
        else [one for (one,) in struct.iter_unpack(">I", sizes[12:])]
    )
    starts = [one for (one,) in struct.iter_unpack(">I", offsets[8 : len(offsets) // 4 * 4])]
    entries = list(struct.iter_unpack(">III", runs[8 : 8 + (len(runs) - 8) // 12 * 12]))
    index = 0
    for chunk, start in enumerate(starts, 1):
        in_chunk = next((number for first, number, _ in reversed(entries) if first <= chunk), 0)
        for size in each[index : index + in_chunk]:
            start += size
            yield start
        index += in_chunk


def set_plays(data: bytes, plays: int) -> bytes:
    """A sequence as Pillow writes it, which is played without end, that is played `plays` times; 0: without end."""
    if plays == 0:
        return data
    changed = bytearray(data)
    total = 0
    for track in _find_boxes(changed, b"moov", b"trak"):
        header, edits = _find_box(track, b"tkhd"), _find_box(track, b"edts", b"elst")
        total = plays * int.from_bytes(edits[_SEGMENT_DURATION[edits[0]]], "big")
        _set_number(header, _TRACK_DURATION[header[0]], total)
    movie = _find_box(changed, b"moov", b"mvhd")
    _set_number(movie, _MOVIE_DURATION[movie[0]], total)
    return bytes(changed)


def _set_number(box: memoryview, place: slice, number: int) -> None:
    box[place] = number.to_bytes(place.stop - place.start, "big")


def _find_box(data: bytes | bytearray | memoryview, *path: bytes) -> memoryview:
    """The content of the first box of a path, by the kinds of the boxes that contain it and its own; empty if there is none."""
    return next(_find_boxes(data, *path), memoryview(b""))


def _find_boxes(data: bytes | bytearray | memoryview, *path: bytes) -> Iterator[memoryview]:
    view, position = memoryview(data), 0
    while position + 8 <= len(view):
        size = int.from_bytes(view[position : position + 4], "big") or len(view) - position
        if size < 8:  # sizes of 64 bits are those of pixel data
            return
        if bytes(view[position + 4 : position + 8]) == path[0]:
            content = view[position + 8 : position + size]
            if len(path) == 1:
                yield content
            else:
                yield from _find_boxes(content, *path[1:])
        position += size
