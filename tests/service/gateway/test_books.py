"""Books over HTTP: the library, pages with their pictures, decisions, and backfills."""

import io
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from panelworks.books.backfill import request_of
from panelworks.books.direct import enhance_book_directly
from panelworks.domain.books import BookOptions, BookResult, book_id
from panelworks.domain.options import EnhanceOptions
from panelworks.page.engine import Engine
from panelworks.settings import ReviewPolicy, Settings
from service.gateway import result_index
from service.gateway.access import hash_of
from tests.books import page_file, write_book, write_zip
from tests.servers import request_api
from tests.service.gateway.conftest import Open

KEYS = (f"archivist:{hash_of('archivist')}:admin", f"tool:{hash_of('tool')}")
DEADLINE_SECONDS = 60


@pytest.fixture(autouse=True)
def fresh_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(result_index, "REFRESH_SECONDS", 0.0)


def process(
    source: Path, out: Path, settings: Settings, review: ReviewPolicy = "never", run_id: str = "run"
) -> tuple[str, BookResult]:
    """Process a book; returns its id and its result."""
    page = EnhanceOptions(model="lanczos", review=review)
    request = request_of(str(source), str(out), BookOptions(page=page), settings, run_id, force=False)
    result = enhance_book_directly(request, Engine(settings))
    return book_id(str(out)), result


@pytest.fixture
def library(tmp_path: Path) -> Path:
    folder = tmp_path / "library"
    for name in ("A/one.cbz", "A/two.cbz", "three.cbz"):
        write_book(folder / name, 2)
    return folder


def wait_for(found: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not (value := found()):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return value


def test_the_library_lists_books_by_what_a_person_has_to_do(
    gateway: Open, settings: Settings, library: Path, tmp_path: Path
) -> None:
    done = tmp_path / "done"
    process(library / "A/one.cbz", done / "A/one.cbz", settings)
    waiting, _ = process(library / "three.cbz", done / "three.cbz", settings, "always")
    broken = tmp_path / "broken.cbz"
    broken.write_bytes(b"no archive")
    process(broken, done / "broken.cbz", settings)
    client = gateway(library=str(library), library_out=str(done))
    found = wait_for(lambda: (answer := client.get("/api/books").json())["complete"] and answer)
    assert [(Path(book["source"]).name, book["state"]) for book in found["books"]] == [
        ("three.cbz", "review"), ("broken.cbz", "failed"), ("two.cbz", "new"), ("one.cbz", "done"),
    ]  # fmt: skip
    assert found["states"] == {"review": 1, "failed": 1, "new": 1, "done": 1}
    assert found["books"][0]["book_id"] == waiting
    assert found["books"][1]["message"]
    book = found["books"][3]
    assert (book["pages"], book["failed"], book["doubtful"]) == (2, 0, 0)
    assert book["score_after"] > book["score_before"]
    assert book["bytes"] > 0
    assert [one["source"] for one in client.get("/api/books?text=a/ONE").json()["books"]] == [book["source"]]
    assert [one["state"] for one in client.get("/api/books?state=new").json()["books"]] == ["new"]


def test_a_library_that_cannot_be_listed_is_a_problem_and_no_error(gateway: Open, tmp_path: Path) -> None:
    client = gateway(library=str(tmp_path / "unmounted"))
    found = wait_for(lambda: (answer := client.get("/api/books").json())["problem"] and answer)
    assert found["books"] == []
    assert "unmounted" in found["problem"]


def test_doubtful_pages_are_first_and_have_pictures(
    gateway: Open, settings: Settings, tmp_path: Path
) -> None:
    entries = [("1.png", page_file(1)), ("2.png", page_file(2)[:900]), ("3.png", page_file(3))]
    book, _ = process(write_zip(tmp_path / "b.cbz", entries), tmp_path / "out" / "b.cbz", settings)
    client = gateway()
    found = client.get(f"/api/books/{book}").json()
    assert [(page["number"], page["is_doubtful"]) for page in found["pages"]] == [
        (1, True), (0, False), (2, False),
    ]  # fmt: skip
    assert any(note.startswith("2.png") for note in found["notes"])
    page = client.get(f"/api/books/{book}/pages/0").json()
    assert (page["page"]["state"], page["page"]["steps"][0]["model"]) == ("enhanced", "lanczos")
    assert (page["width"], page["height"]) == (192, 256)
    for path in ("thumbnail", "tiles/master/0/0/0", "tiles/source/0/0/0"):
        picture = client.get(f"/api/books/{book}/pages/0/{path}")
        assert picture.status_code == 200, picture.text
        assert Image.open(io.BytesIO(picture.content)).size == (192, 256)
    kept = client.get(f"/api/books/{book}/pages/1/file")
    assert kept.content == page_file(2)[:900], "a page that failed is downloaded as it was"
    assert kept.headers["content-disposition"].startswith("attachment")
    source, master = (
        client.get(f"/api/books/{book}/pages/0/tiles/{layer}/0/0/0").content for layer in ("source", "master")
    )
    assert source != master


def test_what_a_book_does_not_have_is_not_found(gateway: Open, settings: Settings, tmp_path: Path) -> None:
    entries = [("1.png", page_file(1)), ("2.png", b"no picture")]
    book, _ = process(write_zip(tmp_path / "b.cbz", entries), tmp_path / "out" / "b.cbz", settings)
    client = gateway()
    for path, status in (
        ("/pages/9", 404),
        ("/pages/9/thumbnail", 404),
        ("/pages/1/thumbnail", 415),
        ("/pages/0/tiles/master/0/1/0", 404),
        ("/pages/0/tiles/master/1/0/0", 404),
    ):
        answer = client.get(f"/api/books/{book}{path}")
        assert answer.status_code == status, (path, answer.text)
        assert answer.json()["error"]["message"]


def test_a_book_that_somebody_replaced_or_removed_has_no_pictures(
    gateway: Open, settings: Settings, tmp_path: Path
) -> None:
    book, result = process(write_book(tmp_path / "b.cbz", 1), tmp_path / "out" / "b.cbz", settings)
    client = gateway()
    write_zip(Path(result.out), [("other.png", page_file(1))])
    assert client.get(f"/api/books/{book}/pages/0/thumbnail").status_code == 404
    Path(result.out).unlink()
    assert client.get(f"/api/books/{book}/pages/0/tiles/master/0/0/0").status_code == 404
    assert client.get(f"/api/books/{book}").json()["has_pictures"] is False


def test_a_book_is_approved_and_the_decision_is_final(
    gateway: Open, settings: Settings, tmp_path: Path
) -> None:
    book, result = process(write_book(tmp_path / "b.cbz", 1), tmp_path / "out" / "b.cbz", settings, "always")
    client = gateway()
    assert client.get(f"/api/books/{book}/pages/0/thumbnail").status_code == 200
    assert client.get("/api/results?review=pending").json()["total"] == 0, "books are reviewed as a whole"
    answer = client.post(f"/api/books/{book}/approve", json={"comment": "fine"})
    assert answer.status_code == 200, answer.text
    assert answer.json()["review"]["comment"] == "fine"
    assert Path(result.out).exists()
    assert client.get("/api/books").json()["states"] == {"done": 1}
    assert client.post(f"/api/books/{book}/reject", json={}).status_code == 409
    assert client.get(f"/api/books/{book}").json()["book"]["reviewed_by"]


def test_books_are_for_admin_keys(gateway: Open, settings: Settings, tmp_path: Path) -> None:
    book, _ = process(write_book(tmp_path / "b.cbz", 1), tmp_path / "out" / "b.cbz", settings, "always")
    client = gateway(api_keys=KEYS)
    for method, path in (
        ("GET", "/api/books"),
        ("GET", f"/api/books/{book}"),
        ("GET", f"/api/books/{book}/pages/0"),
        ("GET", f"/api/books/{book}/pages/0/thumbnail"),
        ("GET", f"/api/books/{book}/pages/0/tiles/master/0/0/0"),
        ("POST", f"/api/books/{book}/approve"),
        ("POST", f"/api/books/{book}/reject"),
        ("GET", "/api/backfills"),
        ("POST", "/api/backfills"),
        ("POST", "/api/backfills/estimate"),
        ("GET", "/api/backfills/x"),
        ("GET", "/api/backfills/x/report"),
        ("POST", "/api/backfills/x/cancel"),
    ):
        body: dict[str, Any] | None = {} if method == "POST" else None
        for key, status in (("tool", 403), ("nobody", 401)):
            answer = client.request(method, path, headers={"X-API-Key": key}, json=body)
            assert answer.status_code == status, (method, path, answer.text)
    allowed = client.get(f"/api/books/{book}", headers={"X-API-Key": "archivist"})
    assert allowed.status_code == 200


REFUSED: tuple[tuple[dict[str, Any], int, str], ...] = (
    ({}, 422, "no_library"),
    ({"archive": "/etc"}, 403, "forbidden_path"),
    ({"archive": "s3://elsewhere/books"}, 403, "forbidden_bucket"),
    ({"archive": "{roots}", "out": "/etc"}, 403, "forbidden_out"),
    ({"archive": "{roots}", "out": "{roots}/../out/books/../../x"}, 403, "forbidden_out"),
    ({"archive": "{roots}", "until": "25:00"}, 422, "bad_request"),
    ({"archive": "{roots}", "budget": -1}, 422, "bad_request"),
    ({"archive": "{roots}", "options": {"page": {"model": "/etc/passwd"}}}, 403, "forbidden_model"),
)


def test_a_backfill_names_only_what_the_operator_configured(gateway: Open, tmp_path: Path) -> None:
    (tmp_path / "roots").mkdir()
    client = gateway(source_roots=[str(tmp_path / "roots")])
    for body, status, code in REFUSED:
        given = {
            name: value.format(roots=tmp_path / "roots") if isinstance(value, str) else value
            for name, value in body.items()
        }
        for path in ("/api/backfills", "/api/backfills/estimate"):
            answer = client.post(path, json=given)
            assert (answer.status_code, answer.json()["error"]["code"]) == (status, code), answer.text


def test_an_estimate_counts_books_and_pages(
    gateway: Open, settings: Settings, library: Path, tmp_path: Path
) -> None:
    done = tmp_path / "done"
    client = gateway(library=str(library), library_out=str(done))
    found = client.post("/api/backfills/estimate", json={"options": {"page": {"model": "lanczos"}}}).json()
    assert (found["books"], found["done"], found["pages"], found["seconds"]) == (3, 0, 6, None)
    process(library / "three.cbz", done / "three.cbz", settings)
    found = client.post("/api/backfills/estimate", json={"options": {"page": {"model": "lanczos"}}}).json()
    assert (found["books"], found["done"], found["pages"], found["replaced"]) == (2, 1, 4, 0)
    assert found["seconds"] > 0
    found = client.post("/api/backfills/estimate", json={"options": {"height": 300}}).json()
    assert (found["books"], found["done"], found["replaced"]) == (3, 0, 1)


def test_a_backfill_is_started_listed_and_cancelled(
    gateway_with_prefect: Open, deployed_books: None, library: Path, settings: Settings, tmp_path: Path
) -> None:
    client = gateway_with_prefect(library=str(library), library_out=str(tmp_path / "done"))
    options = {"page": {"model": "lanczos", "review": "doubtful"}, "height": 1200}
    answer = client.post("/api/backfills", json={"options": options, "until": "06:00", "budget": 5})
    assert answer.status_code == 202, answer.text
    started = answer.json()
    assert (started["status"], started["archive"]) == ("queued", str(library))
    run = request_api("GET", f"/flow_runs/{started['backfill_id']}")
    assert run["parameters"]["options"] == options
    assert (run["parameters"]["until"], run["parameters"]["budget"]) == ("06:00", 5)
    listed = client.get("/api/backfills").json()["backfills"]
    assert listed[0]["backfill_id"] == started["backfill_id"], "the newest is first"
    assert client.get(f"/api/backfills/{started['backfill_id']}/report").status_code == 404
    cancelled = client.post(f"/api/backfills/{started['backfill_id']}/cancel").json()
    assert cancelled["status"] == "cancelled"
    process(library / "three.cbz", tmp_path / "done/three.cbz", settings, run_id=started["backfill_id"])
    report = client.get(f"/api/backfills/{started['backfill_id']}/report")
    assert (report.status_code, "three.cbz" in report.text) == (200, True), "of what was recorded so far"
    missing = client.post("/api/backfills", json={"archive": str(library / "nothing")})
    assert (missing.status_code, missing.json()["error"]["code"]) == (404, "not_found")
    for unknown in ("x", "00000000-0000-0000-0000-000000000000"):
        assert client.get(f"/api/backfills/{unknown}").status_code == 404


def test_a_run_of_a_book_shows_it_as_waiting(
    gateway_with_prefect: Open, deployed_books: None, library: Path, tmp_path: Path
) -> None:
    done = tmp_path / "done"
    deployment = request_api("GET", "/deployments/name/enhance-book/enhance-book")["id"]
    parameters = {"source": str(library / "three.cbz"), "out": str(done / "three.cbz")}
    request_api("POST", f"/deployments/{deployment}/create_flow_run", {"parameters": parameters})
    client = gateway_with_prefect(library=str(library), library_out=str(done))
    found = wait_for(lambda: (answer := client.get("/api/books").json())["complete"] and answer)
    assert found["states"] == {"waiting": 1, "new": 2}
    assert found["books"][0]["run_id"]


def test_without_prefect_the_library_is_shown_and_no_backfill_starts(gateway: Open, library: Path) -> None:
    client = gateway(library=str(library))
    assert wait_for(lambda: client.get("/api/books").json()["states"]) == {"new": 3}
    answer = client.post("/api/backfills", json={})
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "prefect_away")
