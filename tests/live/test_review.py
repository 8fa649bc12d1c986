"""From a page that waits for a person to its approval: objects in S3, the ledger, the artifact, events and callbacks."""

import json
from pathlib import Path
from typing import Any

import httpx

from panelworks.page.callbacks import SIGNATURE, verify
from tests.books import write_book
from tests.live.stack import CALLBACK_SECRET, Stack
from tests.live.test_live import page
from tests.servers import QuietHandler, serving, until


def events_of(stack: Stack, job_id: str, name: str) -> list[dict[str, Any]]:
    wanted = {"filter": {"resource": {"id": [f"comic.job.{job_id}"]}, "event": {"name": [name]}}, "limit": 50}
    found: list[dict[str, Any]] = stack.ask("POST", "/events/filter", wanted)["events"]
    return found


def page_artifact(stack: Stack, run_id: str) -> str:
    wanted = {"artifacts": {"flow_run_id": {"any_": [run_id]}, "key": {"any_": ["page"]}}}
    (artifact,) = stack.ask("POST", "/artifacts/filter", wanted)
    return str(artifact["data"])


def test_a_generated_panel_is_approved_and_published(stack: Stack) -> None:
    source = stack.put("incoming/reviewed.png", page(71))
    answer = httpx.post(
        f"{stack.gateway}/api/generation/events",
        json={"source": source, "panel_id": "p71", "comic_id": "c7", "options": {"review": "always"}},
    )
    job_id = answer.json()["job_id"]
    result = stack.end(job_id)["result"]
    assert result["review"]["state"] == "pending"
    key = result["content_key"]
    assert {name.split("/")[0] for name in stack.keys(key[:12])} == {"review"}
    run_id = httpx.get(f"{stack.gateway}/api/enhancement/status/{job_id}").json()["flow_run_id"]
    until(lambda: f"{stack.gateway}/pages/{job_id}" in page_artifact(stack, run_id))

    decided = httpx.post(
        f"{stack.gateway}/api/results/{job_id}/approve", json={"comment": "fine"}, timeout=60
    ).json()
    published = decided["page"]["result"]
    assert published["review"]["state"] == "approved"
    for picture in (published["master"], *published["variants"]):
        assert "/review/" not in picture["uri"]
        assert len(stack.get(picture["uri"])) == picture["bytes"]
    assert not [name for name in stack.keys(key[:12]) if name.startswith("review/")]
    rows = stack.rows()
    rows = rows[rows["job_id"] == job_id]
    assert rows["review"].tolist() == ["pending", "approved"]
    assert rows["review_comment"].tolist()[-1] == "fine"
    until(lambda: bool(events_of(stack, job_id, "comic.panel.approved")))
    (event,) = events_of(stack, job_id, "comic.panel.approved")
    assert (event["payload"]["panel_id"], event["payload"]["comic_id"]) == ("p71", "c7")
    assert (len(events_of(stack, job_id, "comic.panel.enhanced"))) == 1


def test_the_client_is_called_back_with_the_decision(on_postgres: Stack) -> None:
    received: list[tuple[dict[str, Any], bool]] = []

    class Receiver(QuietHandler):
        def do_POST(self) -> None:  # noqa: N802 - the name of the base class
            body = self.rfile.read(int(self.headers["Content-Length"]))
            valid = verify(
                body, CALLBACK_SECRET, self.headers[SIGNATURE], now=float(self.headers[SIGNATURE][2:12])
            )
            received.append((json.loads(body), valid))
            self.send_response(204)
            self.end_headers()

    with serving(Receiver) as receiver:
        fields = {"review": "always", "callback": f"{receiver}/done", "metadata": '{"shelf": 3}'}
        answer = on_postgres.post(page(72), "waits.png", wait="150", **fields)
        job_id = answer.json()["job_id"]
        until(lambda: len(received) == 1)
        rejected = httpx.post(
            f"{on_postgres.gateway}/api/results/{job_id}/reject", json={"comment": "too soft"}, timeout=60
        )
        assert rejected.is_success, rejected.text
        until(lambda: len(received) == 2)
    assert [body["event"] for body, _ in received] == ["comic.panel.enhanced", "comic.panel.rejected"]
    assert all(valid for _, valid in received)
    first, second = (body["result"] for body, _ in received)
    assert first["review"]["state"] == "pending"
    assert (second["review"]["state"], second["review"]["comment"]) == ("rejected", "too soft")
    assert second["route"] == "couldn't_upscale"
    assert received[1][0]["metadata"] == {"shelf": 3}


def test_a_book_of_a_bucket_waits_is_seen_and_approved(stack: Stack, tmp_path: Path) -> None:
    book = write_book(tmp_path / "Vol 1.cbz", 2, first_seed=300)
    source = stack.put("shelf/Series/Vol 1.cbz", book.read_bytes())
    archive, out = source.removesuffix("/Series/Vol 1.cbz"), f"s3://{stack.bucket}/finished"
    with httpx.Client(base_url=stack.gateway, timeout=60) as client:
        body = {"archive": archive, "out": out, "options": {"page": {"model": "lanczos", "review": "always"}}}
        started = client.post("/api/backfills", json=body).json()

        def status() -> str:
            return str(client.get(f"/api/backfills/{started['backfill_id']}").json()["status"])

        until(lambda: status() not in ("queued", "running"), timeout_seconds=240)
        assert status() == "done"
        assert "Vol 1.cbz" in client.get(f"/api/backfills/{started['backfill_id']}/report").text
        (waiting,) = client.get("/api/books", params={"state": "review"}).json()["books"]
        assert (waiting["source"], waiting["pages"]) == (source, 2)
        address = f"/api/books/{waiting['book_id']}"
        for layer in ("source", "master"):
            assert client.get(f"{address}/pages/1/tiles/{layer}/0/0/0").is_success
        until(lambda: f"{stack.gateway}/books/{waiting['book_id']}" in book_artifacts(stack))
        (name,) = stack.keys("Vol 1-")
        assert name.startswith("finished/Series/review/Vol 1-")
        approved = client.post(f"{address}/approve", json={"comment": "fine"})
        assert approved.is_success, approved.text
    assert stack.keys("Vol 1-") == []
    assert stack.get(f"{out}/Series/Vol 1.cbz")
    wanted = {"filter": {"event": {"name": ["comic.book.approved"]}}, "limit": 50}
    until(lambda: bool(stack.ask("POST", "/events/filter", wanted)["events"]))
    (event,) = stack.ask("POST", "/events/filter", wanted)["events"]
    assert event["payload"]["result"]["review"]["comment"] == "fine"


def book_artifacts(stack: Stack) -> str:
    """The texts of the artifacts of all books."""
    wanted = {"artifacts": {"key": {"any_": ["book"]}}}
    return "\n".join(str(one["data"]) for one in stack.ask("POST", "/artifacts/filter", wanted))
