"""The segments and scans of a JPEG, and decoding with libjpeg's warnings.

Pillow ignores libjpeg's warnings ("Corrupt JPEG data ..."); simplejpeg reports them. Both use libjpeg-turbo with the
same settings and return the same pixels.
"""

import re
from dataclasses import dataclass
from typing import Final

import simplejpeg
from PIL import Image

from panelworks.errors import Rejected
from panelworks.pictures.structure import Structure, excess_error

SIGNATURE: Final = b"\xff\xd8\xff"
MAX_SEGMENTS: Final = 10_000
"""Maximum marker segments of a file. A profile of 16 MB has 255."""
MAX_JUNK_BYTES: Final = 65_536
"""Maximum padding or other bytes before a segment of the header."""
MAX_UNCHECKED_SCANS: Final = 20
"""Scans that a picture of any size may have: libjpeg writes 10, mozjpeg fewer than 20."""
MAX_SCANNED_PIXELS: Final = 1_000_000_000
"""Maximum product of scans and pixels for pictures with more scans: each scan visits every block, even an empty one."""
_PROGRESSIVE_MARKERS: Final = (0xC2, 0xCA)
_FRAME_MARKERS: Final = (*range(0xC0, 0xC4), *range(0xC5, 0xC8), *range(0xC9, 0xCC), *range(0xCD, 0xD0))
"""Markers SOF0..SOF15."""
_STANDALONE_MARKERS: Final = (0x01, *range(0xD0, 0xD8))
"""Markers without a length: TEM and RST0..RST7."""
_SOI, _EOI, _SOS = 0xD8, 0xD9, 0xDA
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]", re.DOTALL)
"""A marker inside or after entropy-coded data. FF00 is a data byte, and RST belongs to the data."""
_PIXEL_SEGMENTS: Final = (0xEE,)
"""Application segments that determine how pixels are decoded: Adobe's states the colour transform."""


@dataclass
class _Scans:
    """Progress of each component of a progressive JPEG: missing low bits by component and coefficient."""

    missing: dict[int, list[int]]

    def add(self, components: bytes, first: int, last: int, low: int) -> None:
        for component in components:
            bits = self.missing.setdefault(component, [99] * 64)
            for index in range(first, min(last, 63) + 1):
                bits[index] = low

    def complete(self, components: int) -> bool:
        return len(self.missing) >= components and not any(any(bits) for bits in self.missing.values())


def scan_jpeg(data: bytes) -> Structure:
    """Scan the segments up to the end marker, without the entropy-coded data itself.

    Raises:
        Rejected: `out_of_proportion`, far more segments or scans than encoders write.
    """
    position, segments, scans = 2, 0, 0
    pixels, components, progressive, end = 0, 0, False, None
    progress = _Scans({})
    while position + 2 <= len(data):
        segments += 1
        if segments > MAX_SEGMENTS:
            raise excess_error(f"more than {MAX_SEGMENTS} segments")
        found = _MARKER.search(data, position)
        if found is None:
            break
        if not scans and found.end() - position > MAX_JUNK_BYTES:
            raise excess_error("more than 64 KiB between its segments")
        marker, position = data[found.end() - 1], found.end()
        if marker == _EOI:
            end = position
            break
        if marker in _STANDALONE_MARKERS or marker == _SOI:
            continue
        length = int.from_bytes(data[position : position + 2], "big")
        segment = data[position + 2 : position + length]
        if marker in _FRAME_MARKERS and len(segment) >= 6 and not pixels:
            pixels = int.from_bytes(segment[1:3], "big") * int.from_bytes(segment[3:5], "big")
            components, progressive = segment[5], marker in _PROGRESSIVE_MARKERS
        elif marker == _SOS and segment and len(segment) >= 4 + 2 * segment[0]:
            scans += 1
            if scans > MAX_UNCHECKED_SCANS and scans * pixels > MAX_SCANNED_PIXELS:
                raise excess_error(f"more than {scans - 1} scans of {pixels / 1e6:.0f} megapixels")
            count = segment[0]
            first, last, bits = segment[1 + 2 * count : 4 + 2 * count]
            progress.add(segment[1 : 1 + 2 * count : 2], first, last, bits & 15)
        position += max(length, 2)
    if not pixels or not scans:
        raise Rejected("truncated", "The picture's data ends before the picture does.")
    damage = None
    if progressive and end is not None and not progress.complete(components):
        damage = "the last scans of this progressive JPEG are missing"
    notes: tuple[str, ...] = ()
    if end is None:
        # libjpeg adds the marker. Decoding shows whether pixels are missing too.
        notes = ("the end marker is missing",)
        data += b"\xff\xd9"
    return Structure(data, notes=notes, damage=damage, info={"complete": end is not None})


def load_jpeg(image: Image.Image, structure: Structure) -> tuple[Image.Image, str | None]:
    """Load the pixels of an opened JPEG. Return them and libjpeg's warning, if any.

    Raises:
        Rejected: `truncated`, the data ends before the picture does.
    """
    colours = {"L": "GRAY", "RGB": "RGB"}.get(image.mode)
    plain = _strip_metadata(bytes(structure.data))
    try:
        if colours is not None:
            pixels = simplejpeg.decode_jpeg(plain, colorspace=colours, strict=True)
            loaded = Image.fromarray(pixels[:, :, 0] if colours == "GRAY" else pixels)
            loaded.info = image.info
            return loaded, None
        # Pillow handles Adobe's CMYK. This pass only collects warnings.
        simplejpeg.decode_jpeg(plain, colorspace="CMYK", min_height=1, min_width=1, strict=True)
        warning = None
    except ValueError as error:
        warning = str(error)
    if warning is not None and not structure.info["complete"] and _is_about_data(warning):
        raise Rejected("truncated", "The picture's data ends before the picture does.")
    image.load()
    return image, _damage_from_warning(warning, plain)


def _is_about_data(warning: str) -> bool:
    return warning.startswith(("Corrupt JPEG data", "Premature end"))


def _damage_from_warning(warning: str | None, data: bytes) -> str | None:
    """Damage of the pixels according to a warning; None if they are not affected."""
    if warning is None or not _is_about_data(warning):
        return None  # a rare subsampling or coding that only Pillow decodes
    if "extraneous bytes before marker 0xd9" in warning:
        count = int(re.findall(r"\d+", warning)[0])
        end = data.rfind(b"\xff\xd9")
        if not data[max(end - count, 0) : end].strip(b"\x00\xff"):
            return None  # padding after the last block
    return f"libjpeg reports: {warning[:1].lower()}{warning[1:]}"


def _strip_metadata(data: bytes) -> bytes:
    """Remove profile, EXIF and comments, whose faults do not affect pixels."""
    parts, position = [data[:2]], 2
    while position + 4 <= len(data):
        found = _MARKER.search(data, position)
        if found is None:
            break
        marker, start = data[found.end() - 1], found.end() - 2
        if marker == _SOS or marker in _STANDALONE_MARKERS or marker in (_SOI, _EOI):
            parts.append(data[start:])
            return b"".join(parts)
        stop = found.end() + max(int.from_bytes(data[found.end() : found.end() + 2], "big"), 2)
        metadata = 0xE0 <= marker <= 0xEF or marker == 0xFE
        if not metadata or marker in _PIXEL_SEGMENTS:
            parts.append(data[start:stop])
        position = stop
    return data
