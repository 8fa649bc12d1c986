"""TGA has no signature: what its header and length must be before a file is taken for one."""

from typing import Final

DESCRIPTOR: Final = 17
"""The byte of the header that holds the number of alpha bits and the origin."""
ALPHA_BITS: Final = 0x0F
"""The alpha bits of a pixel in that byte."""
_FOOTER: Final = b"TRUEVISION-XFILE.\x00"
_HEADER_BYTES: Final = 18
_PLAIN, _RUN_LENGTHS = (1, 2, 3), (9, 10, 11)
"""Image types without and with run-length encoding: palette, colour, gray."""
_MAX_TRAILING_BYTES: Final = 4096
"""What may follow the pixels of a file without a footer."""


def is_targa(data: bytes) -> bool:
    """Can this be nothing but a TGA?"""
    if len(data) <= _HEADER_BYTES:
        return False
    palette, kind, descriptor, depth = data[1], data[2], data[17], data[16]
    width, height = int.from_bytes(data[12:14], "little"), int.from_bytes(data[14:16], "little")
    is_indexed = kind in (1, 9)
    depths = {1: (8,), 2: (16, 24, 32), 3: (8, 16)}.get(kind & 7, ())
    if kind not in _PLAIN + _RUN_LENGTHS or depth not in depths or not width or not height:
        return False
    if palette > 1 or is_indexed != bool(palette) or descriptor & 0xC0 or (not palette and any(data[3:8])):
        return False
    entries, bits = int.from_bytes(data[5:7], "little"), data[7]
    start = _HEADER_BYTES + data[0] + (entries * ((bits + 7) // 8) if palette else 0)
    size = width * height * depth // 8
    if data.endswith(_FOOTER):
        return True
    if kind in _PLAIN:
        return start + size <= len(data) <= start + size + _MAX_TRAILING_BYTES
    # A run of up to 128 pixels takes at least one byte and a pixel.
    return start + size // 128 <= len(data) <= start + size + size // 128 + _MAX_TRAILING_BYTES
