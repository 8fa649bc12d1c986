"""Identification of files that are not readable pictures, for error messages."""

import re
from typing import Final

from panelworks.errors import Rejected

READABLE_FORMATS: Final = "PNG, JPEG, WebP, GIF, TIFF, BMP, AVIF, JPEG 2000, TGA, PNM"
"""The readable formats, as listed in messages."""
VIDEO_HINT: Final = " Add #best to its address to use a frame of it."
_HEAD_BYTES: Final = 4096
_TAR: Final = b"ustar"
_TAR_OFFSET: Final = 257
_ARCHIVES: Final = {
    b"PK\x03\x04": "ZIP (CBZ) archive",
    b"PK\x05\x06": "ZIP (CBZ) archive",
    b"Rar!\x1a\x07": "RAR (CBR) archive",
    b"7z\xbc\xaf\x27\x1c": "7z (CB7) archive",
    b"%PDF-": "PDF document",
    _TAR: "TAR (CBT) archive",
}
_SIGNATURES: Final = (
    (rb"8BP[SB]\x00[\x01\x02]", "a Photoshop document (PSD)"),
    (rb"gimp xcf", "a GIMP picture (XCF)"),
    (rb"\xff\x0a|\x00\x00\x00\x0cJXL \r\n\x87\n", "a JPEG XL picture"),
    (
        rb"....ftyp(?:hei[cxms]|hev[cxms]|mif1|msf1)",
        "a HEIC picture; pip install 'panelworks[heic]' to read it",
    ),
    (rb"II\xbc\x01", "a JPEG XR picture"),
    (rb"\x76\x2f\x31\x01", "an OpenEXR picture"),
    (rb"#\?(?:RADIANCE|RGBE)", "a Radiance HDR picture"),
    (rb"DDS |qoif|\x00\x00\x01\x00.\x00|icns", "an icon or texture"),
    (rb"AT&TFORM", "a DjVu document"),
    (rb"%!PS|\xc5\xd0\xd3\xc6", "a PostScript file"),
    (rb"\xd7\xcd\xc6\x9a|\x01\x00\x00\x00....{32} EMF", "a Windows metafile"),
    (rb"\x00\x05\x16[\x00\x07]", "a macOS side file (AppleDouble), which holds no picture"),
    (rb"....ftyp|....moov|....mdat", "a video (MP4 or QuickTime)"),
    (rb"\x1a\x45\xdf\xa3", "a video (WebM or Matroska)"),
    (rb"RIFF....AVI ", "a video (AVI)"),
    (rb"RIFF....WAVE|ID3|OggS|fLaC", "an audio file"),
    (rb"FLV\x01|\x00\x00\x01[\xb3\xba]", "a video"),
    (rb"\x1f\x8b|BZh|\xfd7zXZ|\x28\xb5\x2f\xfd", "a compressed file"),
    (rb"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an old Office document"),
    (rb"\x7fELF|MZ", "a program"),
    (rb"version https://git-lfs", "a Git LFS pointer; the picture itself was not downloaded"),
)
"""Patterns at the start of a file, specific ones before general ones."""
_TEXT_SIGNATURES: Final = (
    (rb"<!doctype html|<html|<head|<body", "an HTML page, perhaps an error page of a web server"),
    (rb"<svg", "an SVG drawing"),
    (rb"<\?xml|<[a-z]+[\s>]", "an XML file"),
    (rb"[{\[]", "a JSON or text file"),
)


def refuse_archive(data: bytes) -> None:
    """Refuse archives and documents, which must be unpacked first.

    Raises:
        Rejected: `archive`.
    """
    for signature, name in _ARCHIVES.items():
        if data.startswith(signature, _TAR_OFFSET if signature == _TAR else 0):
            raise Rejected(
                "archive", f"This is a {name}, not a picture; 'panelworks backfill' enhances books."
            )


def unknown_format_error(data: bytes) -> Rejected:
    """Return the error for a file in no readable format. The message identifies the file if possible."""
    name = identify_format(data)
    if name is None:
        return Rejected(
            "unsupported_format", f"This is not a picture in a known format ({READABLE_FORMATS})."
        )
    hint = VIDEO_HINT if name.startswith("a video") else ""
    return Rejected("unsupported_format", f"This is {name}; readable formats are {READABLE_FORMATS}.{hint}")


def identify_format(data: bytes) -> str | None:
    """Identify a file. The name includes its article; None for an unknown file."""
    head = data[:_HEAD_BYTES]
    for pattern, name in _SIGNATURES:
        if re.match(pattern, head, re.DOTALL):
            return name
    if not head.strip(b"\x00"):
        return "a file of zero bytes only, as after a failed download or disk error"
    return _identify_text(head)


def _identify_text(head: bytes) -> str | None:
    text = _decode_text(head)
    if text is None:
        return None
    text = text.lstrip()
    for pattern, name in _TEXT_SIGNATURES[:1]:
        if re.match(pattern, text, re.IGNORECASE):
            return name
    markup = re.sub(
        rb"<!--.*?(?:-->|$)|<\?.*?\?>|<!doctype.*?>", b"", text, flags=re.DOTALL | re.IGNORECASE
    ).lstrip()
    for pattern, name in _TEXT_SIGNATURES:
        if re.match(pattern, markup, re.IGNORECASE):
            return name
    return "an XML file" if text.startswith(b"<?xml") else "a text file"


def _decode_text(head: bytes) -> bytes | None:
    """Decode text to UTF-8 without a byte order mark; None if it is not text."""
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        return head.decode("utf-16", "ignore").encode()
    head = head.removeprefix(b"\xef\xbb\xbf")
    controls = sum(byte < 32 and byte not in b"\t\r\n\f\x1b" for byte in head)
    try:
        head.decode("utf-8", "strict" if len(head) < _HEAD_BYTES - 3 else "ignore")
    except UnicodeDecodeError:
        return None
    return None if controls else head
