"""The images of a page of an EPUB, including those in SVG, styles and data addresses. Runs in a child process."""

import base64
import binascii
import posixpath
import re
from collections.abc import Iterable, Iterator
from typing import Any, Final
from urllib.parse import urlsplit

from lxml import etree, html

from panelworks.archives.parsers.epub import SVG, elements, joined, tag_of, without_html_entities, xml_parser
from panelworks.sources.data_uri import decode_percent

MEMBER: Final = "member"
EMBEDDED: Final = "embedded"
DRAWING: Final = "drawing"
REMOTE: Final = "remote"
BAD_ADDRESS: Final = "bad_address"
"""Kinds of references of a page: a file of the EPUB (by name), a picture in a data address (by its number on the page), a
drawing in a data address, an address outside the EPUB, or an address that cannot be parsed."""
_SHAPES: Final = frozenset({"path", "rect", "circle", "ellipse", "line", "polyline", "polygon"})
"""Elements of an SVG drawing that paint something."""
_DRAWN: Final = "image/"
_PICTURE_SUFFIXES: Final = (
    ".jpg", ".jpeg", ".png", ".gif", ".webp", ".avif", ".bmp", ".tif", ".tiff", ".jxl", ".jp2",
)  # fmt: skip
_MARKUP: Final = re.compile(rb"<(?:!doctype|html|head|body|svg|img|div|span|p|h[1-6])\b", re.I)
_MAX_ADDRESS: Final = 200
"""Maximum length of a reported address."""
_CSS_ADDRESS: Final = re.compile(
    r"""url\(\s*("[^"\n]{0,2000}"|'[^'\n]{0,2000}'|[^\s"')]{0,2000})\s*\)""", re.I
)
_BACKGROUND: Final = re.compile(r"\b(?:background(?:-image)?|content)\s*:([^;]*)", re.I)
_SELECTOR: Final = re.compile(r"([A-Za-z*][\w-]*)?((?:[.#][\w-]+)*)")
_MAX_RULES: Final = 20_000


def contents_of(pages: list[list[Any]], styles: dict[str, bytes]) -> list[dict[str, Any]]:
    """The content of each page: `{"readable", "drawing", "shows"}`.

    `readable` is False where nothing, or only the beginning of the page, could be parsed. `drawing` says whether the page
    holds shapes of SVG. `shows` lists `[kind, value]` of each image in order, each once a page: MEMBER, EMBEDDED, DRAWING,
    REMOTE or BAD_ADDRESS. A MEMBER may be a document that is shown inside the page.

    Args:
        pages: Name and content of each, XHTML, HTML or SVG.
        styles: The style sheets of the book by name.
    """
    rules = {name: list(_rules(data.decode("utf-8", "replace"))) for name, data in styles.items()}
    return [_contents(name, data, rules) for name, data in pages]


def embedded_of(name: str, data: bytes, styles: dict[str, bytes]) -> list[bytes | None]:
    """The pictures in data addresses of a page, in the order of their numbers; None for a damaged one."""
    rules = {sheet: list(_rules(text.decode("utf-8", "replace"))) for sheet, text in styles.items()}
    root, _ = _page(data)
    addresses = dict.fromkeys(address.strip() for _, address in _addresses(name, root, rules))
    return [_decoded(address) for address in addresses if _kind_of(address) == EMBEDDED]


def _contents(name: str, data: bytes, styles: dict[str, list[tuple[str, list[str]]]]) -> dict[str, Any]:
    root, readable = _page(data)
    found: dict[tuple[str, str], None] = {}
    for folder, address in _addresses(name, root, styles):
        kind = _kind_of(address)
        if kind == MEMBER:
            member = joined(folder, address)
            if member:
                found[MEMBER, member] = None
        elif kind:
            found[kind, address.strip()] = None
    shows: list[list[Any]] = []
    embedded = 0
    for kind, value in found:
        if kind == EMBEDDED:
            shows.append([EMBEDDED, embedded, _media_type(value)])
            embedded += 1
        else:
            shows.append([kind, value[:_MAX_ADDRESS] if kind != MEMBER else value])
    drawing = any(tag_of(element) in _SHAPES for element in elements(root))
    return {"readable": readable, "drawing": drawing, "shows": shows}


def _addresses(
    name: str, root: Any, styles: dict[str, list[tuple[str, list[str]]]]
) -> Iterator[tuple[str, str]]:
    """Folder and address of each image of a page, in order."""
    own = posixpath.dirname(name)
    base = _base_of(root, own)
    applying = [
        (selector, address, posixpath.dirname(sheet))
        for sheet in _linked(root, base)
        for selector, addresses in styles.get(sheet, ())
        for address in addresses
    ]
    applying += [
        (selector, address, base)
        for element in elements(root)
        if tag_of(element) == "style"
        for selector, addresses in _rules("".join(element.itertext()))
        for address in addresses
    ]
    by_key: dict[str, list[tuple[str, str, str]]] = {}
    for rule in dict.fromkeys(applying):
        by_key.setdefault(_key(rule[0]), []).append(rule)
    taken: set[Any] = set()
    for element in elements(root):
        for folder, address in _shown_by(element, by_key, base):
            if not address or _is_inside(element, taken):
                continue
            yield folder, address
            if tag_of(element) == "object":
                taken.add(element)


def _shown_by(
    element: Any, rules: dict[str, list[tuple[str, str, str]]], base: str
) -> Iterator[tuple[str, str]]:
    """Folder and address of each image of an element."""
    tag = tag_of(element)
    if tag == "img":
        yield base, _source(element)
    elif tag in ("image", "feimage", "use"):
        yield base, _reference(element)
    elif tag == "video":
        yield base, element.get("poster") or ""
    elif tag == "iframe":
        source = element.get("src") or ""
        yield base, source if _kind_of(source) == MEMBER else ""
    elif tag in ("object", "embed"):
        kind = (element.get("type") or "").strip().lower()
        address = element.get("data") or element.get("src") or ""
        drawn = kind.startswith(_DRAWN) if kind else _has_suffix(address, _PICTURE_SUFFIXES)
        document = "html" in kind or kind == SVG or _has_suffix(address, (".svg", ".xhtml", ".html"))
        # The content of an object is shown instead of its document, which may not be a picture.
        if (drawn and kind != SVG) or (document and not _has_picture(element)):
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


def _source(image: Any) -> str:
    """The address of an `img`, otherwise the largest candidate of its `srcset` or of the enclosing `picture`."""
    if image.get("src"):
        return str(image.get("src"))
    candidates = [image.get("srcset") or ""]
    parent = image.getparent()
    if parent is not None and tag_of(parent) == "picture":
        candidates += [
            element.get("srcset") or "" for element in elements(parent) if tag_of(element) == "source"
        ]
    found = next((address for text in candidates if (address := _largest(text))), "")
    return found or str(image.get("data-src") or "")


def _largest(candidates: str) -> str:
    """The address with the largest width or density of a `srcset`."""
    best, largest = "", -1.0
    if candidates.lstrip()[:5].lower() == "data:":  # contains a comma
        return candidates.split()[0]
    for candidate in candidates.split(","):
        address, *descriptors = candidate.split() or [""]
        try:
            size = float(descriptors[0].rstrip("wxh")) if descriptors else 1.0
        except ValueError:
            size = 0.0
        if address and size > largest:
            best, largest = address, size
    return best


def _has_picture(element: Any) -> bool:
    return any(tag_of(inside) in ("img", "image") for inside in elements(element))


def _is_inside(element: Any, taken: set[Any]) -> bool:
    """Is this the alternative content of an object, which is shown only without the object?"""
    return bool(taken) and any(parent in taken for parent in element.iterancestors("{*}object"))


def _reference(element: Any) -> str:
    return next(
        (value for key, value in element.attrib.items() if key.rpartition("}")[2] in ("href", "xlink:href")),
        "",
    )


def _linked(root: Any, base: str) -> list[str]:
    names = [
        joined(base, element.get("href"))
        for element in elements(root)
        if tag_of(element) == "link"
        and "stylesheet" in (element.get("rel") or "").lower()
        and element.get("href")
    ]
    return [name for name in names if name]


def _rules(text: str) -> Iterator[tuple[str, list[str]]]:
    """Selectors with a background image, and the addresses of the images."""
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
    """The id, class or tag that an element must have. Only the last part of a selector counts."""
    tag, names = _last_part(selector)
    found = re.findall(r"[.#][\w-]+", names)
    return found[0] if found else tag.lower() or "*"


def _matches(selector: str, element: Any) -> bool:
    tag, names = _last_part(selector)
    classes = (element.get("class") or "").split()
    return (tag in ("", "*") or tag.lower() == tag_of(element)) and all(
        (name[1:] in classes) if name[0] == "." else name[1:] == element.get("id")
        for name in re.findall(r"[.#][\w-]+", names)
    )


def _last_part(selector: str) -> tuple[str, str]:
    last = re.split(r"[\s>+~]+", selector.strip())[-1].split(":")[0]
    match = _SELECTOR.match(last)
    return (match[1] or "", match[2]) if match else ("", "")


def _page(data: bytes) -> tuple[Any, bool]:
    """The tree of a page, parsed as XML, or as HTML if it is not well-formed XML; and whether all of it was parsed.

    The limits of libxml2 on depth and on the length of an address are raised only where no entity can grow.
    """
    if not data.startswith((b"\xff\xfe", b"\xfe\xff")):
        data = data.lstrip(b"\xef\xbb\xbf\r\n\t ")
    text = without_html_entities(data)
    for huge in (False,) if b"<!ENTITY" in data else (False, True):
        try:
            return etree.fromstring(text, xml_parser(recover=False, huge=huge)), True
        except (etree.XMLSyntaxError, ValueError):
            pass
    parser = html.HTMLParser(no_network=True, huge_tree=True)
    try:
        root = html.document_fromstring(data, parser=parser)
    except (etree.ParserError, etree.XMLSyntaxError, ValueError):
        return etree.Element("html"), False
    gave_up = any(error.level_name == "FATAL" for error in parser.error_log)
    return root, not gave_up and bool(_MARKUP.search(data.replace(b"\0", b"")))


def _kind_of(address: str) -> str:
    """The reference of an address, with one of the kinds above; empty for a part of the page itself."""
    address = address.strip()
    if address[:5].lower() == "data:":
        return DRAWING if _media_type(address) == SVG else EMBEDDED
    try:
        parts = urlsplit(address)
    except ValueError:
        return BAD_ADDRESS
    if parts.scheme or parts.netloc or address.startswith("//"):
        return REMOTE
    return MEMBER if parts.path else ""


def _media_type(address: str) -> str:
    return address[5:].partition(",")[0].partition(";")[0].strip().lower()


def _decoded(address: str) -> bytes | None:
    """The bytes in a `data:` address; None if they are damaged."""
    head, _, data = address.partition(",")
    raw = b"".join(decode_percent(data))
    if not head.rstrip().lower().endswith(";base64"):
        return raw or None
    raw = b"".join(raw.split()).rstrip(b"=")
    try:
        return (
            base64.b64decode(
                raw + b"=" * (-len(raw) % 4), altchars=b"-_" if b"-" in raw or b"_" in raw else None
            )
            or None
        )
    except (binascii.Error, ValueError):
        return None


def _has_suffix(address: str, suffixes: Iterable[str]) -> bool:
    try:
        path = urlsplit(address.strip()).path
    except ValueError:
        path = address.strip()
    return posixpath.splitext(path)[1].lower() in suffixes


def _base_of(root: Any, folder: str) -> str:
    """The folder to which the addresses of a page are relative: that of the page, or that of its `base` element."""
    for element in elements(root):
        if tag_of(element) == "base" and element.get("href"):
            address = str(element.get("href"))
            if _kind_of(address) != MEMBER:
                return folder
            return posixpath.dirname(joined(folder, address.strip() + "x") or "")
    return folder
