"""Archives of every kind, sound, damaged and hostile."""

import io
import math
import os
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import libarchive
import pypdfium2
import pytest
from PIL import Image

from panelworks.archives.member import Archive
from panelworks.archives.opening import open_archive
from panelworks.archives.streamed import StreamedArchive
from panelworks.archives.zipped import _LimitedZip
from panelworks.errors import Misconfigured, Rejected
from panelworks.settings import Settings
from tests.books import page_file, write_book, write_zip

PAGES = {f"page {number}.png": page_file(number) for number in (1, 2, 10)}


def contents(archive: Archive) -> dict[str, bytes | str]:
    """Bytes, or the code of what stands in the way, by name in reading order."""
    found = {
        member.name: content if isinstance(content, bytes) else content.code
        for member, content in archive.read({member.index for member in archive.members})
    }
    return {member.name: found[member.name] for member in archive.members}


def as_zip(path: Path) -> Path:
    return write_zip(path / "book.cbz", [*reversed(PAGES.items())])


def as_tar(path: Path) -> Path:
    with tarfile.open(path / "book.cbt", "w") as archive:
        for name, data in reversed(PAGES.items()):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path / "book.cbt"


def as_7z(path: Path) -> Path:
    with libarchive.file_writer(str(path / "book.cb7"), "7zip") as archive:
        for name, data in reversed(PAGES.items()):
            archive.add_file_from_memory(name, len(data), data)
    return path / "book.cb7"


def as_folder(path: Path) -> Path:
    folder = path / "book"
    (folder / "deeper").mkdir(parents=True)
    (folder / "deeper" / "page 3.png").write_bytes(b"another book")
    (folder / ".DS_Store").write_bytes(b"system")
    for name, data in PAGES.items():
        (folder / name).write_bytes(data)
    return folder


def as_truncated_zip(path: Path) -> Path:
    """All pages are there, the directory behind them is not."""
    whole = write_zip(path / "whole.cbz", list(PAGES.items())).read_bytes()
    (path / "book.cbz").write_bytes(whole[: whole.index(b"PK\x01\x02")])
    return path / "book.cbz"


@pytest.mark.parametrize("packed", [as_zip, as_tar, as_7z, as_folder, as_truncated_zip])
def test_every_kind_gives_its_pages_in_natural_order(
    packed: Callable[[Path], Path], tmp_path: Path, settings: Settings
) -> None:
    path = packed(tmp_path)
    if path.is_file():
        path = path.rename(path.with_suffix(".anything"))  # formats by content, never by name
    with open_archive(path, settings) as archive:
        assert contents(archive) == PAGES
        wanted = {member.index for member in archive.members if member.name == "page 2.png"}
        assert [member.name for member, _ in archive.read(wanted)] == ["page 2.png"]


def test_a_pdf_page_that_is_one_image_gives_its_very_file(tmp_path: Path, settings: Settings) -> None:
    jpeg = page_file(1, 120, 160, "JPEG")
    document = pypdfium2.PdfDocument.new()
    image = pypdfium2.PdfImage.new(document)
    image.load_jpeg(io.BytesIO(jpeg), inline=True)
    image.set_matrix(pypdfium2.PdfMatrix().scale(120, 160))
    page = document.new_page(120, 160)
    page.insert_obj(image)
    page.gen_content()
    half = document.new_page(200, 160)
    second = pypdfium2.PdfImage.new(document)
    second.load_jpeg(io.BytesIO(jpeg), inline=True)
    second.set_matrix(pypdfium2.PdfMatrix().scale(120, 160))
    half.insert_obj(second)
    half.gen_content()
    document.save(tmp_path / "book.pdf")
    with open_archive(tmp_path / "book.pdf", settings) as archive:
        first, rendered = contents(archive).values()
    assert first == jpeg
    assert isinstance(rendered, bytes)
    with Image.open(io.BytesIO(rendered)) as drawn:
        assert drawn.size == (math.ceil(200 * 300 / 72), math.ceil(160 * 300 / 72))


def test_an_epub_gives_its_images_in_the_order_of_its_spine(tmp_path: Path, settings: Settings) -> None:
    container = '<container><rootfiles><rootfile full-path="OEBPS/book.opf"/></rootfiles></container>'
    package = """<package><manifest><item id="one" href="text/1.xhtml" media-type="application/xhtml+xml"/>
        <item id="two" href="text/2.xhtml" media-type="application/xhtml+xml"/></manifest>
        <spine><itemref idref="two"/><itemref idref="one"/></spine></package>"""
    with zipfile.ZipFile(tmp_path / "book.epub", "w") as book:
        book.writestr("mimetype", "application/epub+zip")
        book.writestr("META-INF/container.xml", container)
        book.writestr("OEBPS/book.opf", package)
        book.writestr(
            "OEBPS/text/1.xhtml", '<html><body>&nbsp;<img alt="" src="../images/a%20b.png"/></body></html>'
        )
        book.writestr("OEBPS/text/2.xhtml", "<html><svg><image xlink:href='../images/z.png'/></svg></html>")
        book.writestr("OEBPS/images/a b.png", PAGES["page 1.png"])
        book.writestr("OEBPS/images/z.png", PAGES["page 2.png"])
        book.writestr("OEBPS/style.css", "p {}")
    with open_archive(tmp_path / "book.epub", settings) as archive:
        assert contents(archive) == {
            "OEBPS/images/z.png": PAGES["page 2.png"],
            "OEBPS/images/a b.png": PAGES["page 1.png"],
        }


def test_hostile_members_are_named_and_left_alone(tmp_path: Path, settings: Settings) -> None:
    path = tmp_path / "book.cbz"
    with zipfile.ZipFile(path, "w") as book:
        book.writestr("1.png", PAGES["page 1.png"])
        book.writestr("../../out.png", b"x")
        link = zipfile.ZipInfo("link.png")
        link.external_attr = 0o120777 << 16
        book.writestr(link, "/etc/passwd")
        book.writestr("__MACOSX/._1.png", b"fork")
    with open_archive(path, settings) as archive:
        assert [member.name for member in archive.members] == ["1.png"]
        assert {refusal.code for refusal in archive.refused} == {"unsafe_name", "symlink"}


def test_a_link_in_a_tar_is_left_alone(tmp_path: Path, settings: Settings) -> None:
    with tarfile.open(tmp_path / "book.cbt", "w") as archive:
        link = tarfile.TarInfo("link.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
        info = tarfile.TarInfo("--checkpoint-action=exec=touch pwned.png")
        info.size = len(PAGES["page 1.png"])
        archive.addfile(info, io.BytesIO(PAGES["page 1.png"]))
    with open_archive(tmp_path / "book.cbt", settings) as opened:
        assert list(contents(opened)) == ["--checkpoint-action=exec=touch pwned.png"]
        assert [refusal.code for refusal in opened.refused] == ["symlink"]
    assert not Path("pwned.png").exists()


def test_too_many_entries_refuse_the_archive(tmp_path: Path, settings: Settings) -> None:
    write_zip(tmp_path / "book.cbz", [(f"{number}.png", b"") for number in range(20_000)])
    with pytest.raises(Rejected, match="more than 15000 entries"):
        open_archive(tmp_path / "book.cbz", settings)


@pytest.mark.parametrize(
    ("limits", "code"),
    [({"max_source_bytes": 1000}, "too_large"), ({"max_archive_bytes": 1000}, "too_large")],
)
def test_limits_hold_while_reading(
    limits: dict[str, int], code: str, tmp_path: Path, settings: Settings
) -> None:
    path = write_zip(tmp_path / "book.cbz", [("1.png", PAGES["page 1.png"])])
    tight = settings.model_copy(update=limits)
    try:
        with open_archive(path, tight) as archive:
            assert set(contents(archive).values()) == {code}
    except Rejected as error:
        assert error.code == code


def test_a_bomb_is_stopped_by_its_ratio(tmp_path: Path, settings: Settings) -> None:
    write_zip(tmp_path / "book.cbz", [("bomb.png", b"\0" * (40 << 20)), ("1.png", PAGES["page 1.png"])])
    with open_archive(tmp_path / "book.cbz", settings) as archive:
        assert contents(archive) == {"1.png": PAGES["page 1.png"], "bomb.png": "bomb"}


def test_a_size_that_lies_gives_no_wrong_page(tmp_path: Path, settings: Settings) -> None:
    path = write_zip(tmp_path / "book.cbz", [("1.png", PAGES["page 1.png"])])
    data = bytearray(path.read_bytes())
    directory = data.index(b"PK\x01\x02")
    data[directory + 24 : directory + 28] = (100).to_bytes(4, "little")
    path.write_bytes(data)
    with open_archive(path, settings) as archive:
        assert contents(archive) == {"1.png": "damaged"}


def test_a_damaged_member_takes_no_other_with_it(tmp_path: Path, settings: Settings) -> None:
    path = write_book(tmp_path / "book.cbz", 3)
    data = bytearray(path.read_bytes())
    second = data.index(b"page 2.png") + 100
    data[second] ^= 0xFF
    path.write_bytes(data)
    with open_archive(path, settings) as archive:
        found = contents(archive)
    assert found["page 2.png"] == "damaged"
    assert isinstance(found["page 1.png"], bytes)
    assert isinstance(found["page 3.png"], bytes)


@pytest.mark.parametrize("share", [0.2, 0.4, 0.6])
@pytest.mark.parametrize("packed", [as_zip, as_tar])
def test_an_archive_that_breaks_off_gives_what_came_before(
    packed: Callable[[Path], Path], share: float, tmp_path: Path, settings: Settings
) -> None:
    path = packed(tmp_path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    with open_archive(path, settings) as archive:
        found = contents(archive)
        said = {refusal.code for refusal in archive.refused}
    sound = {name: data for name, data in found.items() if isinstance(data, bytes)}
    assert all(PAGES[name] == data for name, data in sound.items())
    assert len(sound) < len(PAGES)
    assert said == {"truncated"} or set(found.values()) & {"damaged", "truncated"}


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "empty"),
        (b"plain text, no archive at all", "unsupported_archive"),
        (b"PK\x03\x04 and nothing", "unsupported_archive"),
        (b"%PDF-1.7 and nothing", "damaged"),
        (os.urandom(4096), "unsupported_archive"),
    ],
)
def test_what_is_no_archive_is_said_so(data: bytes, code: str, tmp_path: Path, settings: Settings) -> None:
    (tmp_path / "book.cbz").write_bytes(data)
    with pytest.raises(Rejected) as refused:
        open_archive(tmp_path / "book.cbz", settings)
    assert refused.value.code == code


def test_without_libarchive_the_package_is_named(
    tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LIBARCHIVE", str(tmp_path / "no-library.so"))
    with pytest.raises(Misconfigured, match="libarchive13"):
        StreamedArchive(as_tar(tmp_path), settings)


@pytest.mark.parametrize(
    ("name", "pages"),
    [("komga_rar4.cbr", 3), ("komga_rar5.cbr", 1), ("komga_7zip.cb7", 1), ("rar_named.cbz", 1)],
)
def test_real_rar_and_7z_files(name: str, pages: int, assets: Path, settings: Settings) -> None:
    with open_archive(assets / "badinputs" / name, settings) as archive:
        found = contents(archive)
    assert len(found) == pages
    assert all(isinstance(data, bytes) and data.startswith(b"\x89PNG") for data in found.values())


def test_a_locked_archive_is_refused_with_a_sentence(assets: Path, settings: Settings) -> None:
    with pytest.raises(Rejected, match="locked with a password"):
        open_archive(assets / "badinputs" / "komga_zip-encrypted.cbz", settings)


@pytest.mark.parametrize("packed", ["zip", "tar"])
def test_a_pdf_inside_an_archive_does_not_make_it_one(
    packed: str, tmp_path: Path, settings: Settings
) -> None:
    entries = [("credits.pdf", b"%PDF-1.4 not a book"), *PAGES.items()]
    path = tmp_path / "book.cbz"
    if packed == "zip":
        with zipfile.ZipFile(path, "w") as book:
            for name, data in entries:
                book.writestr(name, data)
    else:
        with tarfile.open(path, "w") as archive:
            for name, data in entries:
                info = tarfile.TarInfo(name)
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
    with open_archive(path, settings) as opened:
        assert set(contents(opened)) == {name for name, _ in entries}


def test_names_in_an_old_encoding_are_read_from_a_tar_too(tmp_path: Path, settings: Settings) -> None:
    names = ["第1話/漫画の表紙.png", "第1話/次のページへ.png"]
    with tarfile.open(tmp_path / "book.cbt", "w", format=tarfile.GNU_FORMAT, encoding="cp932") as archive:
        for name in names:
            info = tarfile.TarInfo(name)
            info.size = len(PAGES["page 1.png"])
            archive.addfile(info, io.BytesIO(PAGES["page 1.png"]))
    with open_archive(tmp_path / "book.cbt", settings) as opened:
        assert sorted(contents(opened)) == sorted(names)


def test_an_entry_without_a_name_is_left_out(tmp_path: Path, settings: Settings) -> None:
    path = write_zip(tmp_path / "book.cbz", [("x", b"nameless"), ("1.png", PAGES["page 1.png"])])
    data = path.read_bytes().replace(b"x", b"\0")
    path.write_bytes(data)
    with open_archive(path, settings) as opened:
        assert list(contents(opened)) == ["1.png"]


@pytest.mark.parametrize("damage", ["rootfile", "container", "itemref"])
def test_a_damaged_epub_still_gives_its_images(damage: str, tmp_path: Path, settings: Settings) -> None:
    container = '<container><rootfiles><rootfile full-path="book.opf"/></rootfiles></container>'
    package = """<package><manifest><item id="one" href="1.png" media-type="image/png"/></manifest>
        <spine><itemref idref="gone"/><itemref idref="one"/></spine></package>"""
    with zipfile.ZipFile(tmp_path / "book.epub", "w") as book:
        book.writestr("mimetype", "application/epub+zip")
        if damage != "container":
            book.writestr("META-INF/container.xml", "<container/>" if damage == "rootfile" else container)
        book.writestr("book.opf", package)
        book.writestr("1.png", PAGES["page 1.png"])
    with open_archive(tmp_path / "book.epub", settings) as opened:
        assert contents(opened)["1.png"] == PAGES["page 1.png"]


def test_hidden_entries_count_too(tmp_path: Path, settings: Settings) -> None:
    write_zip(tmp_path / "book.cbz", [(f".h{number}", b"") for number in range(20_000)])
    with pytest.raises(Rejected, match="more than 15000 entries"):
        open_archive(tmp_path / "book.cbz", settings)


def test_links_in_a_folder_are_left_out(tmp_path: Path, settings: Settings) -> None:
    folder = as_folder(tmp_path)
    (folder / "notes.txt").symlink_to("/etc/hostname")
    with open_archive(folder, settings) as opened:
        assert contents(opened) == PAGES
        assert [refusal.name for refusal in opened.refused] == ["notes.txt"]


def test_a_file_that_ends_its_child_takes_no_other_with_it(
    tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("panelworks.archives.streamed._PARSER", "tests.sandboxed")
    with StreamedArchive(as_tar(tmp_path), settings) as archive:
        found = contents(archive)
    assert list(found.values()) == [b"content", "parser_crashed", b"content"]


def test_a_name_that_is_no_text_is_opened(tmp_path: Path, settings: Settings) -> None:
    path = as_tar(tmp_path).rename(os.fsdecode(os.fsencode(tmp_path) + b"/b\xe9.cbt"))
    with open_archive(Path(path), settings) as archive:
        assert contents(archive) == PAGES


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"\x89PNG\r\n\x1a\n", "'panelworks enhance'"),
        (b"\xff\xd8\xff\xe0", "'panelworks enhance'"),
        (b"<html><body>404</body></html>", "an HTML page"),
        (b"plain text", "a text file"),
        (b"\x00\x01\x02\x03" * 50, "not a supported archive"),
    ],
)
def test_what_is_no_archive_is_named(tmp_path: Path, settings: Settings, data: bytes, words: str) -> None:
    (tmp_path / "book.cbz").write_bytes(data)
    with pytest.raises(Rejected, match=words) as refused:
        open_archive(tmp_path / "book.cbz", settings)
    assert refused.value.code == "unsupported_archive"


def test_the_directory_of_a_zip_is_not_parsed_beyond_the_limit(tmp_path: Path, settings: Settings) -> None:
    path = write_zip(tmp_path / "book.cbz", [(f"{number}.png", b"x") for number in range(30)])
    with pytest.raises(Rejected, match="more than 10 entries"):
        _LimitedZip(path, settings.model_copy(update={"max_archive_entries": 10}))
    assert _LimitedZip(path, settings.model_copy(update={"max_archive_entries": 15})).testzip() is None


def test_a_directory_without_measure_is_not_read(tmp_path: Path, settings: Settings) -> None:
    size = 200 << 20
    end = struct.pack("<4sHHHHIIH", b"PK\5\6", 0, 0, 0, 0, size, 4, 0)
    path = tmp_path / "book.cbz"
    with path.open("wb") as file:
        file.write(b"PK\3\4")
        file.seek(4 + size)
        file.write(end)
    with pytest.raises(Rejected) as refused:
        open_archive(path, settings)
    assert refused.value.code == "too_many_entries"


def test_folders_are_not_counted_as_entries(tmp_path: Path, settings: Settings) -> None:
    files = [
        (name, data) for number in range(9) for name, data in ((f"{number}/", b""), (f"{number}/1.png", b"x"))
    ]
    path = write_zip(tmp_path / "book.cbz", files)
    with open_archive(path, settings.model_copy(update={"max_archive_entries": 10})) as archive:
        assert len(archive.members) == 9
