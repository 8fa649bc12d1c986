"""Pages of EPUB files come in the order of the spine, whatever shows them."""

import base64
import posixpath
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest

from panelworks.archives.epub import EpubArchive
from panelworks.archives.opening import open_archive
from panelworks.errors import Rejected
from panelworks.settings import Settings
from tests.books import page_file

CONTAINER = "<container><rootfiles><rootfile full-path='OEBPS/book.opf'/></rootfiles></container>"
IMAGES = {f"OEBPS/images/{name}.png": page_file(number) for number, name in enumerate("abc")}
XHTML = "application/xhtml+xml"


def write_epub(
    path: Path,
    pages: Sequence[tuple[str, str, str]],
    *,
    spine: Sequence[int] | None = None,
    files: Mapping[str, str | bytes] | None = None,
    mimetype: str = "first",
    metadata: str = "",
    attributes: str = "",
    container: str = CONTAINER,
    package: Callable[[str], str] = str,
) -> Path:
    """An EPUB of pages (name, media type, content), read in the order of `spine`."""
    items = "".join(
        f"<item id='p{number}' href='{name}' media-type='{kind}'/>"
        for number, (name, kind, _) in enumerate(pages)
    )
    references = "".join(f"<itemref idref='p{number}'/>" for number in spine or range(len(pages)))
    text = (
        "<package xmlns='http://www.idpf.org/2007/opf' xmlns:dc='http://purl.org/dc/elements/1.1/'>"
        f"<metadata>{metadata}</metadata><manifest>{items}<item id='css' href='style.css' media-type='text/css'/>"
        f"</manifest><spine {attributes}>{references}</spine></package>"
    )
    kind = zipfile.ZipInfo("mimetype")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as book:
        if mimetype == "extra":
            kind.extra = b"\x55\x54\x05\x00\x03\x00\x00\x00\x00"
        if mimetype in ("first", "extra"):
            book.writestr(kind, "application/epub+zip", zipfile.ZIP_STORED)
        elif mimetype == "compressed":
            book.writestr("mimetype", "application/epub+zip")
        for name, data in IMAGES.items():
            book.writestr(name, data)
        for name, media_type, content in pages:
            if not media_type.startswith("image/") or media_type.endswith("svg+xml"):
                book.writestr(f"OEBPS/{name}", content)
        for name, extra in (files or {}).items():
            book.writestr(posixpath.normpath(f"OEBPS/{name}"), extra)
        book.writestr("META-INF/container.xml", container)
        book.writestr("OEBPS/book.opf", package(text))
        if mimetype == "last":
            book.writestr(kind, "application/epub+zip", zipfile.ZIP_STORED)
    return path


def names_of(path: Path, settings: Settings) -> list[str]:
    with open_archive(path, settings) as archive:
        assert archive.kind == "epub"
        for member, content in archive.read({member.index for member in archive.members}):
            assert content == IMAGES.get(member.name, content)
        return [member.name.rpartition("/")[2].removesuffix(".png") for member in archive.members]


def page(body: str, head: str = "") -> str:
    return f"<html xmlns='http://www.w3.org/1999/xhtml'><head>{head}</head><body>{body}</body></html>"


@pytest.mark.parametrize("mimetype", ["first", "compressed", "extra", "last", "missing"])
def test_an_epub_is_known_by_its_container(mimetype: str, tmp_path: Path, settings: Settings) -> None:
    pages = [(f"{name}.xhtml", XHTML, page(f"<img src='images/{name}.png'/>")) for name in "abc"]
    path = write_epub(tmp_path / "book.zip", pages, spine=[2, 0, 1], mimetype=mimetype)
    assert names_of(path, settings) == ["c", "a", "b"]


SVG = "<svg xmlns='http://www.w3.org/2000/svg' xmlns:xlink='http://www.w3.org/1999/xlink'>{}</svg>"


@pytest.mark.parametrize(
    ("kind", "content", "expected"),
    [
        (XHTML, page("<img src='images/a.png'/><img alt='x' src='images/b.png'/>"), "ab"),
        (XHTML, page(SVG.format("<image xlink:href='images/b.png'/>")), "b"),
        (XHTML, "<html><svg><image xlink:href='images/b.png'/></svg></html>", "b"),  # no namespaces
        ("image/svg+xml", SVG.format("<image href='images/b.png'/>"), "b"),
        ("image/png", "", "a"),
        (XHTML, page("<object data='images/c.png' type='image/png'><img src='images/a.png'/></object>"), "c"),
        (XHTML, page("<object data='film.mp4' type='video/mp4'><img src='images/a.png'/></object>"), "a"),
        (XHTML, page("<div style=\"background: #fff url('images/a.png') no-repeat\"/>"), "a"),
        (XHTML, page("<div class='x y'/>", "<style>div.y { background-image: url(images/b.png) }</style>"), "b"),
        (XHTML, page("<div id='two'/>", "<link rel='stylesheet' href='style.css'/>"), "c"),
        (XHTML, page("<!-- <img src='images/a.png'/> --><img src='images/b.png'/>"), "b"),
        (XHTML, page("&nbsp;&hellip;<img alt='a &gt; b' src='images/a.png'/>"), "a"),
        (XHTML, page("<img src='images/%61.png'/><img src='./images/../images/b.png#top'/>"), "ab"),
        (XHTML, page("<img src='IMAGES/A.PNG'/>"), "a"),
        (XHTML, page("<img src='images/a.png'/><img src='images/a.png'/>"), "a"),
        (XHTML, "<html><body><p>not well-formed<br><img src=images/b.png><b></body>", "b"),
        (XHTML, page("<img src='https://example.com/a.png'/><img src='images/c.png'/>"), "c"),
        (XHTML, "<!DOCTYPE html [<!ENTITY x SYSTEM 'file:///etc/passwd'>]>" + page("&x;<img src='images/a.png'/>"), "a"),
    ],
)  # fmt: skip
def test_whatever_shows_an_image_counts(
    kind: str, content: str, expected: str, tmp_path: Path, settings: Settings
) -> None:
    name = {"image/png": "images/a.png", "image/svg+xml": "page.svg"}.get(kind, "page.xhtml")
    style = "/* #one { background: url(images/a.png) } */ #one{background:url(images/a.png)} #two{background:url(images/c.png)}"
    path = write_epub(tmp_path / "book.epub", [(name, kind, content)], files={"style.css": style})
    assert names_of(path, settings) == list(expected)


def test_one_image_on_two_pages_is_two_pages(tmp_path: Path, settings: Settings) -> None:
    pages = [
        (f"{number}.xhtml", XHTML, page(f"<img src='images/{name}.png'/>"))
        for number, name in enumerate("aba")
    ]
    assert names_of(write_epub(tmp_path / "book.epub", pages), settings) == ["a", "b", "a"]


def test_an_image_that_is_missing_is_named(tmp_path: Path, settings: Settings) -> None:
    path = write_epub(
        tmp_path / "book.epub", [("1.xhtml", XHTML, page("<img src='gone.png'/><img src='images/a.png'/>"))]
    )
    with open_archive(path, settings) as archive:
        assert [(refusal.name, refusal.code) for refusal in archive.refused] == [
            ("OEBPS/gone.png", "not_found")
        ]


def test_an_epub_without_a_readable_spine_says_so(tmp_path: Path, settings: Settings) -> None:
    path = write_epub(tmp_path / "book.epub", [("1.xhtml", XHTML, page("no picture"))])
    with open_archive(path, settings) as archive:
        assert {"OEBPS/images/a.png"} <= {member.name for member in archive.members}
        assert [refusal.code for refusal in archive.refused] == ["no_spine"]


def test_titles_authors_and_direction_are_read(tmp_path: Path, settings: Settings) -> None:
    path = write_epub(
        tmp_path / "book.epub",
        [("images/a.png", "image/png", "")],
        metadata="<dc:title>A  &amp; B</dc:title><dc:creator>One</dc:creator><dc:creator>Two</dc:creator>",
        attributes="page-progression-direction='rtl'",
    )
    with open_archive(path, settings) as archive:
        assert isinstance(archive, EpubArchive)
        assert (archive.info.title, archive.info.authors) == ("A & B", ("One", "Two"))
        assert archive.info.right_to_left


def test_a_spine_without_end_is_refused(assets: Path, settings: Settings) -> None:
    with pytest.raises(Rejected, match="more than 15000 documents") as refused:
        open_archive(assets / "faults" / "bombs" / "epub_300k_itemrefs.epub", settings)
    assert refused.value.code == "too_many_entries"


def test_a_page_of_open_tags_is_parsed(assets: Path, settings: Settings) -> None:
    with open_archive(assets / "faults" / "bombs" / "epub_redos_100KB.epub", settings) as archive:
        assert "1.png" in {member.name.rpartition("/")[2] for member in archive.members}


BASE64 = base64.b64encode(IMAGES["OEBPS/images/c.png"]).decode()
DRAWN = "<rect width='10' height='10'/>"


@pytest.mark.parametrize(
    "body",
    ["<img src='http://[bad'/>", "<img src='//[x'/>", "<div style='background:url(//[bad)'/>", "<object data='http://[x/a.png'/>"],
)  # fmt: skip
def test_a_malformed_address_is_named_and_keeps_the_order(
    body: str, tmp_path: Path, settings: Settings
) -> None:
    pages = [(f"{name}.xhtml", XHTML, page(f"<img src='images/{name}.png'/>")) for name in "ca"]
    path = write_epub(
        tmp_path / "book.epub", [*pages, ("b.xhtml", XHTML, page(f"{body}<img src='images/b.png'/>"))]
    )
    assert names_of(path, settings) == ["c", "a", "b"]
    assert losses_of(path, settings) == [("OEBPS/b.xhtml", "bad_address")]


@pytest.mark.parametrize("head", ["<link rel='stylesheet' href='http://[x'/>", "<base href='http://[x'/>"])
def test_a_malformed_address_that_shows_nothing_is_ignored(
    head: str, tmp_path: Path, settings: Settings
) -> None:
    path = write_epub(tmp_path / "book.epub", [("1.xhtml", XHTML, page("<img src='images/b.png'/>", head))])
    assert names_of(path, settings) == ["b"]
    assert losses_of(path, settings) == []


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (page(f"<img src='data:image/png;base64,{BASE64}'/>"), ["first-embedded-1"]),
        (page(SVG.format(f"<image xlink:href='data:image/png;base64,{BASE64}'/>")), ["first-embedded-1"]),
        (page("<img srcset='images/a.png 1x, images/b.png 2x'/>"), ["b"]),
        (page("<picture><source srcset='images/a.png 300w'/><img/></picture>"), ["a"]),
        (page("<video poster='images/a.png'/>"), ["a"]),
        (page("<iframe src='inner.xhtml'/>"), ["a", "b"]),
        (page("<object type='image/svg+xml' data='inner.svg'/>"), ["b"]),
        (page("<object type='image/svg+xml' data='inner.svg'><img src='images/a.png'/></object>"), ["a"]),
        (page("<img src='inner.svg'/>"), ["b"]),
        (page("<img src='a.png'/>", "<base href='images/'/>"), ["a"]),
        (page("<div>" * 300 + "<img src='images/a.png'/>" + "</div>" * 300), ["a"]),
    ],
)
def test_pictures_are_found_wherever_a_page_holds_them(
    content: str, expected: list[str], tmp_path: Path, settings: Settings
) -> None:
    inner = page("<iframe src='inner.xhtml'/><img src='images/a.png'/><img src='inner.svg'/>")
    files = {"inner.xhtml": inner, "inner.svg": SVG.format("<image href='images/b.png'/>")}
    pages = [("first.xhtml", XHTML, content), ("second.xhtml", XHTML, page("<img src='images/c.png'/>"))]
    path = write_epub(tmp_path / "book.epub", pages, files=files)
    assert names_of(path, settings) == [*expected, "c"]
    assert losses_of(path, settings) == []


def test_an_embedded_picture_has_its_own_bytes(tmp_path: Path, settings: Settings) -> None:
    body = f"<img src='data:image/png;base64,{BASE64}'/><img src='data:image/png;base64,%%%'/><img src='data:,'/>"
    with open_archive(
        write_epub(tmp_path / "book.epub", [("1.xhtml", XHTML, page(body))]), settings
    ) as archive:
        contents = [content for _, content in archive.read({0, 1, 2})]
    assert contents[0] == IMAGES["OEBPS/images/c.png"]
    assert [isinstance(content, Rejected) for content in contents] == [False, True, True]


@pytest.mark.parametrize(
    ("first", "code"),
    [
        (("first.svg", "image/svg+xml", SVG.format(DRAWN)), "unsupported_format"),
        (("first.xhtml", XHTML, page(SVG.format(DRAWN))), "unsupported_format"),
        (("first.xhtml", XHTML, page("<img src='data:image/svg+xml,x'/>")), "unsupported_format"),
        (("first.pdf", "application/pdf", "%PDF"), "unsupported_format"),
        (("first.xhtml", XHTML, page("<img src='https://example.com/x.png'/>")), "remote"),
        (("first.xhtml", XHTML, page("<div>" * 100_000)), "damaged"),
        (("first.xhtml", XHTML, "\x00\x01 no page at all"), "damaged"),
        (("first.xhtml", XHTML, ""), "damaged"),
    ],
)
def test_a_page_that_is_not_delivered_is_named(
    first: tuple[str, str, str], code: str, tmp_path: Path, settings: Settings
) -> None:
    path = write_epub(
        tmp_path / "book.epub", [first, ("second.xhtml", XHTML, page("<img src='images/c.png'/>"))]
    )
    assert losses_of(path, settings) == [(f"OEBPS/{first[0]}", code)]
    # What an unread page shows is unknown: pictures that no other page shows come last.
    assert names_of(path, settings) == (["c", "a", "b"] if code == "damaged" else ["c"])


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("href='a.xhtml'", "href='gone.xhtml'", ("OEBPS/gone.xhtml", "not_found")),
        ("idref='p1'", "idref='nobody'", ("nobody", "not_found")),
        ("href='a.xhtml'", "href='http://[x'", ("p1", "not_found")),
        ("<itemref idref='p2'/></spine></package>", "", ("OEBPS/book.opf", "damaged")),
    ],
)
def test_a_spine_that_refers_to_nothing_is_named(
    old: str, new: str, expected: tuple[str, str], tmp_path: Path, settings: Settings
) -> None:
    pages = [(f"{name}.xhtml", XHTML, page(f"<img src='images/{name}.png'/>")) for name in "cab"]
    path = write_epub(tmp_path / "book.epub", pages, package=lambda text: text.replace(old, new))
    assert losses_of(path, settings) == [expected]
    assert sorted(names_of(path, settings)) == ["a", "b", "c"]


def test_pages_of_text_are_named_in_one_note(tmp_path: Path, settings: Settings) -> None:
    pages = [("1.xhtml", XHTML, page("<p>a</p>")), ("2.xhtml", XHTML, page("b"))]
    path = write_epub(tmp_path / "book.epub", [*pages, ("3.xhtml", XHTML, page("<img src='images/c.png'/>"))])
    with open_archive(path, settings) as archive:
        assert archive.refused == ()
        (note,) = archive.notes
        assert "OEBPS/1.xhtml, OEBPS/2.xhtml" in note and "pages_without_picture" in note


ENCRYPTION = (
    "<encryption><EncryptedData><EncryptionMethod Algorithm='{0}'/><CipherData><CipherReference URI='{1}'/></CipherData>"
    "</EncryptedData></encryption>"
)
AES = "http://www.w3.org/2001/04/xmlenc#aes128-cbc"


@pytest.mark.parametrize(
    ("algorithm", "encrypted", "expected"),
    [
        (AES, "OEBPS/images/c.png", ["encrypted_archive", None]),
        (AES, "OEBPS/1.xhtml", [None, None, None]),
        ("http://www.idpf.org/2008/embedding", "OEBPS/images/c.png", [None, None]),
    ],
)
def test_encrypted_files_are_named(
    algorithm: str, encrypted: str, expected: list[str | None], tmp_path: Path, settings: Settings
) -> None:
    pages = [
        (f"{number}.xhtml", XHTML, page(f"<img src='images/{name}.png'/>"))
        for number, name in enumerate("ca", start=1)
    ]
    files = {"../META-INF/encryption.xml": ENCRYPTION.format(algorithm, encrypted)}
    path = write_epub(tmp_path / "book.epub", pages, files=files)
    with open_archive(path, settings) as archive:
        contents = [content for _, content in archive.read({member.index for member in archive.members})]
        assert [content.code if isinstance(content, Rejected) else None for content in contents] == expected
        lost = [refusal.code for refusal in archive.refused]
        assert lost == (["encrypted_archive"] if encrypted.endswith("xhtml") else [])


def test_the_package_is_the_root_file_of_its_type(tmp_path: Path, settings: Settings) -> None:
    container = (
        "<container><rootfiles><rootfile full-path='x.pdf' media-type='application/pdf'/>"
        "<rootfile full-path='OEBPS/book.opf' media-type='application/oebps-package+xml'/></rootfiles></container>"
    )
    pages = [(f"{name}.xhtml", XHTML, page(f"<img src='images/{name}.png'/>")) for name in "cab"]
    path = write_epub(tmp_path / "book.epub", pages, container=container)
    assert names_of(path, settings) == ["c", "a", "b"]
    assert losses_of(path, settings) == []


def losses_of(path: Path, settings: Settings) -> list[tuple[str, str]]:
    with open_archive(path, settings) as archive:
        return [(refusal.name, refusal.code) for refusal in archive.refused]
