"""Batches on a running gateway: forms, archives, manifests, progress, cancellation, owners, restarts."""

import io
import json
import stat
import zipfile
from pathlib import Path
from typing import Any

import httpx
import pytest

from panelworks.page.engine import Engine
from panelworks.settings import Settings
from service.gateway import batch_runs
from service.gateway.access import hash_of
from tests.books import page_file
from tests.servers import request_api, until
from tests.service.gateway.conftest import Open, serving
from tests.service.gateway.test_outbox import runs_of

POST = "/api/images/upload/batch"
Files = list[tuple[str, tuple[str, bytes]]]


def zipped(members: dict[str, bytes | str], *, compression: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def post(client: httpx.Client, files: Files, **fields: str) -> httpx.Response:
    return client.post(POST, files=files, data=fields)


def accepted(client: httpx.Client, files: Files, **fields: str) -> dict[str, Any]:
    answer = post(client, files, **fields)
    assert answer.status_code == 202, answer.text
    assert answer.headers["location"] == answer.json()["status_url"]
    body: dict[str, Any] = answer.json()
    return body


def read(
    client: httpx.Client, batch_id: str, query: str = "rows=all&limit=200", **headers: str
) -> dict[str, Any]:
    answer = client.get(f"/api/batches/{batch_id}?{query}", headers=headers)
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


def compute(client: httpx.Client, *seeds: int) -> None:
    """Have the results of pages in the cache: there is no worker here."""
    for seed in seeds:
        assert client.post("/api/pages", files={"image": ("p.png", page_file(seed))}).is_success


def wait_for_end(client: httpx.Client, batch_id: str, status: str = "done") -> dict[str, Any]:
    until(lambda: read(client, batch_id)["batch"]["status"] == status)
    return read(client, batch_id)


def test_an_archive_a_picture_and_bad_files_are_one_batch(gateway_with_prefect: Open) -> None:
    client = gateway_with_prefect()
    compute(client, 301, 302)
    archive = zipped({
        "book/10.png": page_file(302), "book/2.png": page_file(301), "book/bad.png": b"text", "book/notes.txt": b"x",
        "__MACOSX/2.png": b"x", "../../etc/evil.png": page_file(301), "inner.zip": zipped({"a.png": b"x"}),
    })  # fmt: skip
    files: Files = [("files", ("single.png", page_file(301))), ("files", ("pages.zip", archive))]
    body = accepted(client, files, batch_id="mixed", scale="2", metadata='{"issue": 7}')
    assert body["batch"]["batch_id"] == "mixed"
    found = wait_for_end(client, "mixed")
    rows = {row["name"]: row["error"]["code"] if row["error"] else row["status"] for row in found["rows"]}
    assert rows == {
        "single.png": "done", "../../etc/evil.png": "unsafe_name", "book/2.png": "done", "book/10.png": "done",
        "book/bad.png": "unsupported_format",
    }  # fmt: skip
    assert [row["name"] for row in found["rows"] if row["status"] == "done"] == [
        "single.png", "book/2.png", "book/10.png",
    ]  # fmt: skip
    summary = found["batch"]
    assert summary["counts"] == {
        "total": 5, "waiting": 0, "running": 0, "done": 3, "failed": 0, "refused": 2, "cancelled": 0,
    }  # fmt: skip
    assert (summary["percent"], summary["cached"], summary["routes"]) == (100, 3, {"upscaled": 3})
    assert "inner.zip" in summary["notes"][0] and "notes.txt" in summary["notes"][0]
    problems = read(client, "mixed", "rows=problems&limit=1&offset=1")["rows"]
    assert [row["name"] for row in problems] == ["book/bad.png"]
    for row in found["rows"]:
        if row["job_id"]:
            job = client.get(f"/api/enhancement/status/{row['job_id']}").json()
            assert (job["status"], job["result"]["route"]) == ("done", "upscaled")


def test_an_ended_batch_emits_one_event(gateway_with_prefect: Open) -> None:
    client = gateway_with_prefect()
    compute(client, 303)
    accepted(client, [("files", ("p.zip", zipped({"a.png": page_file(303)})))], batch_id="evented")
    query = {
        "filter": {"event": {"name": ["comic.batch.ended"]}, "resource": {"id": ["comic.batch.evented"]}}
    }
    until(lambda: len(request_api("POST", "/events/filter", query)["events"]) == 1)
    (event,) = request_api("POST", "/events/filter", query)["events"]
    assert event["payload"]["batch"]["counts"]["done"] == 1
    again = accepted(client, [("files", ("p.zip", zipped({"a.png": page_file(303)})))], batch_id="evented")
    assert again["batch"]["status"] == "done", "posted again, it is the same batch"


def test_a_manifest_names_files_and_addresses(gateway_with_prefect: Open, tmp_path: Path) -> None:
    client = gateway_with_prefect(source_roots=str(tmp_path), s3_bucket="comics", rate_limit="10000/minute")
    compute(client, 304, 305)
    (tmp_path / "local.png").write_bytes(page_file(305))
    lines = [
        {"source": "pages/a.png", "job_id": "own-id"},
        {"source": "./pages\\b.png", "options": {"scale": 3}},
        {"source": str(tmp_path / "local.png")},
        {"source": "/etc/passwd"},
        {"source": "s3://other/x.png"},
        {"source": "missing.png"},
        {"source": "b.png", "job_id": "own-id"},
        {"source": "single.png", "options": {"preset": "nothing"}},
        {"source": "single.png", "options": {"model": "/weights.pth"}},
        {"source": "data:image/png;base64,AAAA"},
        {"source": "stored:" + "0" * 64 + ".png/x.png"},
        {"source": "ftp://example.com/x.png"},
    ]
    manifest = "\r\n".join(json.dumps(line) for line in lines).encode("utf-8-sig")
    archive = zipped({"pages/a.png": page_file(304), "pages/b.png": page_file(304), "pages/c.png": b"unused"})
    files: Files = [
        ("files", ("pages.zip", archive)), ("files", ("single.png", page_file(304))), ("manifest", ("m.jsonl", manifest)),
    ]  # fmt: skip
    batch_id = accepted(client, files)["batch"]["batch_id"]
    until(lambda: read(client, batch_id)["batch"]["counts"]["done"] == 2)
    until(lambda: {row["row"]: row["error"] for row in read(client, batch_id)["rows"]}[11] is not None)
    rows = {row["row"]: row for row in read(client, batch_id)["rows"]}
    assert {number: row["error"] and row["error"]["code"] for number, row in rows.items() if number > 2} == {
        3: None, 4: "forbidden_path", 5: "forbidden_bucket", 6: "not_found", 7: "repeated_job_id",
        8: "unknown_preset", 9: "forbidden_model", 10: "unsupported_format", 11: "not_found",
        12: "not_found",
    }  # fmt: skip
    assert (rows[1]["status"], rows[1]["job_id"], rows[3]["status"]) == ("done", "own-id", "done")
    assert rows[2]["status"] == "running", "another scale is not in the cache: the job waits for a worker"
    assert read(client, batch_id)["batch"]["notes"] == ["1 file is named by no row."]
    until(lambda: len(runs_of(rows[2]["job_id"])) == 1)
    (run,) = runs_of(rows[2]["job_id"])
    assert (run.parameters["options"]["scale"], run.work_queue_name) == (3, "backfill")


def test_a_manifest_in_an_archive_is_used(gateway: Open) -> None:
    client = gateway()
    compute(client, 306)
    archive = zipped({"x/manifest.csv": "source;job_id\na.png;from-archive\n", "x/a.png": page_file(306)})
    batch_id = accepted(client, [("files", ("p.zip", archive))])["batch"]["batch_id"]
    (row,) = wait_for_end(client, batch_id)["rows"]
    assert (row["row"], row["job_id"], row["status"]) == (2, "from-archive", "done")


def test_pictures_alone_are_answered_as_before(gateway: Open) -> None:
    client = gateway()
    compute(client, 307)
    answer = post(client, [("files", ("a.png", page_file(307)))])
    assert (answer.status_code, set(answer.json())) == (200, {"success", "message", "results"})
    assert client.get("/api/batches").json()["batches"] == []
    accepted(client, [("files", ("a.png", page_file(307)))], batch_id="with-id")
    assert [one["batch_id"] for one in client.get("/api/batches").json()["batches"]] == ["with-id"]


@pytest.mark.parametrize(
    ("files", "fields", "status", "code"),
    [
        ([("manifest", ("m.csv", b"source,sorce\na,b"))], {}, 422, "bad_manifest"),
        ([("manifest", ("m.csv", b"source\n" + b"a\n" * 4))], {}, 422, "too_many_rows"),
        ([("files", ("a.zip", zipped({f"{n}.png": b"x" for n in range(4)})))], {}, 422, "too_many_rows"),
        ([("files", ("a.zip", zipped({f"{n}.png": b"x" for n in range(40)})))], {}, 422, "too_many_entries"),
        ([("files", ("a.zip", b"PK\x03\x04 damaged"))], {}, 422, "damaged"),
        ([("files", ("a.zip", zipped({"a.txt": b"x"})))], {}, 422, "bad_request"),
        ([("files", ("a.zip", zipped({})))], {}, 422, "bad_request"),
        ([("other", ("a.zip", zipped({"a.png": b"x"})))], {}, 422, "bad_request"),
        ([("files", ("a.png", b"x"))], {"batch_id": ".."}, 422, "bad_request"),
        ([("files", ("a.png", b"x"))], {"batch_id": "a/b"}, 422, "bad_request"),
        ([("files", ("a.png", b"x"))], {"batch_id": "x", "scale": "9"}, 422, "bad_request"),
        ([("files", ("a.png", b"x"))], {"batch_id": "x", "out": "/etc"}, 403, "forbidden_out"),
        ([("files", ("a.png", b"x"))], {"batch_id": "x", "callback": "https://e.com/x"}, 422, "callbacks_off"),
        ([("files", ("m.csv", b"source\na")), ("manifest", ("n.csv", b"source\na"))], {}, 422, "bad_request"),
    ],
)  # fmt: skip
def test_batches_that_are_refused_as_a_whole(
    gateway: Open, files: Files, fields: dict[str, str], status: int, code: str
) -> None:
    client = gateway(max_batch_rows=3, max_archive_entries=30)
    answer = post(client, files, **fields)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
    assert client.get("/api/batches").json()["batches"] == []


def test_hostile_members_are_refused_alone(gateway: Open) -> None:
    client = gateway(max_source_bytes=20 << 20)
    compute(client, 308)
    link = zipfile.ZipInfo("link.png")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(link, "/etc/passwd")
        archive.writestr("bomb.png", b"\0" * (18 << 20))
        archive.writestr("large.png", b"\0" * (21 << 20))
        archive.writestr("C:\\windows\\ok.png", page_file(308))
        archive.writestr("名前 \U0001f600.png", page_file(308))
        archive.writestr("a\u202egnp.png", page_file(308))
    batch_id = accepted(client, [("files", ("x.zip", buffer.getvalue()))])["batch"]["batch_id"]
    rows = wait_for_end(client, batch_id)["rows"]
    assert sorted(row["error"]["code"] for row in rows if row["error"]) == ["bomb", "bomb", "symlink"]
    assert sum(row["status"] == "done" for row in rows) == 3


def test_a_cancelled_batch_cancels_its_jobs_and_keeps_what_is_done(gateway_with_prefect: Open) -> None:
    client, other = gateway_with_prefect(), gateway_with_prefect()
    compute(client, 309)
    archive = zipped({"1.png": page_file(309), "2.png": page_file(310), "3.png": page_file(311)})
    accepted(client, [("files", ("p.zip", archive))], batch_id="stopped")
    until(lambda: read(client, "stopped")["batch"]["counts"]["running"] == 2)
    until(lambda: read(other, "stopped")["batch"]["counts"]["done"] == 1)
    ids = [row["job_id"] for row in read(client, "stopped")["rows"]]
    until(lambda: len(runs_of(ids[1])) == 1)
    answer = other.post("/api/batches/stopped/cancel")
    assert (answer.status_code, answer.json()["batch"]["status"]) == (202, "cancelling")
    found = wait_for_end(client, "stopped", "cancelled")
    assert [row["status"] for row in found["rows"]] == ["done", "cancelled", "cancelled"]
    assert [run.state_name for job_id in ids[1:] for run in runs_of(job_id)] == ["Cancelled"] * 2
    until(lambda: read(other, "stopped")["batch"]["status"] == "cancelled")
    again = client.post("/api/batches/stopped/cancel")
    assert (again.status_code, again.json()["error"]["code"]) == (409, "batch_ended")


def test_a_job_that_ends_otherwise_ends_its_row(gateway_with_prefect: Open) -> None:
    client = gateway_with_prefect()
    archive = zipped({"1.png": page_file(312), "2.png": page_file(313)})
    accepted(client, [("files", ("p.zip", archive))], batch_id="ends")
    until(lambda: read(client, "ends")["batch"]["counts"]["running"] == 2)
    first, second = (row["job_id"] for row in read(client, "ends")["rows"])
    until(lambda: bool(runs_of(first) and runs_of(second)))
    assert client.delete(f"/api/enhancement/{first}").status_code == 202
    (run,) = runs_of(second)
    state = {"state": {"type": "FAILED", "message": "broken"}, "force": True}
    request_api("POST", f"/flow_runs/{run.id}/set_state", state)
    found = wait_for_end(client, "ends")
    assert [row["status"] for row in found["rows"]] == ["cancelled", "failed"]
    assert found["rows"][1]["error"]["code"] == "failed"


def test_a_restarted_gateway_continues(
    settings: Settings, tmp_path: Path, deployed: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The gateway ends while rows wait; the next one starts them, and each has one run."""
    monkeypatch.setattr(batch_runs, "MAX_RUNNING_ROWS", 1)
    monkeypatch.setattr(batch_runs, "_STARTED_TOGETHER", 1)
    chosen = Settings.model_validate({**settings.model_dump(), "out": str(tmp_path / "out")})
    archive = zipped({f"{seed}.png": page_file(seed) for seed in (314, 315)})
    with serving(chosen) as address, httpx.Client(base_url=address, timeout=60) as client:
        accepted(client, [("files", ("p.zip", archive))], batch_id="survives")
        until(lambda: read(client, "survives")["batch"]["counts"]["running"] == 1)
        ids = [row["job_id"] for row in read(client, "survives")["rows"]]
        until(lambda: len(runs_of(ids[0])) == 1)
    monkeypatch.setattr(batch_runs, "ORPHAN_SECONDS", 0.0)
    monkeypatch.setattr(batch_runs, "MAX_RUNNING_ROWS", 2)
    with serving(chosen) as address, httpx.Client(base_url=address, timeout=60) as client:
        until(lambda: len(runs_of(ids[1])) == 1)
        assert [row["job_id"] for row in read(client, "survives")["rows"]] == ids
        assert client.post("/api/batches/survives/cancel").status_code == 202
        wait_for_end(client, "survives", "cancelled")
    assert [len(runs_of(job_id)) for job_id in ids] == [1, 1]


def test_an_end_that_was_not_reported_is_reported_after_a_restart(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gateway: Open
) -> None:
    """The callback is recorded once, although Prefect, which the event needs, is unavailable here."""
    monkeypatch.setattr(batch_runs, "ORPHAN_SECONDS", 0.0)
    client = gateway(callback_secret="s" * 32)
    compute(client, 316)
    files: Files = [("files", ("a.png", page_file(316)))]
    accepted(client, files, batch_id="called", callback="https://example.com/done")
    wait_for_end(client, "called")
    engine = Engine(settings)
    until(lambda: len(list(engine.callbacks.pending())) == 1)
    gateway(callback_secret="s" * 32)
    (batch,) = engine.batches.list_newest(None, 10, 0)
    assert engine.batches.is_open(batch), "its event is still to be emitted"
    (callback_id,) = engine.callbacks.pending()
    record = engine.callbacks.find(callback_id)
    assert record is not None and record.body["batch"]["counts"]["done"] == 1


def test_batches_are_for_their_key_and_for_admins(gateway: Open) -> None:
    entries = ("studio:" + hash_of("studio"), "reader:" + hash_of("reader"), f"root:{hash_of('root')}:admin")
    client = gateway(api_keys=entries)
    files: Files = [("files", ("a.png", b"text"))]

    def ask(key: str | None, method: str, path: str) -> httpx.Response:
        return client.request(method, f"/api/batches{path}", headers={"X-API-Key": key} if key else {})

    made = client.post(POST, files=files, data={"batch_id": "mine"}, headers={"X-API-Key": "studio"})
    assert made.status_code == 202
    assert client.post(POST, files=files, data={"batch_id": "x"}).status_code == 401
    for method, path in (("GET", ""), ("POST", "/cancel")):
        unknown, foreign = ask("reader", method, f"/none{path}"), ask("reader", method, f"/mine{path}")
        named = ask("reader", method, f"/mine{path}?owner=studio")
        for answer in (unknown, foreign, named):
            assert (answer.status_code, answer.json()["error"]["code"]) == (404, "unknown_batch")
            assert answer.json()["error"] == unknown.json()["error"]
        assert ask(None, method, f"/mine{path}").status_code == 401
    for key in ("studio", "root"):
        assert ask(key, "GET", "/mine").json()["batch"]["owner"] == "studio"
        assert [one["batch_id"] for one in ask(key, "GET", "").json()["batches"]] == ["mine"]
    assert ask("root", "GET", "/mine?owner=studio").status_code == 200
    assert ask("root", "GET", "/mine?owner=").status_code == 404
    assert ask("reader", "GET", "").json()["batches"] == []
    other = client.post(POST, files=files, data={"batch_id": "mine"}, headers={"X-API-Key": "reader"})
    assert other.status_code == 202, "two keys may use one id"
    taken = client.post(
        POST,
        files=[("files", ("b.png", b"text"))],
        data={"batch_id": "mine"},
        headers={"X-API-Key": "reader"},
    )
    assert (taken.status_code, taken.json()["error"]["code"]) == (409, "batch_exists")
