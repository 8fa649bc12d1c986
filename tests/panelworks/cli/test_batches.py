"""Folders, archives and manifests as sources of `panelworks enhance`."""

import json
import zipfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from panelworks.cli.app import main
from panelworks.cli.batches import Page, list_pages, open_page
from panelworks.page.engine import get_engine
from panelworks.settings import Settings
from tests.books import page_file

Make = Callable[[Path], Path]


def pages_of(path: Path, settings: Settings) -> tuple[Page, ...]:
    with ExitStack() as stack:
        return list_pages([str(path)], stack, settings).pages


def folder(path: Path) -> Path:
    """A folder with pages, a folder in it, and files that are no pages."""
    (path / "more").mkdir(parents=True)
    for name in ("10.png", "2.png", "more/1.png"):
        (path / name).write_bytes(page_file(1))
    for name in ("notes.txt", "Thumbs.db", "book.cbz"):
        (path / name).write_bytes(b"x")
    return path


def archive(path: Path) -> Path:
    """The same as a ZIP archive."""
    with zipfile.ZipFile(path.with_suffix(".zip"), "w") as file:
        for name in ("10.png", "2.png", "more/1.png", "notes.txt", "Thumbs.db", "book.cbz"):
            file.writestr(name, page_file(1))
    return path.with_suffix(".zip")


@pytest.mark.parametrize("make", [folder, archive])
def test_pictures_are_found_in_natural_order(
    make: Make, tmp_path: Path, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    found = [page.name for page in pages_of(make(tmp_path / "in"), settings)]
    assert [name.replace(": ", "/").split("/", 1)[1].rpartition("in/")[2][-10:].lstrip("/") for name in found]
    assert [name[-5:] for name in found] == ["2.png" if n != 1 else "0.png" for n in (0, 1)] + ["1.png"]
    assert capsys.readouterr().err == "2 files skipped, not named as pictures: book.cbz, notes.txt\n"


@pytest.mark.parametrize(
    ("name", "data", "code"),
    [
        ("empty.csv", b"", "bad_manifest"),
        ("unknown.csv", b"source,sorce\na,b\n", "bad_manifest"),
        ("damaged.zip", b"PK\x03\x04 damaged", "damaged"),
    ],
)
def test_what_cannot_be_used_is_one_result_with_an_error(
    name: str, data: bytes, code: str, tmp_path: Path, settings: Settings
) -> None:
    (tmp_path / name).write_bytes(data)
    (page,) = pages_of(tmp_path / name, settings)
    assert page.error is not None and page.error.code == code
    (tmp_path / "none").mkdir()
    (page,) = pages_of(tmp_path / "none", settings)
    assert page.error is not None and page.error.message == "There are no pictures in this folder."


def test_books_pages_and_missing_files_are_no_batches(tmp_path: Path, settings: Settings) -> None:
    with zipfile.ZipFile(tmp_path / "book.cbz", "w") as file:
        file.writestr("1.png", page_file(1))
    with ExitStack() as stack:
        sources = [str(tmp_path / "book.cbz"), "none.csv", "https://example.com/a.zip", "data:,x"]
        found = list_pages(sources, stack, settings)
    assert not found.is_batch
    assert [page.address for page in found.pages] == sources


def test_a_manifest_in_an_archive_names_its_members(tmp_path: Path, settings: Settings) -> None:
    manifest = "source,job_id\na.png,one\n./b.png,two\nhttps://example.com/c.png,\nnone.png,\n"
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as file:
        file.writestr("x/manifest.csv", manifest)
        file.writestr("x/a.png", page_file(1))
        file.writestr("x/b.png", b"text")
    with ExitStack() as stack:
        pages = list_pages([str(tmp_path / "x.zip")], stack, settings).pages
        assert [(page.row, page.job_id) for page in pages] == [(2, "one"), (3, "two"), (4, None), (5, None)]
        address = open_page(pages[0])
        assert address.startswith("stored:") and address.endswith("/a.png")
        assert get_engine().store.read_named(address[7:71], "image/png") == page_file(1)
    assert pages[2].address == "https://example.com/c.png"
    assert pages[3].error is not None and pages[3].error.code == "not_found"


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["enhance", *arguments])
    return int(str(ended.value.code))


def test_a_manifest_is_enhanced_and_continued(
    tmp_path: Path, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.png").write_bytes(page_file(1))
    rows = 'source;options;job_id\r\na.png;"{""scale"": 1}";mine\r\na.png;;\r\nb.png;;\r\na.png;"{""scale"": 9}";\r\n'
    (tmp_path / "m.csv").write_bytes(b"\xef\xbb\xbf" + rows.encode())
    arguments = (str(tmp_path / "m.csv"), "--out", str(tmp_path / "out"), "--scale", "2", "--direct")
    assert run(*arguments, "--json") == 1
    *results, summary = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(one["row"], one["status"], one["scale"]) for one in results] == [
        (2, "success", 1), (3, "success", 2), (4, "error", None), (5, "error", None),
    ]  # fmt: skip
    assert results[0]["job_id"] == "mine"
    assert [one["error"]["code"] for one in results[2:]] == ["not_found", "bad_option"]
    assert summary["batch"]["counts"] == {"total": 4, "done": 2, "failed": 2}
    assert run(*arguments) == 1
    text = capsys.readouterr().out
    assert "row 4: " in text
    assert "2 of 4 pages delivered (" in text and ", 2 failed, 2 from the cache" in text
