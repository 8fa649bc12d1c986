"""A book from its archive to the finished CBZ, without a server."""

import io
import json
import os
import zipfile
from pathlib import Path

import pytest
from PIL import Image

from panelworks.books import binding
from panelworks.books.backfill import Backfill, request_of, requests_of, unfinished_requests
from panelworks.books.binding import Leaf, bind
from panelworks.books.direct import enhance_book_directly
from panelworks.domain.books import BookOptions, BookRequest, BookResult
from panelworks.domain.options import EnhanceOptions
from panelworks.errors import Misconfigured, Rejected, Transient
from panelworks.page.engine import Engine
from panelworks.settings import Settings, get_settings
from tests.books import names_in, page_file, write_book, write_zip
from tests.networks import random_compact

QUICK = BookOptions(page=EnhanceOptions(model="lanczos"))
COMIC_INFO = b"<ComicInfo><Title>T</Title></ComicInfo>"


def request(
    source: Path, out: Path, engine: Engine, options: BookOptions = QUICK, *, force: bool = False
) -> BookRequest:
    return request_of(str(source), str(out), options, engine.settings, "run", force=force)


def run(
    source: Path, out: Path, engine: Engine, options: BookOptions = QUICK, *, force: bool = False
) -> BookResult:
    return enhance_book_directly(request(source, out, engine, options, force=force), engine)


def test_pages_in_are_pages_out_in_order_with_their_names(tmp_path: Path, engine: Engine) -> None:
    extras = {"about/notes.txt": b"kept", "book/ComicInfo.xml": COMIC_INFO, ".DS_Store": b"system"}
    source = write_book(tmp_path / "book.cbz", 11, extras=extras)
    result = run(source, tmp_path / "out.cbz", engine, BookOptions())
    assert (result.status, result.pages, result.states) == ("success", 11, {"enhanced": 11})
    pages = [f"page {number}.png" for number in range(1, 12)]
    assert names_in(tmp_path / "out.cbz") == [*pages, "ComicInfo.xml", "panelworks.json", "about/notes.txt"]
    with zipfile.ZipFile(tmp_path / "out.cbz") as book:
        assert all(entry.compress_type == zipfile.ZIP_STORED for entry in book.infolist())
        assert Image.open(io.BytesIO(book.read("page 1.png"))).size == (192, 256)
        assert b"<PageCount>11</PageCount>" in book.read("ComicInfo.xml")
        about = json.loads(book.read("panelworks.json"))
        assert book.read("about/notes.txt") == b"kept"
    (step, *_) = about["pages"][0]["steps"]
    assert (step["model"], len(step["weights_sha256"])) == ("panelworks-2x", 64)
    assert about["pages"][0]["scores"]["after"] > about["pages"][0]["scores"]["before"]


def test_the_finished_book_of_another_source_is_not_replaced(tmp_path: Path, engine: Engine) -> None:
    first = write_book(tmp_path / "first.cbz", 1)
    second = write_book(tmp_path / "second.cbz", 1, first_seed=9)
    out = tmp_path / "out.cbz"
    run(first, out, engine)
    before = out.read_bytes()
    result = run(second, out, engine)
    assert result.error is not None
    assert (result.error.code, f"finished book of {first}" in result.error.message) == ("exists", True)
    assert out.read_bytes() == before
    # A source that was moved is still the same book.
    first.rename(tmp_path / "moved.cbz")
    assert run(tmp_path / "moved.cbz", out, engine).status == "success"


def test_one_book_of_a_backfill_may_name_its_file(tmp_path: Path, engine: Engine) -> None:
    book, out = write_book(tmp_path / "a" / "one.cbz", 1), str(tmp_path / "out" / "named.cbz")
    (one,) = requests_of(Backfill(archive=str(book), out=out), engine.settings, "run")
    assert one.out == out
    write_book(tmp_path / "a" / "two.cbz", 1)
    with pytest.raises(Rejected, match="the file of one book"):
        requests_of(Backfill(archive=str(tmp_path / "a"), out=out), engine.settings, "run")


def test_the_same_book_has_the_same_bytes(
    tmp_path: Path, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write_book(tmp_path / "book.cbz", 4)
    run(source, tmp_path / "first.cbz", engine)
    monkeypatch.setenv("PANELWORKS_CACHE_DIR", str(tmp_path / "other cache"))
    get_settings.cache_clear()
    run(source, tmp_path / "second.cbz", Engine(get_settings()))
    assert (tmp_path / "first.cbz").read_bytes() == (tmp_path / "second.cbz").read_bytes()


def test_a_page_that_fails_is_the_original_and_the_others_are_processed(
    tmp_path: Path, engine: Engine
) -> None:
    entries = [
        ("1.png", page_file(1)),
        ("2.png", b"no picture"),
        ("3.png", page_file(3)[:900]),
        ("4.png", page_file(4)),
    ]
    result = run(write_zip(tmp_path / "book.cbz", entries), tmp_path / "out.cbz", engine, BookOptions())
    assert result.states == {"enhanced": 2, "failed": 2}
    assert [note.partition(":")[0] for note in result.notes] == ["2.png", "3.png"]
    with zipfile.ZipFile(tmp_path / "out.cbz") as book:
        assert book.namelist()[:4] == ["1.png", "2.png", "3.png", "4.png"]
        assert book.read("2.png") == b"no picture"
        assert book.read("3.png") == page_file(3)[:900]
        states = [page["state"] for page in json.loads(book.read("panelworks.json"))["pages"]]
    assert states == ["enhanced", "failed", "failed", "enhanced"]
    rows = engine.ledger.read()
    assert rows["status"].tolist() == ["success", "error", "error", "success"]
    assert rows["error"].tolist()[1:3] == ["unsupported_format", "truncated"]


def test_a_page_that_nothing_improves_is_kept_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = BookOptions(
        page=EnhanceOptions(model=str(random_compact(tmp_path / "garbage.pth", strength=1)))
    )
    source = write_book(tmp_path / "book.cbz", 1)
    monkeypatch.setenv("PANELWORKS_FALLBACKS", "none")
    get_settings.cache_clear()
    result = run(source, tmp_path / "out.cbz", Engine(get_settings()), options)
    assert result.states == {"unimproved": 1}
    with zipfile.ZipFile(tmp_path / "out.cbz") as book:
        assert book.read("page 1.png") == page_file(1)


def test_the_book_says_why_a_page_was_kept(tmp_path: Path, settings: Settings) -> None:
    small = Engine(settings.model_copy(update={"max_output_pixels": 1000}))
    result = run(write_book(tmp_path / "book.cbz", 1), tmp_path / "out.cbz", small)
    assert result.states == {"unimproved": 1}
    (note,) = result.notes
    assert note.startswith("page 1.png: kept as it was: The enhanced picture would have 0 megapixels")


def test_names_that_clash_or_are_reserved_stay_apart(tmp_path: Path, engine: Engine) -> None:
    entries = [
        ("Page.png", page_file(1)),
        ("page.png", page_file(2)),
        ("page.bmp", page_file(3, format="BMP")),
    ]
    run(write_zip(tmp_path / "book.cbz", entries), tmp_path / "out.cbz", engine)
    names = names_in(tmp_path / "out.cbz")[:3]
    assert len({name.casefold() for name in names}) == 3
    assert all(name.endswith(".png") for name in names)


def test_formats_and_targets(tmp_path: Path, engine: Engine) -> None:
    options = QUICK.model_copy(update={"format": "webp", "longest_side": 200, "xmp": True})
    run(write_book(tmp_path / "book.cbz", 2), tmp_path / "out.cbz", engine, options)
    assert names_in(tmp_path / "out.cbz")[:2] == ["page 1.webp", "page 2.webp"]
    with zipfile.ZipFile(tmp_path / "out.cbz") as book:
        image = Image.open(io.BytesIO(book.read("page 1.webp")))
    assert (image.format, image.size) == ("WEBP", (150, 200))
    assert b"Panelworks" in image.info["xmp"]


def test_a_page_seen_before_is_done_once(tmp_path: Path, engine: Engine) -> None:
    run(write_book(tmp_path / "a.cbz", 3), tmp_path / "out a.cbz", engine)
    other = run(write_book(tmp_path / "b.cbz", 4), tmp_path / "out b.cbz", engine)
    assert (other.pages, other.cached) == (4, 3)


def test_a_book_that_is_done_is_passed_by_until_it_changes(tmp_path: Path, engine: Engine) -> None:
    source, out = write_book(tmp_path / "in" / "book.cbz", 2), tmp_path / "out.cbz"
    assert not run(source, out, engine).skipped
    again = run(source, out, engine)
    assert (again.skipped, again.pages) == (True, 2)
    assert not run(source, out, engine, BookOptions(format="webp", page=QUICK.page)).skipped
    out.unlink()
    gone = run(source, out, engine)
    assert (gone.skipped, gone.cached) == (False, 2)
    write_book(source, 3)
    changed = run(source, out, engine)
    assert (changed.skipped, changed.pages, changed.cached) == (False, 3, 2)
    assert not run(source, out, engine, force=True).cached


def test_no_file_of_another_origin_is_replaced(tmp_path: Path, engine: Engine) -> None:
    source, foreign = write_book(tmp_path / "book.cbz", 1), write_book(tmp_path / "foreign.cbz", 1)
    before = foreign.read_bytes()
    refused = run(source, foreign, engine)
    assert refused.error is not None
    assert refused.error.code == "exists"
    same = run(source, source, engine)
    assert same.error is not None
    assert same.error.code == "out_is_source"
    assert foreign.read_bytes() == before


def test_a_book_that_lost_a_page_is_incomplete_also_when_it_was_done_before(
    tmp_path: Path, engine: Engine
) -> None:
    source = write_book(tmp_path / "book.cbz", 3)
    damaged = bytearray(source.read_bytes())
    at = damaged.index(b"IDAT")
    damaged[at + 8 : at + 16] = bytes(8)
    source.write_bytes(damaged)
    first, again = (run(source, tmp_path / "out.cbz", engine) for _ in range(2))
    assert (first.status, first.states["unreadable"], first.lost) == ("incomplete", 1, 1)
    assert again == first.model_copy(update={"skipped": True})


def test_a_full_disk_is_said_and_leaves_nothing(
    tmp_path: Path, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(handle: int) -> None:
        raise OSError(28, os.strerror(28))

    source = write_book(tmp_path / "book.cbz", 1)
    real = run(source, tmp_path / "first.cbz", engine)
    monkeypatch.setattr(os, "fsync", full)
    result = run(source, tmp_path / "second" / "book.cbz", engine)
    assert real.status == "success"
    assert result.error is not None
    assert result.error.code == "disk_full"
    assert list((tmp_path / "second").iterdir()) == []


def test_a_book_that_does_not_read_back_gets_no_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def torn(leaves: object, path: Path) -> dict[str, bytes]:
        path.write_bytes(b"PK torn")
        return {"1.png": b""}

    monkeypatch.setattr(binding, "_write", torn)
    with pytest.raises(Transient, match="does not read back"):
        bind([Leaf("1.png", lambda: b"")], tmp_path / "book.cbz")
    assert list(tmp_path.iterdir()) == []


def test_too_little_room_is_said_before_the_work(tmp_path: Path, engine: Engine) -> None:
    from panelworks.books.backfill import check_free_space

    huge = BookRequest(source="a.cbz", out="b.cbz", source_bytes=10**18)
    with pytest.raises(Misconfigured, match="Free some space"):
        check_free_space([huge], str(tmp_path), engine.settings)


def test_what_waits_is_what_is_not_done(tmp_path: Path, engine: Engine) -> None:
    for number in range(3):
        write_book(tmp_path / "in" / f"{number}.cbz", 1, first_seed=number)
    asked = Backfill(archive=str(tmp_path / "in"), out=str(tmp_path / "out"), options=QUICK)
    requests = requests_of(asked, engine.settings, "run")
    enhance_book_directly(requests[1], engine)
    assert [Path(one.source).name for one in unfinished_requests(requests, engine.settings)] == [
        "0.cbz",
        "2.cbz",
    ]


def test_a_book_in_a_bucket_comes_back_to_the_bucket(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import boto3

    monkeypatch.setenv("PANELWORKS_LEDGER", f"s3://{bucket}/ledger")
    monkeypatch.setenv("PANELWORKS_STORE", f"s3://{bucket}/store")
    get_settings.cache_clear()
    engine = Engine(get_settings())
    engine.tidy()
    client = boto3.client("s3", endpoint_url=engine.settings.s3_endpoint)
    client.upload_file(str(write_book(tmp_path / "a.cbz", 2)), bucket, "in/a.cbz")
    asked = request_of(
        f"s3://{bucket}/in/a.cbz", f"s3://{bucket}/out", QUICK, engine.settings, "run", force=False
    )
    result = enhance_book_directly(asked, engine)
    assert (result.status, result.out) == ("success", f"s3://{bucket}/out/a.cbz")
    client.download_file(bucket, "out/a.cbz", str(tmp_path / "back.cbz"))
    assert names_in(tmp_path / "back.cbz")[:2] == ["page 1.png", "page 2.png"]
    assert enhance_book_directly(asked, engine).skipped
    assert engine.ledger.read()["page"].tolist() == ["page 1.png", "page 2.png"]
    client.put_object(Bucket=bucket, Key="out/b.cbz", Body=b"somebody's own")
    client.upload_file(str(tmp_path / "a.cbz"), bucket, "in/b.cbz")
    asked = request_of(
        f"s3://{bucket}/in/b.cbz", f"s3://{bucket}/out", QUICK, engine.settings, "run", force=False
    )
    refused = enhance_book_directly(asked, engine)
    assert refused.error is not None
    assert refused.error.code == "exists"
    assert client.get_object(Bucket=bucket, Key="out/b.cbz")["Body"].read() == b"somebody's own"


def test_files_of_one_name_are_both_kept(tmp_path: Path, engine: Engine) -> None:
    with pytest.warns(UserWarning, match="Duplicate name"):
        write_zip(tmp_path / "book.cbz", [("1.png", page_file()), ("a.txt", b"first"), ("a.txt", b"second")])
    run(tmp_path / "book.cbz", tmp_path / "out.cbz", engine)
    with zipfile.ZipFile(tmp_path / "out.cbz") as book:
        assert [book.read(name) for name in book.namelist() if name.endswith(".txt")] == [b"first", b"second"]


def test_a_book_done_again_has_its_rows_once(tmp_path: Path, engine: Engine) -> None:
    source = write_zip(tmp_path / "book.cbz", [("readme.txt", b"hi")])
    run(source, tmp_path / "out.cbz", engine)
    assert engine.ledger.read()["error"].tolist() == ["no_pages"]
    write_book(source, 2)
    for _ in range(2):
        run(source, tmp_path / "out.cbz", engine, force=True)
    assert engine.ledger.read()["page"].tolist() == ["page 1.png", "page 2.png"]


def test_the_settings_decide_what_is_done(
    tmp_path: Path, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write_book(tmp_path / "book.cbz", 1)
    run(source, tmp_path / "out.cbz", engine)
    for scale in ("1.5", "auto", "1"):
        monkeypatch.setenv("UPSCALE_SCALE", scale)
        get_settings.cache_clear()
        assert not run(source, tmp_path / "out.cbz", Engine(get_settings())).skipped


def test_a_damaged_page_is_not_called_unimproved(tmp_path: Path, engine: Engine) -> None:
    page = bytearray(page_file(4, 400, 600, "JPEG"))
    page[len(page) // 2 : len(page) // 2 + 400] = bytes(400)
    write_zip(tmp_path / "book.cbz", [("1.jpg", bytes(page)), ("2.png", page_file(2))])
    result = run(tmp_path / "book.cbz", tmp_path / "out.cbz", engine, BookOptions())
    assert result.states["damaged"] == 1
    (note,) = [note for note in result.notes if note.startswith("1.jpg: ")]
    assert note.startswith("1.jpg: the file is damaged: ")
