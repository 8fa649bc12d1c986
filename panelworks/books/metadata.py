"""The metadata of a book: ComicInfo.xml, and the provenance of each page."""

import codecs
import html
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from panelworks.archives.encodings import decide_encoding
from panelworks.archives.member import BookInfo
from panelworks.version import __version__

if TYPE_CHECKING:
    from lxml.etree import _Element as Element
import json
from collections.abc import Sequence
from typing import Any
from xml.sax.saxutils import quoteattr

from panelworks.domain.books import BookOptions, PageDone
from panelworks.domain.plan import Plan
from panelworks.version import ENGINE_VERSION

COMIC_INFO: Final = "ComicInfo.xml"
"""Its name at the root of a book. The schema is that of the ComicRack and Anansi projects."""
_MAX_BYTES: Final = 4 << 20
"""Larger files are not updated. A file for 2,000 pages has 0.3 MB."""
_BYTE_ORDER_MARKS: Final = (
    (codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"),
)  # fmt: skip
_UNMARKED_UTF16: Final = ((b"<\0", "utf-16-le"), (b"\0<", "utf-16-be"))
_DECLARATION: Final = re.compile(r"""^<\?xml\b[^>]*?(?:encoding\s*=\s*["']([^"']*)["'][^>]*?)?\?>""")
_ILLEGAL: Final = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that XML 1.0 does not allow."""
_BARE_AMPERSAND: Final = re.compile(r"&(?!(?:[A-Za-z][A-Za-z0-9]*|#[0-9]+|#x[0-9A-Fa-f]+);)")
_NAMED_ENTITY: Final = re.compile(r"&(?!(?:amp|lt|gt|quot|apos);)[A-Za-z][A-Za-z0-9]*;")


@dataclass(frozen=True)
class PageFigures:
    """The figures of a page in ComicInfo.xml."""

    width: int | None
    height: int | None
    bytes: int


@dataclass(frozen=True)
class UpdatedInfo:
    """A ComicInfo.xml after the enhancement."""

    data: bytes | None
    """The new file; None if the file of the source is copied."""
    notes: tuple[str, ...]
    """Repairs, or the reason why the file was not updated."""


def is_comic_info(name: str) -> bool:
    """Is this a ComicInfo.xml, in any folder?"""
    return name.rpartition("/")[2].lower() == COMIC_INFO.lower()


def created(info: BookInfo) -> bytes | None:
    """A file with title, authors and reading direction of a document; None if the document states none of them."""
    fields = {
        "Title": _printable(info.title),
        "Writer": ", ".join(filter(None, map(_printable, info.authors))),
        "Manga": "YesAndRightToLeft" if info.right_to_left else "",
    }
    if not any(fields.values()):
        return None
    from lxml import etree

    root = etree.Element("ComicInfo")
    for tag, text in fields.items():
        if text:
            etree.SubElement(root, tag).text = text
    data: bytes = etree.tostring(root, encoding="utf-8", xml_declaration=True)
    return data


def _printable(text: str) -> str:
    """The text without characters that XML does not allow."""
    return " ".join("".join(one if one.isprintable() else " " for one in text).split())


def updated(data: bytes, pages: list[list[PageFigures]], note: str) -> UpdatedInfo:
    """Update the page count, the page sizes and the notes of the file.

    A file that is not well-formed is repaired where nothing of it is lost by that, else kept as it is.

    Args:
        data: The file of the source.
        pages: For each page of the source what became of it: one picture, several for a strip that was cut, none
            for a page that was lost.
        note: A sentence for people, put behind the notes that are there.
    """
    if len(data) > _MAX_BYTES:
        return _kept(f"it has more than {_MAX_BYTES >> 20} MiB")
    text, repairs = _text_of(data)
    if "<!DOCTYPE" in text.upper():
        return _kept("it has a document type definition")
    root = _parsed(text)
    if root is None:
        return _kept("it is not well-formed XML")
    if _name_of(root) != "comicinfo":
        return _kept("it is not a ComicInfo")
    _element(root, "PageCount").text = str(sum(len(figures) for figures in pages))
    notes = _element(root, "Notes")
    sentence = f"Panelworks {__version__}: {note}"
    notes.text = f"{notes.text}\n{sentence}" if notes.text else sentence
    _update_pages(root, pages)
    from lxml import etree

    content: bytes = etree.tostring(root.getroottree(), encoding="utf-8", xml_declaration=True)
    return UpdatedInfo(content + b"\n", (f"{COMIC_INFO}: repaired: {', '.join(repairs)}",) if repairs else ())


def _kept(reason: str) -> UpdatedInfo:
    return UpdatedInfo(None, (f"{COMIC_INFO}: copied, page count and page sizes were not updated: {reason}",))


def _text_of(data: bytes) -> tuple[str, list[str]]:
    """The file as text without its declaration, and the repairs that a parser requires."""
    repairs = []
    text, mismatch = _decoded(data)
    if mismatch:
        repairs.append(mismatch)
    stripped = text.lstrip("\ufeff \t\r\n")
    declaration = _DECLARATION.match(stripped)
    if declaration:
        stripped = stripped[declaration.end() :]
    for pattern, replacement, repair in (
        (_ILLEGAL, "", "control characters were removed"),
        (_BARE_AMPERSAND, "&amp;", "a bare & was escaped"),
    ):
        stripped, count = pattern.subn(replacement, stripped)
        if count:
            repairs.append(repair)
    return _NAMED_ENTITY.sub(_character, stripped), repairs


def _character(match: re.Match[str]) -> str:
    """The character of an entity that HTML defines and XML does not. Other entities remain as text."""
    found = html.unescape(match[0])
    return found if found != match[0] else f"&amp;{match[0][1:]}"


def _decoded(data: bytes) -> tuple[str, str | None]:
    """The text, and the error in its declared encoding, if there is one."""
    for mark, encoding in (*_BYTE_ORDER_MARKS, *_UNMARKED_UTF16):
        if data.startswith(mark):
            return data.decode(encoding, errors="replace"), None
    declaration = _DECLARATION.match(data[:200].decode("latin-1").lstrip())
    declared = (declaration[1] or "utf-8").strip() if declaration else "utf-8"
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        pass
    else:
        is_other = not data.isascii() and declared.lower().replace("_", "-") not in ("utf-8", "utf8")
        return text, f"it is UTF-8, not {declared}" if is_other else None
    try:
        return data.decode(declared), None
    except (LookupError, UnicodeDecodeError):
        found = decide_encoding([data]).encoding
        return data.decode(found, errors="replace"), f"it is {found}, not {declared}"


def _parsed(text: str) -> "Element | None":
    """The root element; None if the text is not well-formed. Parsers that recover from errors lose elements."""
    from lxml import etree

    parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False)
    try:
        return etree.fromstring(text.encode("utf-8"), parser)
    except (etree.XMLSyntaxError, ValueError):
        return None


def _update_pages(root: "Element", pages: list[list[PageFigures]]) -> None:
    """One entry for each picture, with the attributes of its page in the source (type, bookmark, double page)."""
    listed = _element(root, "Pages")
    entries = [entry for entry in listed if _name_of(entry) == "page"]
    source_attributes = {
        _number(entry.get("Image")): {str(name): str(value) for name, value in entry.attrib.items()}
        for entry in entries
    }
    for entry in entries:
        listed.remove(entry)
    image = 0
    for index, figures in enumerate(pages):
        for figure in figures:
            attributes = {
                **source_attributes.get(index, {}),
                "Image": str(image),
                "ImageSize": str(figure.bytes),
            }
            if figure.width and figure.height:
                attributes |= {"ImageWidth": str(figure.width), "ImageHeight": str(figure.height)}
            _added(listed, "Page", attributes)
            image += 1


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and text.strip().isdecimal() else None


def _element(root: "Element", tag: str) -> "Element":
    """The child of this name in any namespace. A missing child is added in the namespace of the root."""
    found = next((child for child in root if _name_of(child) == tag.lower()), None)
    return found if found is not None else _added(root, tag, {})


def _added(parent: "Element", tag: str, attributes: dict[str, str]) -> "Element":
    from lxml import etree

    namespace = etree.QName(parent).namespace
    return etree.SubElement(parent, f"{{{namespace}}}{tag}" if namespace else tag, attributes)


def _name_of(element: "Element") -> str:
    """The name without its namespace, in lower case; empty for a comment."""
    return element.tag.rpartition("}")[2].lower() if isinstance(element.tag, str) else ""


SIDECAR: Final = "panelworks.json"
"""Name of the file with the provenance in a book."""
_NAMESPACE: Final = "https://panelworks.invalid/ns/1.0/"
"""Identifier of our XMP vocabulary; the address has no content."""


def sidecar(options: BookOptions, pages: Sequence[PageDone], names: Sequence[Sequence[str]]) -> bytes:
    """The provenance of a book whose pages have the entries `names`."""
    # The options contain what the rule of the series states; that it is not used again is no option of the reader.
    page = options.page.model_copy(update={"ignore_series_rule": False})
    options = options.model_copy(update={"page": page})
    content = {
        "panelworks": __version__,
        "engine": ENGINE_VERSION,
        "options": options.model_dump(mode="json", exclude_defaults=True),
        "pages": [_page(page, files) for page, files in zip(pages, names, strict=True)],
    }
    return (json.dumps(content, ensure_ascii=False, indent=1) + "\n").encode()


def _page(page: PageDone, files: Sequence[str]) -> dict[str, Any]:
    content: dict[str, Any] = {
        "files": list(files),
        "source": page.name,
        "source_sha256": page.source_sha256,
        "content_key": page.content_key,
        "state": page.state,
    }
    outcome = page.outcome
    if outcome is not None:
        content |= {
            "scores": {"before": outcome.before.overall, "after": outcome.after.overall},
            "steps": [] if outcome.plan is None else steps_of(outcome.plan),
            "decision": outcome.decision,
        }
        if outcome.rule is not None:
            content["rule"] = outcome.rule.model_dump()
        if outcome.fallback is not None:
            content["fallback"] = outcome.fallback.model_dump(mode="json")
    if page.notes:
        content["notes"] = list(page.notes)
    if page.error is not None:
        content["error"] = page.error.model_dump()
    return content


def steps_of(plan: Plan) -> list[dict[str, Any]]:
    """The steps, with their models and weights."""
    return [
        {"action": step.action, "model": step.model, "weights_sha256": step.digest, "config": step.config}
        for step in plan.steps
    ]


def xmp_packet(plan: Plan | None, content_key: str) -> bytes:
    """An XMP packet with the software, models and weights of a page."""
    steps = [] if plan is None else steps_of(plan)
    done = "; ".join(
        f"{step['action']} by {step['model']} {(step['weights_sha256'] or '')[:12]}".strip() for step in steps
    )
    attributes = {
        "xmp:CreatorTool": f"Panelworks {__version__}",
        "pw:contentKey": content_key,
        "pw:steps": done or "none",
    }
    listed = " ".join(f"{name}={quoteattr(value)}" for name, value in attributes.items())
    return (
        '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/">'
        '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about=""'
        f' xmlns:xmp="http://ns.adobe.com/xap/1.0/" xmlns:pw="{_NAMESPACE}" {listed}/></rdf:RDF></x:xmpmeta>'
        '<?xpacket end="w"?>'
    ).encode()
