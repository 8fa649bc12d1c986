"""ComicInfo.xml: kept as it is, but for the figures that enhancing changes."""

from dataclasses import dataclass
from typing import Final
from xml.etree.ElementTree import Element, ParseError, SubElement, tostring

from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import fromstring

from panelworks.archives.member import BookInfo
from panelworks.version import __version__

COMIC_INFO: Final = "ComicInfo.xml"
"""Its name, at the root of a book: the schema of the ComicRack and Anansi projects."""


@dataclass(frozen=True)
class PageFigures:
    """What the file says of a page."""

    width: int | None
    height: int | None
    bytes: int


def is_comic_info(name: str) -> bool:
    """Is this the file, wherever it lies?"""
    return name.rpartition("/")[2].lower() == COMIC_INFO.lower()


def created(info: BookInfo) -> bytes | None:
    """A file with title, authors and reading direction of a document; None when it states none of them."""
    fields = {
        "Title": _printable(info.title),
        "Writer": ", ".join(filter(None, map(_printable, info.authors))),
        "Manga": "YesAndRightToLeft" if info.right_to_left else "",
    }
    if not any(fields.values()):
        return None
    root = Element("ComicInfo")
    for tag, text in fields.items():
        if text:
            SubElement(root, tag).text = text
    data: bytes = tostring(root, encoding="utf-8", xml_declaration=True)
    return data


def _printable(text: str) -> str:
    """The text without what XML does not hold."""
    return " ".join("".join(one if one.isprintable() else " " for one in text).split())


def updated(data: bytes, pages: list[list[PageFigures]], note: str) -> bytes | None:
    """The file with count, sizes and a note of the enhancement; None when it is no ComicInfo.

    Args:
        data: The file of the source.
        pages: For each page of the source what became of it: one picture, several for a strip that was cut, none
            for a page that was lost.
        note: A sentence for people, put behind the notes that are there.
    """
    try:
        root = fromstring(data)
    except (ParseError, DefusedXmlException, ValueError, LookupError, RecursionError):
        return None
    if root.tag != "ComicInfo":
        return None
    _element(root, "PageCount").text = str(sum(len(figures) for figures in pages))
    notes = _element(root, "Notes")
    sentence = f"Panelworks {__version__}: {note}"
    notes.text = f"{notes.text}\n{sentence}" if notes.text else sentence
    _update_pages(root, pages)
    try:
        text: bytes = tostring(root, encoding="utf-8", xml_declaration=True)
    except RecursionError:
        return None
    return text + b"\n"


def _update_pages(root: Element, pages: list[list[PageFigures]]) -> None:
    """One entry a picture, with what the source said of its page (type, bookmark, double page)."""
    listed = _element(root, "Pages")
    said = {entry.get("Image"): dict(entry.attrib) for entry in listed.findall("Page")}
    for entry in listed.findall("Page"):
        listed.remove(entry)
    image = 0
    for index, figures in enumerate(pages):
        for figure in figures:
            attributes = {**said.get(str(index), {}), "Image": str(image), "ImageSize": str(figure.bytes)}
            if figure.width and figure.height:
                attributes |= {"ImageWidth": str(figure.width), "ImageHeight": str(figure.height)}
            SubElement(listed, "Page", attributes)
            image += 1


def _element(root: Element, tag: str) -> Element:
    found = root.find(tag)
    return found if found is not None else SubElement(root, tag)
