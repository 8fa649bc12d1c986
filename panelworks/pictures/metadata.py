"""Metadata of a source for its variants: EXIF, XMP and IPTC, all of it or only who made it.

Positions (GPS), thumbnails, notes of the camera's maker, the orientation and the old size are always removed.
"""

import io
import struct
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final, Literal

from PIL import ExifTags, Image, ImageFile, IptcImagePlugin

_RDF: Final = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
_DC: Final = "http://purl.org/dc/elements/1.1/"
_NAMESPACES: Final = {
    "x": "adobe:ns:meta/",
    "rdf": _RDF,
    "dc": _DC,
    "xmp": "http://ns.adobe.com/xap/1.0/",
    "xmpRights": "http://ns.adobe.com/xap/1.0/rights/",
    "photoshop": "http://ns.adobe.com/photoshop/1.0/",
    "tiff": "http://ns.adobe.com/tiff/1.0/",
    "exif": "http://ns.adobe.com/exif/1.0/",
    "cc": "http://creativecommons.org/ns#",
    "plus": "http://ns.useplus.org/ldf/xmp/1.0/",
}
_MAX_BYTES: Final = 60_000
"""EXIF and XMP each fit in one segment of a JPEG; larger ones are reduced to the copyright."""
_MAX_XMP_BYTES: Final = 1_000_000
_FORMATS: Final = ("JPEG", "PNG", "WEBP", "TIFF", "AVIF", "GIF")
_COPYRIGHT_EXIF: Final = (0x013B, 0x8298)
_MAIN_EXIF: Final = (0x010E, 0x010F, 0x0110, 0x0131, 0x0132, 0x013B, 0x8298, *range(0x9C9B, 0x9CA0))
"""Description, make, model, software, date, artist, copyright, and Windows' title to subject."""
_LEFT_OUT_EXIF: Final = (0x927C, 0xA002, 0xA003, 0xA005)
"""Maker's notes, which may contain positions; the size; the pointer to another directory."""
_COPYRIGHT_IPTC: Final = ((1, 90), (2, 80), (2, 85), (2, 110), (2, 115), (2, 116))
"""Coding of the text, by-line and its title, credit, source, copyright notice."""
_IPTC_TEXTS: Final = {(2, 80): "creator", (2, 116): "rights", (2, 120): "description"}
_LEFT_OUT_NAMES: Final = ("Orientation", "Thumbnails", "PixelXDimension", "PixelYDimension")


@dataclass(frozen=True)
class Metadata:
    """Metadata that a variant carries."""

    exif: bytes | None = None
    """As in a JPEG, with its identifier."""
    xmp: bytes | None = None
    iptc: bytes | None = None
    """Data sets of IPTC-IIM. Only JPEG has a place for them; other formats carry their texts as XMP."""

    @property
    def segment(self) -> bytes:
        """The data sets as a segment APP13 of a JPEG; empty without them."""
        if self.iptc is None:
            return b""
        data = self.iptc + b"\x00" * (len(self.iptc) % 2)
        resource = b"Photoshop 3.0\x008BIM\x04\x04\x00\x00" + struct.pack(">I", len(self.iptc)) + data
        return b"\xff\xed" + struct.pack(">H", len(resource) + 2) + resource


def read_metadata(data: bytes, policy: Literal["copyright", "keep"]) -> Metadata:
    """The metadata of a picture's file that `policy` allows. Damaged metadata is left out."""
    try:
        with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
            exif = _or_nothing(lambda: _copy_exif(image.getexif(), policy))
            sets = _or_nothing(lambda: _iptc_of(image, policy)) or {}
            packet = _xmp_of(image)
    except Exception:  # noqa: BLE001 # decoders of untrusted bytes raise any kind of error
        return Metadata()
    xmp = _or_nothing(lambda: _copy_xmp(packet, policy, sets))
    if xmp is not None and len(xmp) > _MAX_BYTES:
        xmp = _or_nothing(lambda: _copy_xmp(packet, "copyright", sets))
        xmp = xmp if xmp is not None and len(xmp) <= _MAX_BYTES else None
    return Metadata(exif, xmp, _or_nothing(lambda: _pack_iptc(sets)))


def _or_nothing(read: Callable[[], Any]) -> Any:
    """What `read` returns; None if the metadata is damaged."""
    try:
        return read()
    except Exception:  # noqa: BLE001 # as above
        return None


def _copy_exif(given: Image.Exif, policy: str) -> bytes | None:
    copy = Image.Exif()
    for tag in _COPYRIGHT_EXIF if policy == "copyright" else _MAIN_EXIF:
        _copy_tag(copy, copy, given, tag)
    if policy == "keep":
        details, known = copy.get_ifd(ExifTags.IFD.Exif), given.get_ifd(ExifTags.IFD.Exif)
        for tag in sorted(set(known) - set(_LEFT_OUT_EXIF)):
            _copy_tag(copy, details, known, tag)
        if not details:
            copy.pop(ExifTags.IFD.Exif, None)
    if not len(copy):
        return None
    data: bytes = copy.tobytes()
    if len(data) > _MAX_BYTES and policy == "keep":
        return _copy_exif(given, "copyright")
    return data


def _copy_tag(copy: Image.Exif, target: Any, given: Any, tag: int) -> None:
    """Copy a value if it can be written."""
    value = given.get(tag)
    if value is None or (isinstance(value, str | bytes) and not value.strip()):
        return
    target[tag] = value
    if _or_nothing(copy.tobytes) is None:
        del target[tag]


def _xmp_of(image: Image.Image) -> bytes:
    packet = image.info.get("xmp") or image.info.get("XML:com.adobe.xmp") or b""
    if not packet and image.format == "TIFF":
        packet = getattr(image, "tag_v2", {}).get(700, b"")
    packet = packet.encode() if isinstance(packet, str) else bytes(packet)
    return packet if len(packet) <= _MAX_XMP_BYTES else b""


def _copy_xmp(packet: bytes, policy: str, iptc: dict[tuple[int, int], list[bytes]]) -> bytes | None:
    for prefix, uri in _NAMESPACES.items():
        ET.register_namespace(prefix, uri)
    description = ET.Element(f"{{{_RDF}}}Description", {f"{{{_RDF}}}about": ""})
    for name, value in _properties(packet):
        if _is_allowed(name, policy) and description.find(name) is None:
            description.append(value)
    for key, local in _IPTC_TEXTS.items():
        name = f"{{{_DC}}}{local}"
        if key in iptc and description.find(name) is None and _is_allowed(name, policy):
            description.append(_text_property(name, iptc[key]))
    if not len(description):
        return None
    root = ET.Element(f"{{{_NAMESPACES['x']}}}xmpmeta")
    ET.SubElement(root, f"{{{_RDF}}}RDF").append(description)
    start = b'<?xpacket begin="\xef\xbb\xbf" id="W5M0MpCehiHzreSzNTczkc9d"?>'
    content: bytes = ET.tostring(root, encoding="utf-8")
    return start + content + b'<?xpacket end="w"?>'


def _properties(packet: bytes) -> Iterator[tuple[str, ET.Element]]:
    """The properties of a packet as elements, without positions at any depth."""
    text = packet.strip(b"\x00 \t\r\n")
    if not text or b"<!DOCTYPE" in text or b"<!ENTITY" in text:
        return
    root = ET.fromstring(text)  # noqa: S314 # entities were refused above
    for parent in root.iter():
        for name in [name for name in parent.attrib if not _is_harmless(name)]:
            del parent.attrib[name]
        for child in [child for child in parent if not _is_harmless(child.tag)]:
            parent.remove(child)
    for description in root.iter(f"{{{_RDF}}}Description"):
        for name, value in description.attrib.items():
            if name.startswith("{") and not name.startswith(f"{{{_RDF}}}"):
                element = ET.Element(name)
                element.text = value
                yield name, element
        for child in description:
            child.tail = None
            yield child.tag, child


def _is_harmless(name: str) -> bool:
    local = name.rpartition("}")[2]
    return not local.startswith("GPS") and local not in _LEFT_OUT_NAMES


def _is_allowed(name: str, policy: str) -> bool:
    space, _, local = name[1:].rpartition("}")
    if policy == "keep":
        return True
    if space == _DC:
        return local in ("creator", "rights")
    if space == _NAMESPACES["photoshop"]:
        return local in ("Credit", "Source", "AuthorsPosition")
    return space in (_NAMESPACES["xmpRights"], _NAMESPACES["cc"], _NAMESPACES["plus"])


def _text_property(name: str, values: list[bytes]) -> ET.Element:
    element = ET.Element(name)
    kind = "Seq" if name.endswith("creator") else "Alt"
    items = ET.SubElement(element, f"{{{_RDF}}}{kind}")
    for value in values if kind == "Seq" else values[:1]:
        item = ET.SubElement(items, f"{{{_RDF}}}li")
        if kind == "Alt":
            item.set("{http://www.w3.org/XML/1998/namespace}lang", "x-default")
        text = value.decode("utf-8", "replace")
        item.text = "".join(one for one in text if one.isprintable())
    return element


def _iptc_of(image: ImageFile.ImageFile, policy: str) -> dict[tuple[int, int], list[bytes]]:
    found: Any = IptcImagePlugin.getiptcinfo(image) or {}
    sets = {
        (key[0], key[1]): list(value) if isinstance(value, list) else [value] for key, value in found.items()
    }
    return {
        key: values
        for key, values in sorted(sets.items())
        if (key in _COPYRIGHT_IPTC if policy == "copyright" else key[0] == 2 or key in _COPYRIGHT_IPTC)
        and all(len(value) < 2**15 for value in values)
    }


def _pack_iptc(sets: dict[tuple[int, int], list[bytes]]) -> bytes | None:
    data = b"".join(
        struct.pack(">BBBH", 0x1C, *key, len(value)) + value
        for key, values in sets.items()
        for value in values
    )
    return data if 0 < len(data) <= _MAX_BYTES else None
