"""The chunks of a PNG. Chunks with pixels must be valid. Damaged descriptive chunks are ignored."""

import io
import struct
import zlib
from collections.abc import Iterator
from typing import Any, Final

import numpy as np
from PIL import Image

from panelworks.errors import Rejected
from panelworks.pictures.structure import Structure, excess_error

SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
MAX_PROFILE_BYTES: Final = 16 * 2**20
"""Maximum size of an inflated colour profile. Those of printers have at most 4 MB."""
MAX_TEXT_BYTES: Final = 2**20
"""Maximum size of an inflated text that may contain an orientation."""
MAX_DATA_CHUNKS: Final = 50_000
"""Maximum number of chunks of frames and their pixels. Encoders write chunks of 8 KiB or more."""
MAX_OTHER_CHUNKS: Final = 2_000
"""Maximum number of descriptive chunks. Encoders write a few dozen."""
_PIXEL_CHUNKS: Final = (b"IHDR", b"PLTE", b"tRNS", b"IDAT")
_CHUNK_BYTES: Final = {b"gAMA": 4, b"cHRM": 32, b"sRGB": 1, b"cICP": 4, b"pHYs": 9}
"""Size of chunks of fixed size."""
_COLOUR_CHUNKS: Final = (b"gAMA", b"cHRM", b"sRGB", b"cICP")
_TEXT_CHUNKS: Final = (b"tEXt", b"zTXt", b"iTXt")
_ORIENTATION_KEYS: Final = ("Raw profile type exif", "Raw profile type APP1", "XML:com.adobe.xmp")
"""Keys of texts that may contain an orientation."""
_DATA_CHUNKS: Final = (b"IDAT", b"fdAT", b"fcTL")
SAMPLES_PER_PIXEL: Final = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
"""Samples per pixel by colour type."""
_ADAM7: Final = (
    (0, 0, 8, 8),
    (4, 0, 8, 8),
    (0, 4, 4, 8),
    (2, 0, 4, 4),
    (0, 2, 2, 4),
    (1, 0, 2, 2),
    (0, 1, 1, 2),
)
"""First column, first row, column step and row step of each pass of an interlaced picture."""
_PIECE_BYTES: Final = 65_536
"""Compressed bytes that are inflated at once when only the length of the result matters."""


def scan_png(data: bytes) -> Structure:
    """Extract the chunks with pixels as a separate file, and the metadata.

    `info` has Pillow's `icc_profile`, `exif` and texts, and the bytes of the colour chunks by name.

    Raises:
        Rejected: `truncated`, the file ends before the first pixel; `unsupported_format`, a PNG for Apple devices;
            `out_of_proportion`, too many chunks.
    """
    pixels: dict[bytes, bytes] = {}
    stream: list[memoryview] = []
    notes: list[str] = []
    damage: str | None = None
    info: dict[str, Any] = {}
    frames, shown_apart, ended = 1, False, False
    for kind, payload, sound in iterate_chunks(data):
        if kind == b"CgBI":
            raise Rejected(
                "unsupported_format",
                "This is a PNG in Apple's CgBI variant, which only Apple devices can read; convert it with 'pngcrush"
                " -revert-iphone-optimizations'.",
            )
        if kind in _PIXEL_CHUNKS:
            if not sound:
                damage = damage or f"the checksum of a {kind.decode()} chunk is wrong"
            if kind == b"IDAT":
                stream.append(payload)
            else:
                pixels.setdefault(kind, bytes(payload))
        elif kind == b"IEND":
            ended = True
            break
        elif not sound or len(payload) != _CHUNK_BYTES.get(kind, len(payload)):
            notes.append(f"the PNG chunk {_printable_kind(kind)} is damaged and was ignored")
        elif kind == b"acTL" and len(payload) == 8:
            frames = max(int.from_bytes(payload[:4], "big"), 1)
        elif kind == b"fcTL" and not shown_apart and not info.get("fcTL"):
            info["fcTL"] = True
            shown_apart = bool(stream)
        elif kind in _COLOUR_CHUNKS:
            info.setdefault(kind.decode(), bytes(payload))
        elif kind == b"iCCP" and "icc_profile" not in info:
            info["icc_profile"] = _read_profile(payload)
        elif kind == b"eXIf":
            info["exif"] = bytes(payload)
        elif kind in _TEXT_CHUNKS:
            info |= _orientation_text(kind, payload)
    if not stream or b"IHDR" not in pixels:
        raise Rejected("truncated", "The picture's data ends before the picture does.")
    if not ended:
        notes.append("the end marker is missing")
    info.pop("fcTL", None)
    # A picture outside of the animation counts as a separate frame, as in Pillow.
    frames = frames + 1 if shown_apart and frames > 1 else frames
    chunks = [make_chunk(kind, pixels[kind]) for kind in _PIXEL_CHUNKS if kind in pixels]
    clean = b"".join((SIGNATURE, *chunks, make_chunk(b"IDAT", b"".join(stream)), make_chunk(b"IEND", b"")))
    return Structure(clean, frames, tuple(dict.fromkeys(notes)), damage, info)


def load_png(image: Image.Image, structure: Structure) -> tuple[Image.Image, str | None]:
    """Load the pixels of an opened PNG. Return them and the reason why they may be wrong.

    Raises:
        Rejected: `truncated`, the pixel stream ends properly but has too few rows; `damaged`.
        OSError: Pillow cannot decode it.
    """
    try:
        image.load()
    except OSError:
        repaired = _decode_without_checksum(structure.data)
        if repaired is None:
            if structure.damage is None:
                raise
            raise Rejected("damaged", f"The picture cannot be decoded: {structure.damage}.") from None
        repaired.info = image.info
        return repaired, "the checksum of the compressed pixels is wrong"
    refuse_missing_rows(np.asarray(image.crop((0, image.height - 2, *image.size))), structure.data)
    return image, None


def refuse_missing_rows(
    last_rows: "np.ndarray[tuple[int, ...], np.dtype[Any]]", data: bytes | memoryview
) -> None:
    """Refuse a PNG of `scan_png` whose stream ends too early without an error. Decoders leave its last rows zero.

    Counting inflates the stream again. It is done only if one of the last two rows is zero everywhere: the last stored
    row is one of these, with and without interlacing.

    Raises:
        Rejected: `truncated`.
    """
    if all(row.any() for row in last_rows) and len(last_rows) == 2:
        return
    expected, count = _pixel_bytes(data), 0
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    stream = _pixel_stream(data)
    for start in range(0, len(stream), _PIECE_BYTES):
        if inflater.eof:
            break
        count += len(inflater.decompress(stream[start : start + _PIECE_BYTES]))
        if count >= expected:
            return
    raise Rejected("truncated", "The picture's data ends before the picture does.")


def _decode_without_checksum(data: bytes | memoryview) -> Image.Image | None:
    """Decode a stream whose only fault is its own checksum; None if it has another fault."""
    expected = _pixel_bytes(data)
    try:
        rows = zlib.decompressobj(-zlib.MAX_WBITS).decompress(_pixel_stream(data), expected)
    except zlib.error:
        return None
    if len(rows) < expected:
        return None
    chunks = [
        make_chunk(kind, zlib.compress(rows, 1) if kind == b"IDAT" else bytes(payload))
        for kind, payload, _ in iterate_chunks(data)
    ]
    image = Image.open(io.BytesIO(b"".join((SIGNATURE, *chunks))), formats=("PNG",))
    image.load()
    return image


def _pixel_stream(data: bytes | memoryview) -> memoryview:
    """The deflated rows of a file of `scan_png`, without zlib's header of two bytes."""
    return next(payload for kind, payload, _ in iterate_chunks(data) if kind == b"IDAT")[2:]


def _pixel_bytes(data: bytes | memoryview) -> int:
    """Size of all inflated rows, each with its filter byte (PNG third edition, 7.2 and 8)."""
    width, height, depth, colour_type, _, _, interlaced = struct.unpack(">IIBBBBB", data[16:29])
    bits, total = depth * SAMPLES_PER_PIXEL.get(colour_type, 1), 0
    for left, top, across, down in _ADAM7 if interlaced else ((0, 0, 1, 1),):
        columns, rows = -((left - width) // across), -((top - height) // down)
        if columns > 0 and rows > 0:
            total += rows * (1 + (columns * bits + 7) // 8)
    return total


def iterate_chunks(data: bytes | memoryview) -> Iterator[tuple[bytes, memoryview, bool]]:
    """Yield kind, content and whether the checksum is correct. A last chunk that is cut off counts as correct."""
    view, position, data_chunks, others = memoryview(data), len(SIGNATURE), 0, 0
    while position + 8 <= len(data):
        size, kind = (
            int.from_bytes(view[position : position + 4], "big"),
            bytes(view[position + 4 : position + 8]),
        )
        data_chunks, others = data_chunks + (kind in _DATA_CHUNKS), others + (kind not in _DATA_CHUNKS)
        if data_chunks > MAX_DATA_CHUNKS or others > MAX_OTHER_CHUNKS:
            raise excess_error(f"more than {max(data_chunks, others) - 1} chunks")
        payload = view[position + 8 : position + 8 + size]
        checksum = view[position + 8 + size : position + 12 + size]
        cut = len(checksum) < 4
        yield kind, payload, cut or zlib.crc32(payload, zlib.crc32(kind)) == int.from_bytes(checksum, "big")
        position += 12 + size


def make_chunk(kind: bytes, payload: bytes) -> bytes:
    """A chunk of a PNG file, with its length and checksum."""
    return b"".join(
        (
            struct.pack(">I", len(payload)),
            kind,
            payload,
            struct.pack(">I", zlib.crc32(payload, zlib.crc32(kind))),
        )
    )


def _read_profile(payload: memoryview) -> bytes:
    """Read the colour profile. If it cannot be inflated, an invalid one is returned, which is noted when it is
    applied."""
    name, _, rest = bytes(payload).partition(b"\x00")
    return _inflate(rest[1:], MAX_PROFILE_BYTES) or name + b"?"


def _orientation_text(kind: bytes, payload: memoryview) -> dict[str, str]:
    """Read a text that may contain an orientation, by its key. Other texts are ignored."""
    key, _, rest = bytes(payload[:80]).partition(b"\x00")
    name = key.decode("latin-1")
    if name not in _ORIENTATION_KEYS:
        return {}
    rest = bytes(payload[len(key) + 1 :])
    if kind == b"zTXt":
        text = _inflate(rest[1:], MAX_TEXT_BYTES)
    elif kind == b"iTXt" and len(rest) >= 2:
        compressed, body = rest[0], rest[2:].split(b"\x00", 2)[-1]
        text = _inflate(body, MAX_TEXT_BYTES) if compressed else body
    else:
        text = rest
    return {name: text.decode("utf-8", "replace")} if text else {}


def _inflate(data: bytes, limit: int) -> bytes:
    """Inflate data; empty if it is damaged or longer than `limit`."""
    inflater = zlib.decompressobj()
    try:
        result = inflater.decompress(data, limit)
    except zlib.error:
        return b""
    return result if inflater.eof else b""


def _printable_kind(kind: bytes) -> str:
    return "".join(chr(byte) if chr(byte).isalpha() and byte < 128 else "?" for byte in kind)
