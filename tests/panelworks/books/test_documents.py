"""Books made of PDF and EPUB files."""

import zipfile
from pathlib import Path

import pytest

from panelworks.archives.member import BookInfo
from panelworks.books.backfill import Backfill, requests_of
from panelworks.books.direct import enhance_book_directly
from panelworks.books.metadata import created
from panelworks.page.engine import Engine
from tests.books import write_book
from tests.panelworks.archives.test_pdf import one_page, write_costly_pdf
from tests.panelworks.books.test_book import QUICK, run


def test_what_a_pdf_says_of_itself_becomes_a_comic_info(tmp_path: Path, engine: Engine) -> None:
    source = one_page(tmp_path, catalogue=b"/ViewerPreferences<</Direction/R2L>>")
    assert run(source, tmp_path / "out.cbz", engine).status == "success"
    with zipfile.ZipFile(tmp_path / "out.cbz") as book:
        info = book.read("ComicInfo.xml").decode()
    for part in (
        "<Title>A book</Title>", "<Writer>Somebody</Writer>", "<Manga>YesAndRightToLeft</Manga>",
        "<PageCount>1</PageCount>",
    ):  # fmt: skip
        assert part in info


@pytest.mark.parametrize(
    ("info", "expected"),
    [
        (BookInfo(), None),
        (BookInfo(title="\x00 \ud800"), None),
        (BookInfo(title="A \x07& B"), b"<Title>A &amp; B</Title>"),
        (BookInfo(authors=("One", "", "Two")), b"<Writer>One, Two</Writer>"),
    ],
)
def test_only_what_is_stated_and_printable_is_written(info: BookInfo, expected: bytes | None) -> None:
    data = created(info)
    assert data is None if expected is None else data is not None and expected in data


def test_a_book_that_ended_its_parser_comes_last_in_the_next_run(tmp_path: Path, engine: Engine) -> None:
    shelf = tmp_path / "shelf"
    write_costly_pdf(shelf / "a.pdf")
    write_book(shelf / "b.cbz", 1)
    engine = Engine(engine.settings.model_copy(update={"parser_memory_bytes": 400_000_000}))
    backfill = Backfill(archive=str(shelf), out=str(tmp_path / "out"), options=QUICK)
    first, second = requests_of(backfill, engine.settings, "run")
    assert first.source.endswith("a.pdf")
    result = enhance_book_directly(first, engine)
    assert result.status == "error"
    assert result.error is not None
    assert "document_too_costly" in result.error.message or "parser_crashed" in result.error.message
    assert requests_of(backfill, engine.settings, "run") == [second, first]
