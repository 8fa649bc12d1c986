"""The package of an EPUB: its spine, its manifest and its encrypted members. Runs in a child process.

All parsing takes linear time. Entities are expanded only within the limits of libxml2, and nothing is downloaded.
"""

import posixpath
import re
from collections.abc import Iterator
from dataclasses import dataclass
from html.entities import html5
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from lxml import etree

from panelworks.errors import Rejected

SVG: Final = "image/svg+xml"
_DRAWN: Final = "image/"
_PACKAGE: Final = "application/oebps-package+xml"
_FONT_ALGORITHMS: Final = ("http://www.idpf.org/2008/embedding", "http://ns.adobe.com/pdf/enc#RC")
"""Encryption that applies only to fonts, with a key in the EPUB."""
_PREDEFINED: Final = {b"amp", b"lt", b"gt", b"quot", b"apos"}
_SPINE_END: Final = re.compile(rb"</(?:\w+:)?spine\s*>")
_REFERENCE: Final = re.compile(rb"<(?:\w+:)?itemref\b")
_ENTITY: Final = re.compile(rb"&([A-Za-z][A-Za-z0-9]{0,31});")


def package_path(container: bytes) -> str:
    """The path of the package that META-INF/container.xml names.

    Raises:
        Rejected: `damaged`.
    """
    others = []
    for element in elements(_xml(container)):
        if tag_of(element) == "rootfile" and element.get("full-path"):
            path = joined("", str(element.get("full-path")))
            if path and str(element.get("media-type", "")).strip().lower() == _PACKAGE:
                return path
            others += [path] if path else []
    if others:
        return others[0]
    raise Rejected("damaged", "The EPUB does not name its package.")


def encrypted_names(encryption: bytes) -> list[str]:
    """The names of the encrypted members in META-INF/encryption.xml, without fonts.

    Raises:
        Rejected: `damaged`.
    """
    names: list[str | None] = []
    for data in elements(_xml(encryption)):
        if tag_of(data) != "encrypteddata":
            continue
        inside = list(elements(data))
        if any(element.get("Algorithm") in _FONT_ALGORITHMS for element in inside):
            continue
        names += [
            joined("", element.get("URI") or "") for element in inside if tag_of(element) == "cipherreference"
        ]
    return [name for name in names if name]


@dataclass
class _Item:
    """An item of the manifest."""

    name: str | None
    kind: str
    fallback: str

    @property
    def is_readable(self) -> bool:
        return not self.kind or self.kind.startswith((_DRAWN, "text/")) or "xml" in self.kind


def read_package(data: bytes, path: str, max_pages: int) -> dict[str, Any]:
    """The spine as `[name or None, media type, reference]` each, the media types of all files by name, title, authors,
    reading direction, and whether the spine is complete.

    A name is None where the manifest has no such line, or its address cannot be parsed.

    Raises:
        Rejected: `damaged`; `too_many_entries`, the spine refers to more than `max_pages` documents.
    """
    items: dict[str, _Item] = {}
    titles: list[str] = []
    authors: list[str] = []
    direction, base = "", posixpath.dirname(path)
    references: list[str] = []
    for element in elements(_xml(data)):
        tag = tag_of(element)
        if tag == "item" and element.get("href"):
            item = _Item(
                joined(base, str(element.get("href"))),
                str(element.get("media-type", "")).strip().lower(),
                str(element.get("fallback", "")),
            )
            items.setdefault(str(element.get("id", "")), item)
        elif tag == "itemref":
            if len(references) >= max_pages:
                raise Rejected(
                    "too_many_entries",
                    f"The spine of the EPUB refers to more than {max_pages} documents, which is the most that is read.",
                )
            references.append(str(element.get("idref", "")))
        elif tag == "spine":
            direction = str(element.get("page-progression-direction", "")).lower()
        elif tag == "title" and element.text:
            titles.append(" ".join(element.text.split()))
        elif tag == "creator" and element.text:
            authors.append(" ".join(element.text.split()))
    missing = _Item(None, "", "")
    spine = [(_readable(items, items.get(reference, missing)), reference) for reference in references]
    return {
        "spine": [[item.name, item.kind, reference] for item, reference in spine],
        "kinds": {item.name: item.kind for item in items.values() if item.name},
        "title": next((title for title in titles if title), ""),
        "authors": [author for author in dict.fromkeys(authors) if author],
        "right_to_left": direction == "rtl",
        "complete": _is_well_formed(data)
        or (bool(_SPINE_END.search(data)) and len(_REFERENCE.findall(data)) <= len(references)),
    }


def _readable(items: dict[str, _Item], item: _Item) -> _Item:
    """The item, or its first fallback that is a page or a picture."""
    one, seen = item, set[int]()
    while not one.is_readable and one.fallback in items and id(one) not in seen:
        seen.add(id(one))
        one = items[one.fallback]
    return one if one.is_readable else item


def _xml(data: bytes) -> Any:
    try:
        root = etree.fromstring(without_html_entities(data.lstrip(b"\r\n\t ")), xml_parser(recover=True))
    except (etree.XMLSyntaxError, ValueError):
        root = None
    if root is None:
        raise Rejected("damaged", "The contents of the EPUB cannot be read.")
    return root


def _is_well_formed(data: bytes) -> bool:
    try:
        etree.fromstring(without_html_entities(data.lstrip(b"\r\n\t ")), xml_parser(recover=False))
    except (etree.XMLSyntaxError, ValueError):
        return False
    return True


def xml_parser(*, recover: bool, huge: bool = False) -> Any:
    return etree.XMLParser(
        recover=recover,
        resolve_entities=False,
        no_network=True,
        huge_tree=huge,
        load_dtd=False,
        remove_comments=True,
    )


def without_html_entities(data: bytes) -> bytes:
    """Replace the entities of HTML, which XML does not define, by numbers."""
    return _ENTITY.sub(_numbered, data)


def _numbered(match: re.Match[bytes]) -> bytes:
    """Convert an entity of HTML, which XML does not define, to numbers."""
    name = match[1]
    text = None if name in _PREDEFINED else html5.get(f"{name.decode()};")
    return match[0] if text is None else "".join(f"&#{ord(one)};" for one in text).encode()


def elements(root: Any) -> Iterator[Any]:
    return (element for element in root.iter() if isinstance(element.tag, str))


def tag_of(element: Any) -> str:
    return str(element.tag).rpartition("}")[2].rpartition(":")[2].lower()


def joined(base: str, address: str) -> str | None:
    """The name of the member for an address relative to a folder; None if the address cannot be parsed."""
    try:
        path = urlsplit(address.strip()).path
    except ValueError:
        return None
    path = unquote(path).replace("\\", "/")
    return posixpath.normpath(posixpath.join(base, path)).lstrip("/")
