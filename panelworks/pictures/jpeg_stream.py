"""JPEG: its segments and scans, and decoding with libjpeg's warnings.

Pillow ignores what libjpeg warns of ("Corrupt JPEG data ..."); simplejpeg reports it. Both use libjpeg-turbo with the same
settings and give the same pixels.
"""

import re
from dataclasses import dataclass
from typing import Final

import simplejpeg
from PIL import Image

from panelworks.errors import Rejected
from panelworks.pictures.structure import Structure, refuse_parts

SIGNATURE: Final = b"\xff\xd8\xff"
MAX_SEGMENTS: Final = 10_000
"""Marker segments of one file; a profile of 16 MB takes 255."""
MAX_JUNK_BYTES: Final = 65_536
"""Padding or other bytes in front of a segment of the header."""
MAX_SCANS_OF_ANY_SIZE: Final = 20
"""Scans that every picture may have: libjpeg writes 10, mozjpeg fewer than 20."""
MAX_SCANNED_PIXELS: Final = 1_000_000_000
"""Scans times pixels of a picture with more scans than that: each scan visits every block, even an empty one."""
_PROGRESSIVE: Final = (0xC2, 0xCA)
_FRAMES: Final = (*range(0xC0, 0xC4), *range(0xC5, 0xC8), *range(0xC9, 0xCC), *range(0xCD, 0xD0))
"""Markers SOF0..SOF15."""
_STANDALONE: Final = (0x01, *range(0xD0, 0xD8))
"""Markers without a length: TEM and RST0..RST7."""
_SOI, _EOI, _SOS = 0xD8, 0xD9, 0xDA
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]", re.DOTALL)
"""A marker inside or behind entropy-coded data; FF00 is a data byte and RST belongs to the data."""
_KEPT_WITHOUT_EFFECT: Final = (0xEE,)
"""Application segments that decide how the pixels are read: Adobe's names the colour transform."""


@dataclass
class _Scans:
    """How far each component of a progressive JPEG got: missing low bits by component and coefficient."""

    missing: dict[int, list[int]]

    def add(self, components: bytes, first: int, last: int, low: int) -> None:
        for component in components:
            bits = self.missing.setdefault(component, [99] * 64)
            for index in range(first, min(last, 63) + 1):
                bits[index] = low

    def complete(self, components: int) -> bool:
        return len(self.missing) >= components and not any(any(bits) for bits in self.missing.values())


def scan_jpeg(data: bytes) -> Structure:
    """The segments up to the end marker, without a look at the entropy-coded data itself.

    Raises:
        Rejected: `out_of_proportion`, so many segments or scans that only an attacker writes them.
    """
    position, segments, scans = 2, 0, 0
    pixels, components, progressive, end = 0, 0, False, None
    progress = _Scans({})
    while position + 2 <= len(data):
        segments += 1
        if segments > MAX_SEGMENTS:
            raise refuse_parts(f"more than {MAX_SEGMENTS} segments")
        found = _MARKER.search(data, position)
        if found is None:
            break
        if not scans and found.end() - position > MAX_JUNK_BYTES:
            raise refuse_parts("more than 64 KiB between its segments")
        marker, position = data[found.end() - 1], found.end()
        if marker == _EOI:
            end = position
            break
        if marker in _STANDALONE or marker == _SOI:
            continue
        length = int.from_bytes(data[position : position + 2], "big")
        segment = data[position + 2 : position + length]
        if marker in _FRAMES and len(segment) >= 6 and not pixels:
            pixels = int.from_bytes(segment[1:3], "big") * int.from_bytes(segment[3:5], "big")
            components, progressive = segment[5], marker in _PROGRESSIVE
        elif marker == _SOS and segment and len(segment) >= 4 + 2 * segment[0]:
            scans += 1
            if scans > MAX_SCANS_OF_ANY_SIZE and scans * pixels > MAX_SCANNED_PIXELS:
                raise refuse_parts(f"more than {scans - 1} scans of {pixels / 1e6:.0f} megapixels")
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
        # libjpeg supplies the marker; whether pixels are missing too shows when they are decoded.
        notes = ("the end marker is missing",)
        data += b"\xff\xd9"
    return Structure(data, notes=notes, damage=damage, info={"complete": end is not None})


def load_jpeg(image: Image.Image, structure: Structure) -> tuple[Image.Image, str | None]:
    """The pixels of an opened JPEG, and what libjpeg warned of.

    Raises:
        Rejected: `truncated`, the data ends before the picture does.
    """
    colours = {"L": "GRAY", "RGB": "RGB"}.get(image.mode)
    plain = _without_metadata(bytes(structure.data))
    try:
        if colours is not None:
            pixels = simplejpeg.decode_jpeg(plain, colorspace=colours, strict=True)
            loaded = Image.fromarray(pixels[:, :, 0] if colours == "GRAY" else pixels)
            loaded.info = image.info
            return loaded, None
        # Pillow knows how Adobe stores CMYK; this pass only listens to the warnings.
        simplejpeg.decode_jpeg(plain, colorspace="CMYK", min_height=1, min_width=1, strict=True)
        warning = None
    except ValueError as error:
        warning = str(error)
    if warning is not None and not structure.info["complete"] and _is_about_data(warning):
        raise Rejected("truncated", "The picture's data ends before the picture does.")
    image.load()
    return image, _damage_of(warning, plain)


def _is_about_data(warning: str) -> bool:
    return warning.startswith(("Corrupt JPEG data", "Premature end"))


def _damage_of(warning: str | None, data: bytes) -> str | None:
    """What a warning says of the pixels; None where they are not concerned."""
    if warning is None or not _is_about_data(warning):
        return None  # a rare subsampling or coding that only Pillow decodes
    if "extraneous bytes before marker 0xd9" in warning:
        count = int(re.findall(r"\d+", warning)[0])
        end = data.rfind(b"\xff\xd9")
        if not data[max(end - count, 0) : end].strip(b"\x00\xff"):
            return None  # padding behind the last block
    return f"libjpeg reports: {warning[:1].lower()}{warning[1:]}"


def _without_metadata(data: bytes) -> bytes:
    """The same pixels without profile, EXIF and comments, whose own faults are not faults of the pixels."""
    parts, position = [data[:2]], 2
    while position + 4 <= len(data):
        found = _MARKER.search(data, position)
        if found is None:
            break
        marker, start = data[found.end() - 1], found.end() - 2
        if marker == _SOS or marker in _STANDALONE or marker in (_SOI, _EOI):
            parts.append(data[start:])
            return b"".join(parts)
        stop = found.end() + max(int.from_bytes(data[found.end() : found.end() + 2], "big"), 2)
        metadata = 0xE0 <= marker <= 0xEF or marker == 0xFE
        if not metadata or marker in _KEPT_WITHOUT_EFFECT:
            parts.append(data[start:stop])
        position = stop
    return data
