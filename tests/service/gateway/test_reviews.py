"""Reviews over HTTP: from a page that waits to its decision, with its event and its callback."""

import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from panelworks.page.callbacks import Callbacks
from panelworks.settings import Settings
from panelworks.storage.folder import open_folder
from service.gateway import result_index
from service.gateway.access import hash_of
from tests.books import page_file
from tests.servers import request_api
from tests.service.gateway.conftest import Open

KEYS = tuple(f"{name}:{hash_of(name)}" for name in ("editor", "reader"))
CALLBACK = "https://example.com/done"
DEADLINE_SECONDS = 60


@pytest.fixture(autouse=True)
def fresh_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """The list of results reads the ledger at each request."""
    monkeypatch.setattr(result_index, "REFRESH_SECONDS", 0.0)


class Editor:
    """A client of a gateway with the key of an editor."""

    def __init__(self, client: httpx.Client) -> None:
        self.client = client

    def enhance(self, seed: int = 1, **form: str) -> str:
        """Have a page enhanced that waits for review; returns its job id."""
        files = {"image": (f"page-{seed}.png", page_file(seed))}
        form = {"review": "always", **form}
        headers = {"X-API-Key": "editor"}
        answer = self.client.post("/api/pages", files=files, data=form, headers=headers)
        assert answer.is_success, answer.text
        return str(self.results()[0]["job_id"])

    def results(self, **query: str) -> list[dict[str, Any]]:
        answer = self.client.get("/api/results", headers={"X-API-Key": "editor"}, params=query)
        found: list[dict[str, Any]] = answer.json()["results"]
        return found

    def decide(self, job_id: str, verb: str, key: str = "editor", **body: Any) -> httpx.Response:
        return self.client.post(f"/api/results/{job_id}/{verb}", headers={"X-API-Key": key}, json=body)


@pytest.fixture
def editor(gateway: Open) -> Editor:
    """Prefect is unavailable."""
    return Editor(gateway(api_keys=KEYS, callback_secret="s" * 32))


def wait_until(found: Callable[[], object]) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not found():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_a_page_waits_and_is_published(editor: Editor, tmp_path: Path) -> None:
    job_id = editor.enhance(comic_id="comic-1")
    (row,) = editor.results(review="pending")
    assert (row["job_id"], row["reviewed_by"]) == (job_id, None)
    answer = editor.decide(job_id, "approve", comment="fine")
    assert answer.status_code == 200, answer.text
    review = answer.json()["review"]
    assert (review["state"], review["decided_by"], review["comment"]) == ("approved", "editor", "fine")
    assert editor.results(review="pending") == []
    (row,) = editor.results(review="approved")
    assert (row["reviewed_by"], row["review_comment"], row["route"]) == ("editor", "fine", "upscaled")
    assert len(editor.results()) == 1, "the decision is no result of its own"
    link = answer.json()["page"]["links"][0]["url"]
    picture = editor.client.get(link, headers={"X-API-Key": "editor"})
    assert picture.headers["content-type"].startswith("image/")
    assert not list((tmp_path / "out" / "review").rglob("*.*"))


def test_a_rejected_page_shows_its_original(editor: Editor) -> None:
    job_id = editor.enhance()
    before = editor.results()[0]
    assert editor.decide(job_id, "reject", comment="scales instead of paper").is_success
    (row,) = editor.results(review="rejected")
    assert (row["route"], row["model"]) == ("couldn't_upscale", None)
    assert row["score_after"] == pytest.approx(before["score_before"])


@pytest.mark.parametrize(
    ("verb", "key", "body", "status", "code"),
    [
        ("approve", "reader", {}, 404, "unknown_job"),
        ("reject", "reader", {}, 404, "unknown_job"),
        ("approve", "nobody", {}, 401, "unauthorized"),
        ("approve", "editor", {"comment": "x" * 2001}, 422, "bad_request"),
        ("reject", "editor", {"again": {"scale": 9}}, 422, "bad_request"),
        ("approve", "editor", {"publish_original": True}, 422, "bad_request"),
    ],
)
def test_others_and_wrong_decisions_are_refused(
    verb: str, key: str, body: dict[str, Any], status: int, code: str, editor: Editor
) -> None:
    job_id = editor.enhance()
    answer = editor.decide(job_id, verb, key, **body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
    assert len(editor.results(review="pending")) == 1


def test_the_second_of_two_decisions_is_a_conflict(editor: Editor) -> None:
    job_id = editor.enhance()
    assert editor.decide(job_id, "approve").is_success
    assert editor.decide(job_id, "approve").is_success
    answer = editor.decide(job_id, "reject")
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "already_reviewed")


def test_of_many_decisions_at_once_one_is_carried_out(editor: Editor) -> None:
    job_id = editor.enhance()
    answers: list[httpx.Response] = []

    def decide(verb: str) -> None:
        answers.append(editor.decide(job_id, verb))

    threads = [threading.Thread(target=decide, args=(verb,)) for verb in ("approve", "reject") * 3]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    accepted = {answer.json()["review"]["state"] for answer in answers if answer.is_success}
    assert len(accepted) == 1
    (row,) = editor.results()
    assert {row["review"]} == accepted


def test_a_page_published_without_review_has_nothing_to_decide(editor: Editor) -> None:
    job_id = editor.enhance(review="never")
    answer = editor.decide(job_id, "approve")
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "not_reviewed")


def test_the_same_page_is_not_published_past_its_review(editor: Editor, tmp_path: Path) -> None:
    """A second request for the same work is answered with the page that waits, and with what was decided."""
    job_id = editor.enhance()
    headers = {"X-API-Key": "editor"}
    source = {"file": ("page-1.png", page_file(1))}

    def ask(review: str) -> dict[str, Any]:
        answer = editor.client.post(
            "/api/enhancement/process", files=source, data={"review": review}, headers=headers
        )
        result: dict[str, Any] = answer.json()["result"]
        return result

    waiting = ask("always")
    assert (waiting["job_id"], waiting["review"]["state"]) == (job_id, "pending")
    editor.decide(job_id, "approve")
    assert ask("always")["review"]["state"] == "approved"
    assert len(editor.results()) == 1


def test_the_callback_of_a_decision_waits_for_delivery_while_prefect_is_unavailable(
    editor: Editor, settings: Settings
) -> None:
    job_id = editor.enhance(callback=CALLBACK)
    editor.decide(job_id, "approve")
    callbacks = Callbacks(open_folder(settings.store_location, settings))

    def states() -> list[str]:
        found = [callbacks.find(identity) for identity in callbacks.pending()]
        results = [one.result for one in found if one is not None and one.result is not None]
        return [result.review.state for result in results if result.review is not None]

    wait_until(lambda: "approved" in states())


def stored_events(job_id: str) -> list[dict[str, Any]]:
    """The events of a job that Prefect has stored."""
    wanted = {"filter": {"resource": {"id": [f"comic.job.{job_id}"]}}, "limit": 50}
    found: list[dict[str, Any]] = request_api("POST", "/events/filter", wanted)["events"]
    return found


def test_the_event_of_a_decision_reaches_prefect(gateway_with_prefect: Open) -> None:
    editor = Editor(gateway_with_prefect(api_keys=KEYS))
    approved = editor.enhance(1, panel_id="p7")
    rejected = editor.enhance(2)
    assert editor.decide(approved, "approve", comment="fine").is_success
    assert editor.decide(rejected, "reject").is_success
    for job_id, name in ((approved, "comic.panel.approved"), (rejected, "comic.panel.rejected")):
        wait_until(partial(stored_events, job_id))
        (event,) = stored_events(job_id)
        assert event["event"] == name
        assert event["payload"]["result"]["review"]["decided_by"] == "editor"


def test_a_rejected_page_is_processed_again(gateway_with_prefect: Open) -> None:
    editor = Editor(gateway_with_prefect(api_keys=KEYS))
    job_id = editor.enhance(3, comic_id="comic-1")
    answer = editor.decide(job_id, "reject", comment="too soft", again={"model": "lanczos", "scale": 2})
    assert answer.status_code == 200, answer.text
    again = answer.json()["next"]
    assert again["status"] == "queued"
    assert answer.json()["review"]["next_job_id"] == again["job_id"]
    (row,) = editor.results(review="rejected")
    assert row["route"] == "upscaled", "nothing replaces it yet"
