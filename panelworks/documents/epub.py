"""The contents of an EPUB: its spine, and the images that a page shows. Runs in a child process.

All parsing takes linear time. Entities are expanded within libxml2's limits only, and nothing is fetched.
"""

import posixpath
import re
from collections.abc import Iterator
from html.entities import html5
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from lxml import etree, html

from panelworks.errors import Rejected

_DRAWN: Final = "image/"
SVG: Final = "image/svg+xml"
_PREDEFINED: Final = {b"amp", b"lt", b"gt", b"quot", b"apos"}
_ENTITY: Final = re.compile(rb"&([A-Za-z][A-Za-z0-9]{0,31});")
_CSS_ADDRESS: Final = re.compile(
    r"""url\(\s*("[^"\n]{0,2000}"|'[^'\n]{0,2000}'|[^\s"')]{0,2000})\s*\)""", re.I
)
_BACKGROUND: Final = re.compile(r"\bbackground(?:-image)?\s*:([^;]*)", re.I)
_SELECTOR: Final = re.compile(r"([A-Za-z*][\w-]*)?((?:[.#][\w-]+)*)")
_MAX_RULES: Final = 20_000


def package_path(container: bytes) -> str:
    """The path of the package that META-INF/container.xml names.

    Raises:
        Rejected: `damaged`.
    """
    for element in _elements(_xml(container)):
        if _tag(element) == "rootfile" and element.get("full-path"):
            return _joined("", str(element.get("full-path")))
    raise Rejected("damaged", "The EPUB does not name its package.")


def read_package(data: bytes, path: str, max_pages: int) -> dict[str, Any]:
    """The spine as `[name, media type]` each, the names of style sheets, title, authors and reading direction.

    Raises:
        Rejected: `damaged`; `too_many_entries`, the spine refers to more than `max_pages` documents.
    """
    items: dict[str, list[str]] = {}
    spine: list[list[str]] = []
    titles: list[str] = []
    authors: list[str] = []
    direction, base = "", posixpath.dirname(path)
    references: list[str] = []
    for element in _elements(_xml(data)):
        tag = _tag(element)
        if tag == "item" and element.get("href"):
            name = _joined(base, str(element.get("href")))
            items.setdefault(str(element.get("id", "")), [name, str(element.get("media-type", "")).lower()])
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
    spine = [items[reference] for reference in references if reference in items]
    return {
        "spine": spine,
        "styles": [name for name, kind in items.values() if kind == "text/css"],
        "title": next((title for title in titles if title), ""),
        "authors": [author for author in dict.fromkeys(authors) if author],
        "right_to_left": direction == "rtl",
    }


def images_of(pages: list[list[Any]], styles: dict[str, bytes]) -> list[list[str]]:
    """The names of the images that each page shows, in order, each once a page.

    Args:
        pages: Name and content of each, XHTML, HTML or SVG.
        styles: The style sheets of the book by name.
    """
    rules = {name: list(_rules(data.decode("utf-8", "replace"))) for name, data in styles.items()}
    return [_images(name, data, rules) for name, data in pages]


def _images(name: str, data: bytes, styles: dict[str, list[tuple[str, list[str]]]]) -> list[str]:
    root, base = _page(data), posixpath.dirname(name)
    applying = [
        (selector, address, posixpath.dirname(sheet))
        for sheet in _linked(root, base)
        for selector, addresses in styles.get(sheet, ())
        for address in addresses
    ]
    applying += [
        (selector, address, base)
        for element in _elements(root)
        if _tag(element) == "style"
        for selector, addresses in _rules("".join(element.itertext()))
        for address in addresses
    ]
    by_key: dict[str, list[tuple[str, str, str]]] = {}
    for rule in applying:
        by_key.setdefault(_key(rule[0]), []).append(rule)
    found: dict[str, None] = {}
    taken: set[Any] = set()
    for element in _elements(root):
        for folder, address in _shown_by(element, by_key, base):
            if _is_inside(element, taken):
                continue
            if address and not urlsplit(address).scheme and not address.startswith("//"):
                found[_joined(folder, address)] = None
                if _tag(element) == "object":
                    taken.add(element)
    return list(found)


def _shown_by(
    element: Any, rules: dict[str, list[tuple[str, str, str]]], base: str
) -> Iterator[tuple[str, str]]:
    """Folder and address of each image of an element."""
    tag = _tag(element)
    if tag == "img":
        yield base, element.get("src") or ""
    elif tag in ("image", "feimage"):
        yield base, _reference(element)
    elif tag in ("object", "embed"):
        kind = (element.get("type") or "").lower()
        address = element.get("data") or element.get("src") or ""
        if (kind.startswith(_DRAWN) and kind != SVG) or (not kind and _is_drawn(address)):
            yield base, address
    for address in _backgrounds(element.get("style") or ""):
        yield base, address
    identity = element.get("id")
    keys = [f"#{identity}"] if identity else []
    keys += [f".{name}" for name in (element.get("class") or "").split()]
    for key in (*keys, tag, "*"):
        for selector, address, folder in rules.get(key, ()):
            if _matches(selector, element):
                yield folder, address


def _is_inside(element: Any, taken: set[Any]) -> bool:
    """Is this what is shown only where the object around it is not?"""
    return bool(taken) and any(parent in taken for parent in element.iterancestors("{*}object"))


def _reference(element: Any) -> str:
    return next(
        (value for key, value in element.attrib.items() if key.rpartition("}")[2] in ("href", "xlink:href")),
        "",
    )


def _is_drawn(address: str) -> bool:
    return posixpath.splitext(urlsplit(address).path)[1].lower() in (
        ".jpg", ".jpeg", ".png", ".gif", ".webp", ".avif", ".bmp", ".tif", ".tiff", ".jxl", ".jp2",
    )  # fmt: skip


def _linked(root: Any, base: str) -> list[str]:
    return [
        _joined(base, element.get("href"))
        for element in _elements(root)
        if _tag(element) == "link"
        and "stylesheet" in (element.get("rel") or "").lower()
        and element.get("href")
    ]


def _rules(text: str) -> Iterator[tuple[str, list[str]]]:
    """Selectors whose background is an image, with its addresses."""
    for number, block in enumerate(_without_comments(text).split("}")):
        if number >= _MAX_RULES:
            return
        before, brace, body = block.rpartition("{")
        addresses = _backgrounds(body) if brace else []
        if addresses:
            for selector in before.rpartition("{")[2].split(","):
                yield selector.strip(), addresses


def _without_comments(text: str) -> str:
    first, *others = text.split("/*")
    return first + "".join(part.partition("*/")[2] for part in others)


def _backgrounds(style: str) -> list[str]:
    return [
        address.strip("\"'")
        for background in _BACKGROUND.findall(style)
        for address in _CSS_ADDRESS.findall(background)
    ]


def _key(selector: str) -> str:
    """What an element must have at least: an id, a class, or a tag. Only the last part of a selector counts."""
    tag, names = _last_part(selector)
    found = re.findall(r"[.#][\w-]+", names)
    return found[0] if found else tag.lower() or "*"


def _matches(selector: str, element: Any) -> bool:
    tag, names = _last_part(selector)
    classes = (element.get("class") or "").split()
    return (tag in ("", "*") or tag.lower() == _tag(element)) and all(
        (name[1:] in classes) if name[0] == "." else name[1:] == element.get("id")
        for name in re.findall(r"[.#][\w-]+", names)
    )


def _last_part(selector: str) -> tuple[str, str]:
    last = re.split(r"[\s>+~]+", selector.strip())[-1].split(":")[0]
    match = _SELECTOR.match(last)
    return (match[1] or "", match[2]) if match else ("", "")


def _page(data: bytes) -> Any:
    """The tree of a page: as XML, or as HTML where it is no well-formed XML."""
    data = data.lstrip(b"\xef\xbb\xbf\r\n\t ") if not data.startswith((b"\xff\xfe", b"\xfe\xff")) else data
    try:
        return etree.fromstring(_ENTITY.sub(_numbered, data), _parser(recover=False))
    except (etree.XMLSyntaxError, ValueError):
        pass
    try:
        return html.document_fromstring(data, parser=html.HTMLParser(no_network=True, huge_tree=False))
    except (etree.ParserError, etree.XMLSyntaxError, ValueError):
        return etree.Element("html")


def _xml(data: bytes) -> Any:
    try:
        root = etree.fromstring(_ENTITY.sub(_numbered, data.lstrip(b"\r\n\t ")), _parser(recover=True))
    except (etree.XMLSyntaxError, ValueError):
        root = None
    if root is None:
        raise Rejected("damaged", "The contents of the EPUB cannot be read.")
    return root


def _parser(*, recover: bool) -> Any:
    return etree.XMLParser(
        recover=recover,
        resolve_entities=False,
        no_network=True,
        huge_tree=False,
        load_dtd=False,
        remove_comments=True,
    )


def _numbered(match: re.Match[bytes]) -> bytes:
    """An entity of HTML, which XML does not know, as numbers."""
    name = match[1]
    text = None if name in _PREDEFINED else html5.get(f"{name.decode()};")
    return match[0] if text is None else "".join(f"&#{ord(one)};" for one in text).encode()


def _elements(root: Any) -> Iterator[Any]:
    return (element for element in root.iter() if isinstance(element.tag, str))


def _tag(element: Any) -> str:
    return str(element.tag).rpartition("}")[2].rpartition(":")[2].lower()


def _joined(base: str, address: str) -> str:
    """The name of a member that an address names, seen from a folder."""
    path = unquote(urlsplit(address.strip()).path).replace("\\", "/")
    return posixpath.normpath(posixpath.join(base, path)).lstrip("/")
