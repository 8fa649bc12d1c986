"""GIF: its blocks up to the end of the first frame, and the number of frames, within bounds."""

from typing import Final

from panelworks.errors import Rejected
from panelworks.pictures.structure import MAX_PARTS, Structure, refuse_parts

SIGNATURES: Final = (b"GIF87a", b"GIF89a")
LARGE_CANVAS_PIXELS: Final = 16_000_000
MAX_CANVAS_RATIO: Final = 16
"""Pixels of a large canvas over those of its first frame."""
_EXTENSION, _IMAGE = 0x21, 0x2C
_HEADER_BYTES: Final = 13


def scan_gif(data: bytes, max_frames: int) -> Structure:
    """The first frame as a file of its own, which Pillow reads without a look at the others.

    Frames are counted up to one more than `max_frames`.

    Raises:
        Rejected: `truncated`, no frame in it; `out_of_proportion`, many more blocks than encoders write, or a canvas much
            larger than its first frame.
    """
    canvas = int.from_bytes(data[6:8], "little") * int.from_bytes(data[8:10], "little")
    position = _HEADER_BYTES + _table_bytes(data[10:11])
    frames, end, blocks = 0, 0, 0
    while position < len(data) and frames <= max_frames:
        kind = data[position]
        if kind == _EXTENSION:
            position += 2
        elif kind == _IMAGE:
            if not frames:
                width, height = (
                    int.from_bytes(data[position + at : position + at + 2], "little") for at in (5, 7)
                )
                if canvas > max(LARGE_CANVAS_PIXELS, MAX_CANVAS_RATIO * width * height):
                    raise refuse_parts(
                        f"a canvas of {canvas / 1e6:.0f} megapixels for a first frame of {width} x {height}"
                    )
            position += 10 + _table_bytes(data[position + 9 : position + 10]) + 1
        else:
            break
        while position < len(data) and data[position]:
            position += 1 + data[position]
            blocks += 1
            if blocks > MAX_PARTS:
                raise refuse_parts(f"more than {MAX_PARTS} blocks")
        position += 1
        blocks += 1
        if blocks > MAX_PARTS:
            raise refuse_parts(f"more than {MAX_PARTS} blocks")
        if kind == _IMAGE:
            frames += 1
            end = end or position
    if not frames:
        raise Rejected("truncated", "The picture's data ends before the picture does.")
    return Structure(data[:end] + b";" if end < len(data) else data, frames=frames)


def _table_bytes(flags: bytes) -> int:
    """Bytes of the colour table that a byte of flags announces."""
    return 3 << ((flags[0] & 7) + 1) if flags and flags[0] & 0x80 else 0
