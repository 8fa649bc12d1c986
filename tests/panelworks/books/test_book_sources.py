"""What a book is made from: formats of pages, files of several pages, damaged pages and foreign content."""

import io
import json
import struct
import zipfile
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
from PIL import Image

from panelworks.archives.naming import in_natural_order
from panelworks.books.backfill import Backfill, request_of, requests_of
from panelworks.books.publishing import entry_names
from panelworks.books.report import report_of
from panelworks.domain.books import PageDone
from panelworks.domain.formats import EXTENSIONS, MEDIA_TYPES, SUFFIXES
from panelworks.domain.result import ArtifactRef, VariantArtifact
from panelworks.page.engine import Engine
from tests.books import names_in, page_file, write_book, write_zip
from tests.panelworks.books.test_book import QUICK, run


def test_a_book_without_pages_is_an_error_and_leaves_nothing(tmp_path: Path, engine: Engine) -> None:
    result = run(
        write_zip(tmp_path / "book.cbz", [("readme.txt", b"hi")]), tmp_path / "out" / "o.cbz", engine
    )
    assert result.error is not None
    assert result.error.code == "no_pages"
    assert not (tmp_path / "out").exists()
    assert engine.ledger.read()["error"].tolist() == ["no_pages"]


@pytest.mark.parametrize("members", [[b"no picture"], [page_file(1)[:900], b"GIF89a", page_file(2)[:60]]])
def test_a_book_without_a_readable_page_fails_with_the_reason_and_publishes_nothing(
    tmp_path: Path, engine: Engine, members: list[bytes]
) -> None:
    entries = [(f"{number}.png", data) for number, data in enumerate(members)]
    source = write_zip(tmp_path / "book.cbz", entries)
    for _ in range(2):  # it is no finished book, so the next run tries it again
        result = run(source, tmp_path / "out" / "o.cbz", engine)
        assert (result.status, result.error and result.error.code) == ("error", "no_readable_page")
        assert result.error
        assert "0.png" in result.error.message
        assert not (tmp_path / "out").exists()
    assert engine.ledger.read()["error"].tolist() == ["no_readable_page"]


def test_every_page_of_a_multi_page_tiff_and_the_notes_of_pages_come_through(
    tmp_path: Path, engine: Engine
) -> None:
    frames = [Image.open(io.BytesIO(page_file(seed))).convert("RGB") for seed in range(8)]
    source = tmp_path / "folder"
    source.mkdir()
    frames[0].save(source / "a.tif", save_all=True, append_images=frames[1:3], compression="tiff_lzw")
    frames[3].save(source / "b.tiff", save_all=True, append_images=frames[4:6], big_tiff=True)
    frames[6].save(source / "c.gif", save_all=True, append_images=frames[7:])
    result = run(source, tmp_path / "out.cbz", engine)
    names = [f"a-page-0{n}.png" for n in (1, 2, 3)] + [f"b-page-0{n}.png" for n in (1, 2, 3)] + ["c.png"]
    assert names_in(tmp_path / "out.cbz") == [*names, "panelworks.json"]
    (note,) = [one for one in result.notes if one.startswith("c.gif: ") and "improved" not in one]
    assert "first of 2 frames" in note
    rows = engine.ledger.read()
    assert rows["notes"].dropna().tolist() == [note.removeprefix("c.gif: ")]
    assert note.removeprefix("c.gif: ") in report_of(rows, "Report", engine.settings)[1]
    with zipfile.ZipFile(tmp_path / "out.cbz") as book:
        pages = json.loads(book.read("panelworks.json"))["pages"]
    assert [page.get("notes") for page in pages] == [None] * 6 + [[note.removeprefix("c.gif: ")]]
    assert run(source, tmp_path / "out.cbz", engine).notes == result.notes
    assert run(source, tmp_path / "out.cbz", engine, force=True).notes == result.notes
    known = run(source, tmp_path / "other.cbz", engine)
    assert (known.cached, known.notes) == (7, result.notes)


@pytest.mark.parametrize("fault", ["cut", "directory", "pointer"])
def test_pages_that_a_damaged_tiff_lacks_are_named(fault: str, tmp_path: Path, engine: Engine) -> None:
    frames = [Image.open(io.BytesIO(page_file(seed))).convert("RGB") for seed in range(3)]
    buffer = io.BytesIO()
    frames[0].save(buffer, "TIFF", save_all=True, append_images=frames[1:])
    data = bytearray(buffer.getvalue())
    second = struct.unpack("<I", data[directory_end(data, 8) : directory_end(data, 8) + 4])[0]
    end = directory_end(data, second)
    source = tmp_path / "folder"
    source.mkdir()
    if fault == "cut":
        data = data[: end + 4]
    elif fault == "directory":
        data[second + 2 : end] = bytes(end - second - 2)
    else:
        data[end : end + 4] = b"\xff\xff\xff\x7f"
    (source / "a.tif").write_bytes(data)
    results = [run(source, tmp_path / "out.cbz", engine) for _ in range(2)]
    assert {result.status for result in results} == {"incomplete"}
    (refusal,) = results[0].refused
    assert (refusal.name, refusal.code) == ("a.tif", "truncated")


def directory_end(data: bytearray, at: int) -> int:
    """Where the offset of the next directory stands."""
    return at + 2 + 12 * int(struct.unpack("<H", data[at : at + 2])[0])


def test_content_that_looks_strange_is_read_and_what_is_skipped_is_named(
    tmp_path: Path, engine: Engine
) -> None:
    names = ["/001.png", "C:\\scans\\002.png", ".hack/003.png", "...and then/004.png"]
    left_out = ["__MACOSX/._001.png", "Thumbs.db"]
    source = write_zip(tmp_path / "book.cbz", [(name, page_file(1)) for name in (*names, *left_out)])
    source.write_bytes(b"MZ" + bytes(5000) + source.read_bytes())
    result = run(source, tmp_path / "out.cbz", engine)
    assert (result.status, result.pages) == ("success", 4)
    assert result.notes[-1] == "2 system files were skipped: __MACOSX/._001.png, Thumbs.db"
    assert sorted(names_in(tmp_path / "out.cbz")[:4]) == [
        "...and then/004.png", ".hack/003.png", "001.png", "scans/002.png",
    ]  # fmt: skip


def test_a_folder_with_other_books_in_it_is_found_alone(tmp_path: Path, engine: Engine) -> None:
    (tmp_path / "V" / "deeper").mkdir(parents=True)
    for name in ("1.png", "2.png", "deeper/1.png"):
        (tmp_path / "V" / name).write_bytes(page_file())
    write_book(tmp_path / "V" / "other.cbz", 1)
    asked = Backfill(archive=str(tmp_path), out=str(tmp_path / "out"), options=QUICK)
    for listed in requests_of(asked, engine.settings, "run"):
        assert request_of(listed.source, listed.out, QUICK, engine.settings, "run", force=False) == listed
    result = run(tmp_path / "V", tmp_path / "out", engine)
    assert (result.pages, names_in(Path(result.out))) == (2, ["1.png", "2.png", "panelworks.json"])


def test_an_archive_inside_is_kept_and_named(tmp_path: Path, engine: Engine) -> None:
    inside = write_book(tmp_path / "inside.cbz", 1).read_bytes()
    result = run(
        write_book(tmp_path / "book.cbz", 1, extras={"more.cbz": inside}), tmp_path / "out.cbz", engine
    )
    assert "[nested_archive]" in result.notes[-1]
    only = run(write_zip(tmp_path / "only.cbz", [("more.cbz", inside)]), tmp_path / "none.cbz", engine)
    assert only.error is not None
    assert "unpack it first" in only.error.message


def test_parts_and_pages_sort_as_they_are_read() -> None:
    def page(index: int, name: str, parts: int) -> PageDone:
        part = ArtifactRef(sha256="0", uri="", media_type="image/png", width=1, height=1, bytes=1)
        variants = tuple(VariantArtifact(name=f"page-{n}", format="png", artifact=part) for n in range(parts))
        return PageDone(index=index, name=name, state="enhanced", parts=variants)

    names = entry_names([page(0, "ep1.png", 3), page(1, "ep1-1.png", 2), page(2, "ep2.jpg", 1)])
    flat = [name for files in names for name in files]
    assert flat == in_natural_order(flat)
    assert [len(files) for files in names] == [3, 2, 1]


@pytest.mark.parametrize(
    ("name", "format", "options"),
    [
        ("002.tga", "TGA", {}), ("002.pnm", "PPM", {}), ("002.jpx", "JPEG2000", {}), ("002.j2k", "JPEG2000", {}),
        ("002.jpe", "JPEG", {}), ("002.dib", "BMP", {}), ("002.apng", "PNG", {}), ("002", "JPEG2000", {}),
        ("002.page", "PPM", {}), ("002.scan", "TGA", {}), ("002.scn", "BMP", {}), ("002.bin", "TIFF", {"big_tiff": True}),
    ],
)  # fmt: skip
def test_every_format_that_is_read_is_a_page(
    tmp_path: Path, engine: Engine, name: str, format: str, options: dict[str, Any]
) -> None:
    """Before, a TGA, PNM or JPEG 2000 moved behind the last page, untouched and without a note."""
    page = io.BytesIO()
    Image.new("RGB", (60, 90), "red").save(page, format, **options)
    with zipfile.ZipFile(tmp_path / "book.cbz", "w") as file:
        file.writestr("001.png", page_file(1))
        file.writestr(name, page.getvalue())
        file.writestr("003.png", page_file(3))
        file.writestr("notes.txt", b"P5 is a chapter. BM is another one.")
    result = run(tmp_path / "book.cbz", tmp_path / "out.cbz", engine)
    assert (result.status, result.pages) == ("success", 3)
    names = names_in(tmp_path / "out.cbz")
    assert [PurePosixPath(one).stem for one in names[:3]] == ["001", "002", "003"]
    assert "notes.txt" in names


def test_every_format_that_is_read_has_its_extensions() -> None:
    assert set(SUFFIXES) == set(MEDIA_TYPES)
    assert all(f".{EXTENSIONS[MEDIA_TYPES[kind]]}" in suffixes for kind, suffixes in SUFFIXES.items())


def test_folders_of_a_windows_archiver_are_no_files(tmp_path: Path, engine: Engine) -> None:
    with zipfile.ZipFile(tmp_path / "book.cbz", "w") as file:
        file.writestr("ch1\\", b"")
        file.writestr("ch1\\001.png", page_file(1))
    assert run(tmp_path / "book.cbz", tmp_path / "out.cbz", engine).status == "success"
    assert "ch1" not in names_in(tmp_path / "out.cbz")


def test_a_multi_page_tiff_is_a_book(tmp_path: Path, engine: Engine) -> None:
    """`enhance` names `backfill` for its other pages."""
    pages = [Image.new("RGB", (60, 90), colour) for colour in ("red", "green", "blue")]
    pages[0].save(tmp_path / "scan.tif", save_all=True, append_images=pages[1:])
    result = run(tmp_path / "scan.tif", tmp_path / "out.cbz", engine)
    assert (result.status, result.pages) == ("success", 3)
