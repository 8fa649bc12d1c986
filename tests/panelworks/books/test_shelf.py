"""Which books there are, and where each goes."""

from pathlib import Path

import boto3
import pytest

from panelworks.books.shelf import find_books, open_book
from panelworks.errors import Misconfigured, Rejected
from panelworks.settings import Settings, get_settings
from tests.books import page_file, write_book


def tree(root: Path) -> Path:
    write_book(root / "Series 10" / "Vol 1.cbz", 1)
    write_book(root / "Series 2" / "Vol 10.cbz", 1)
    write_book(root / "Series 2" / "Vol 2.cbz", 1)
    write_book(root / "Series 2" / "vol 2.ZIP", 1)
    write_book(root / "Series 2" / "CON.cbr", 1)
    (root / "Loose").mkdir()
    (root / "Loose" / "1.png").write_bytes(page_file())
    (root / "Loose" / "notes.txt").write_text("no book")
    (root / ".trash").mkdir()
    write_book(root / ".trash" / "gone.cbz", 1)
    return root


def test_a_tree_is_mirrored_and_no_two_books_take_one_name(tmp_path: Path, settings: Settings) -> None:
    root = tree(tmp_path / "shelf")
    found = {
        Path(book.source).relative_to(root).as_posix(): book.name for book in find_books(str(root), settings)
    }
    assert found == {
        "Loose": "Loose.cbz",
        "Series 2/CON.cbr": "Series 2/_CON.cbz",
        "Series 2/Vol 2.cbz": "Series 2/Vol 2.cbz",
        "Series 2/vol 2.ZIP": "Series 2/vol 2.ZIP.cbz",
        "Series 2/Vol 10.cbz": "Series 2/Vol 10.cbz",
        "Series 10/Vol 1.cbz": "Series 10/Vol 1.cbz",
    }
    assert [book.name for book in find_books(str(root), settings)][-1] == "Series 10/Vol 1.cbz"


def test_a_folder_named_like_an_archive_is_a_book_beside_it(tmp_path: Path, settings: Settings) -> None:
    write_book(tmp_path / "Vol 1.cbz", 1)
    (tmp_path / "Vol 1").mkdir()
    (tmp_path / "Vol 1" / "1.png").write_bytes(page_file())
    assert {book.name for book in find_books(str(tmp_path), settings)} == {"Vol 1.cbz", "Vol 1.folder.cbz"}


def test_finished_books_are_no_sources(tmp_path: Path, settings: Settings) -> None:
    write_book(tmp_path / "a.cbz", 1)
    write_book(tmp_path / "out" / "a.cbz", 1)
    assert len(find_books(str(tmp_path), settings, without=str(tmp_path / "out"))) == 1
    with pytest.raises(Misconfigured, match="folder of their own"):
        find_books(str(tmp_path), settings, without=str(tmp_path))


def test_a_book_that_changes_has_another_fingerprint(tmp_path: Path, settings: Settings) -> None:
    path = write_book(tmp_path / "a.cbz", 1)
    (before,) = find_books(str(tmp_path), settings)
    write_book(path, 2)
    (after,) = find_books(str(path), settings)
    assert (before.source, before.name) == (after.source, after.name)
    assert before.fingerprint != after.fingerprint


def test_nothing_there_is_said_so(tmp_path: Path, settings: Settings) -> None:
    assert find_books(str(tmp_path), settings) == []
    with pytest.raises(Rejected, match="no folder and no book"):
        find_books(str(tmp_path / "none"), settings)


def test_a_bucket_is_a_shelf_too(bucket: str, tmp_path: Path) -> None:
    settings = get_settings()
    client = boto3.client("s3", endpoint_url=settings.s3_endpoint)
    client.upload_file(str(write_book(tmp_path / "a.cbz", 2)), bucket, "shelf/Series/a.cbz")
    client.put_object(Bucket=bucket, Key="shelf/Loose/1.png", Body=page_file())
    books = {book.name: book.source for book in find_books(f"s3://{bucket}/shelf", settings)}
    assert books == {
        "Loose.cbz": f"s3://{bucket}/shelf/Loose",
        "Series/a.cbz": f"s3://{bucket}/shelf/Series/a.cbz",
    }
    for source, pages in ((books["Loose.cbz"], 1), (books["Series/a.cbz"], 2)):
        with open_book(source, settings) as archive:
            assert len(list(archive.read({member.index for member in archive.members}))) == pages
    assert list((settings.cache_dir / "spool").iterdir()) == []
    (single,) = find_books(books["Series/a.cbz"], settings)
    assert single.name == "a.cbz"


def test_a_cover_beside_archives_is_no_book(tmp_path: Path, settings: Settings) -> None:
    write_book(tmp_path / "Series" / "v1.cbz", 1)
    (tmp_path / "Series" / "cover.jpg").write_bytes(page_file())
    assert [book.name for book in find_books(str(tmp_path), settings)] == ["Series/v1.cbz"]


def test_names_are_cut_to_what_disks_take(tmp_path: Path, settings: Settings) -> None:
    write_book(tmp_path / ("漫" * 83 + ".cbz"), 1)
    (book,) = find_books(str(tmp_path), settings)
    assert len(book.name.encode()) <= 240
    assert book.name.endswith(".cbz")
