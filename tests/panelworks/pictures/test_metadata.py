"""What variants carry of the metadata of a source: never a position."""

import io
import struct
from typing import Any, Literal

import pytest
from PIL import Image, IptcImagePlugin

from panelworks.domain.formats import PictureFormat
from panelworks.pictures import encode
from panelworks.pictures.metadata import Metadata, read_metadata
from tests.pages import drawn, file_of

ARTIST, COPYRIGHT, ORIENTATION, GPS, DETAILS = 0x013B, 0x8298, 0x0112, 0x8825, 0x8769
XMP = b"""<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description rdf:about="" xmlns:dc="http://purl.org/dc/elements/1.1/" xmlns:exif="http://ns.adobe.com/exif/1.0/"
 xmlns:xmp="http://ns.adobe.com/xap/1.0/" exif:GPSLatitude="50,30N" xmp:CreatorTool="Krita">
<dc:rights><rdf:Alt><rdf:li xml:lang="x-default">CC BY, Ada</rdf:li></rdf:Alt></dc:rights>
<exif:GPSLongitude>8,15E</exif:GPSLongitude>
<dc:description><rdf:Alt><rdf:li>A page</rdf:li></rdf:Alt></dc:description></rdf:Description></rdf:RDF></x:xmpmeta>"""


def iptc_segment(sets: list[tuple[int, bytes]]) -> bytes:
    data = b"".join(struct.pack(">BBBH", 0x1C, 2, kind, len(value)) + value for kind, value in sets)
    return Metadata(iptc=data).segment


def photographed() -> bytes:
    """A JPEG as a camera and an editor write it."""
    exif = Image.Exif()
    exif[ARTIST], exif[COPYRIGHT], exif[ORIENTATION], exif[0x0131] = "Ada", "(c) Ada", 6, "Krita"
    exif.get_ifd(GPS)[2] = (50.0, 30.0, 0.0)
    exif.get_ifd(DETAILS).update({0x927C: b"maker 50.30N", 0x9003: "2026:01:02 03:04:05", 0xA002: 99})
    extra = iptc_segment([(80, b"Ada"), (116, b"(c) Ada"), (120, b"A caption")])
    return file_of(Image.fromarray(drawn().pixels), "JPEG", exif=exif.tobytes(), xmp=XMP, extra=extra)


def opened(format: PictureFormat, policy: Literal["copyright", "keep"]) -> tuple[bytes, Any]:
    data = encode(drawn(), format, 80, metadata=read_metadata(photographed(), policy))
    image = Image.open(io.BytesIO(data))
    image.load()
    return data, image


@pytest.mark.parametrize("format", ["jpeg", "webp", "png", "avif"])
@pytest.mark.parametrize("policy", ["copyright", "keep"])
def test_positions_never_leave(format: PictureFormat, policy: Literal["copyright", "keep"]) -> None:
    data, image = opened(format, policy)
    assert b"GPS" not in data
    assert b"50.30N" not in data
    exif = image.getexif()
    assert exif.get(COPYRIGHT) == "(c) Ada"
    assert ORIENTATION not in exif
    assert not exif.get_ifd(GPS)
    xmp = image.info.get("xmp") or image.info.get("XML:com.adobe.xmp", "").encode()
    assert b"CC BY, Ada" in xmp
    assert (b"A page" in xmp) == (b"Krita" in xmp) == (policy == "keep")
    assert (exif.get_ifd(DETAILS).get(0x9003) is not None) == (policy == "keep")
    assert 0xA002 not in exif.get_ifd(DETAILS)


@pytest.mark.parametrize(("policy", "kinds"), [("copyright", {80, 116}), ("keep", {80, 116, 120})])
def test_a_jpeg_carries_iptc(policy: Literal["copyright", "keep"], kinds: set[int]) -> None:
    found: Any = IptcImagePlugin.getiptcinfo(opened("jpeg", policy)[1])
    assert {key[1] for key in found} == kinds


def test_other_formats_carry_iptc_as_xmp() -> None:
    source = file_of(
        Image.fromarray(drawn().pixels), "JPEG", extra=iptc_segment([(80, b"Ada"), (116, b"Mine")])
    )
    xmp = read_metadata(source, "copyright").xmp or b""
    assert b"Ada" in xmp
    assert b"Mine" in xmp


@pytest.mark.parametrize(
    "source",
    [
        b"",
        b"no picture",
        file_of(Image.fromarray(drawn().pixels), "JPEG"),
        file_of(Image.fromarray(drawn().pixels), "JPEG", xmp=b"<x:xmpmeta"),
        file_of(Image.fromarray(drawn().pixels), "JPEG", xmp=b'<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>'),
        file_of(Image.fromarray(drawn().pixels), "JPEG", exif=b"Exif\x00\x00II*\x00\xff\xff\xff\xff"),
        file_of(Image.fromarray(drawn().pixels), "JPEG", extra=b"\xff\xed\x00\x14Photoshop 3.0\x008BI"),
    ],
)
def test_damaged_metadata_is_left_out(source: bytes) -> None:
    assert read_metadata(source, "copyright") == read_metadata(source, "keep") == Metadata()


def test_large_metadata_is_reduced_to_the_copyright() -> None:
    padded = XMP.replace(b"A page", b"A page" * 10_000)
    source = file_of(Image.fromarray(drawn().pixels), "PNG", pnginfo=None)
    with Image.open(io.BytesIO(source)) as image:
        from PIL.PngImagePlugin import PngInfo

        info = PngInfo()
        info.add_itxt("XML:com.adobe.xmp", padded.decode())
        source = file_of(image, "PNG", pnginfo=info)
    xmp = read_metadata(source, "keep").xmp or b""
    assert b"CC BY, Ada" in xmp
    assert len(xmp) < 60_000
