"""EPUB: the images of its pages, in the order of its spine."""

import posixpath
import re
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit
from xml.etree.ElementTree import Element, ParseError

from defusedxml.ElementTree import fromstring

from panelworks.archives.member import ArchiveKind, Closing, Content, Member, Refusal
from panelworks.archives.zipped import ZipArchive
from panelworks.errors import Rejected
from panelworks.settings import Settings

_CONTAINER: Final = "META-INF/container.xml"
_IMAGE: Final = re.compile(
    rb"""<(?:img|image|svg:image)\b[^>]*?\b(?:src|(?:xlink:)?href)\s*=\s*["']([^"']+)""", re.I
)
"""Images of a page, also of one that is no well-formed XML."""
_DRAWN: Final = "image/"


class EpubArchive(Closing):
    """The images of an EPUB in reading order. Its text and styles are frames around them and are left out."""

    kind: ArchiveKind = "epub"

    def __init__(self, path: Path, settings: Settings) -> None:
        """Open the file and follow its spine.

        Raises:
            Rejected: as a ZIP; `damaged`, it has no readable contents.
        """
        self._zip = ZipArchive(path, settings)
        try:
            order = self._spine()
        except (ParseError, LookupError, ValueError, RuntimeError, StopIteration) as error:
            self._zip.close()
            raise Rejected("damaged", "The contents of the EPUB cannot be read.") from error
        by_name = {member.name: member for member in self._zip.members}
        if not any(name in by_name for name in order):
            self._zip.close()
            raise Rejected("damaged", "The EPUB shows no picture of its own.")
        self.members = tuple(by_name[name] for name in order if name in by_name)
        self.refused: tuple[Refusal, ...] = self._zip.refused

    def read(self, wanted: Collection[int]) -> Iterator[tuple[Member, Content]]:
        for member in self.members:
            if member.index in wanted:
                yield from self._zip.read({member.index})

    def _spine(self) -> list[str]:
        package = _first(fromstring(self._bytes(_CONTAINER)), "rootfile").attrib["full-path"]
        root, base = fromstring(self._bytes(package)), posixpath.dirname(package)
        items = {item.get("id", ""): item.attrib for item in root.iter() if _tag(item) == "item"}
        found: dict[str, None] = {}
        for reference in (one for one in root.iter() if _tag(one) == "itemref"):
            item = items.get(reference.get("idref", ""))
            if item is None or "href" not in item:
                continue
            name = _joined(base, item["href"])
            if item.get("media-type", "").startswith(_DRAWN):
                found[name] = None
                continue
            for address in _IMAGE.findall(self._page(name)):
                found[_joined(posixpath.dirname(name), address.decode("utf-8", errors="replace"))] = None
        return list(found)

    def _page(self, name: str) -> bytes:
        """A page of text; an empty one where the file is damaged or gone, so that the others are still read."""
        try:
            return self._bytes(name)
        except (KeyError, Rejected):
            return b""

    def _bytes(self, name: str) -> bytes:
        member = next((one for one in self._zip.members if one.name == name), None)
        if member is None:
            raise KeyError(name)
        ((_, content),) = self._zip.read({member.index})
        if isinstance(content, Rejected):
            raise content
        return content

    def close(self) -> None:
        self._zip.close()


def _joined(base: str, address: str) -> str:
    return posixpath.normpath(posixpath.join(base, unquote(urlsplit(address).path)))


def _first(root: Element, tag: str) -> Element:
    return next(one for one in root.iter() if _tag(one) == tag)


def _tag(element: Element) -> str:
    return str(element.tag).rpartition("}")[2]
