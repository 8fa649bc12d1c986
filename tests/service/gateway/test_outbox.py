"""Acceptance: one run however often a job is posted, and none lost when the gateway is killed."""

import asyncio
import base64
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun

from panelworks.domain.request import JobKey, Origin, PageRequest
from panelworks.errors import Rejected
from panelworks.page.admission import AcceptedJob
from panelworks.page.engine import Engine
from service.gateway import enhancement
from service.gateway import outbox as outbox_module
from service.gateway.event_stream import EventStream
from service.gateway.jobs import Jobs, as_panelworks_error
from service.gateway.metrics import Metrics
from service.gateway.outbox import Outbox
from tests.books import page_file
from tests.deployments.server import api_environment
from tests.servers import free_port, until
from tests.service.gateway.conftest import Open


def runs_of(job_id: str) -> list[FlowRun]:
    async def read() -> list[FlowRun]:
        async with get_client() as client:
            return [
                run
                for run in await client.read_flow_runs(limit=200)
                if run.parameters.get("job_id") == job_id
            ]

    return asyncio.run(read())


def event(job_id: str, seed: int = 71) -> dict[str, Any]:
    source = "data:image/png;base64," + base64.b64encode(page_file(seed)).decode()
    return {"source": source, "job_id": job_id, "tool": "sora"}


def test_twenty_posts_at_two_gateways_are_one_run(gateway_with_prefect: Open) -> None:
    gateways = [gateway_with_prefect(), gateway_with_prefect()]

    def post(number: int) -> httpx.Response:
        return gateways[number % 2].post("/api/generation/events", json=event("twenty"))

    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(post, range(20)))
    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.json()["event_id"] for answer in answers}) == 1
    status = "/api/enhancement/status/twenty"
    until(lambda: all(one.get(status).json()["flow_run_id"] for one in gateways))
    assert len({one.get(status).json()["flow_run_id"] for one in gateways}) == 1
    assert len(runs_of("twenty")) == 1
    listed = gateways[1].get("/api/enhancement?tool=sora").json()["jobs"]
    assert [job["job_id"] for job in listed].count("twenty") == 1, "?tool= finds jobs of events"


def test_twenty_uploads_of_one_page_at_two_gateways_are_one_job(gateway_with_prefect: Open) -> None:
    gateways, page = [gateway_with_prefect(), gateway_with_prefect()], page_file(72)

    def post(number: int) -> httpx.Response:
        return gateways[number % 2].post("/api/enhancement/process", files={"file": ("p.png", page)})

    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(post, range(20)))
    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.json()["job_id"] for answer in answers}) == 1


@contextmanager
def _gateway_process(
    folder: Path, api: dict[str, str]
) -> Iterator[tuple[httpx.Client, "subprocess.Popen[bytes]"]]:
    port = free_port()
    environment = os.environ | {
        **api,
        "PANELWORKS_CACHE_DIR": str(folder / "cache"),
        "PANELWORKS_OUT": str(folder / "out"),
    }
    command = [sys.executable, "-m", "panelworks", "gateway", "--port", str(port)]
    process = subprocess.Popen(command, env=environment)
    client = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30)
    try:
        until(lambda: _answers(client))
        yield client, process
    finally:
        process.kill()
        process.wait()
        client.close()


def _answers(client: httpx.Client) -> bool:
    try:
        return client.get("/api/health").status_code in (200, 503)
    except httpx.HTTPError:
        return False


def test_a_job_whose_run_was_deleted_has_failed_and_can_be_repeated(gateway_with_prefect: Open) -> None:
    """Also after a restore: the database may be older than the store, which has the job."""
    client, status = gateway_with_prefect(), "/api/enhancement/status/deleted"
    assert client.post("/api/generation/events", json=event("deleted")).status_code == 202
    until(lambda: bool(client.get(status).json()["flow_run_id"]))

    async def delete() -> None:
        async with get_client() as prefect:
            for run in runs:
                await prefect.delete_flow_run(run.id)

    runs = runs_of("deleted")
    asyncio.run(delete())
    answer = client.get(status)
    assert (answer.status_code, answer.json()["status"]) == (200, "failed")
    assert client.post("/api/generation/events", json=event("deleted")).status_code == 202
    until(lambda: bool(runs_of("deleted")))
    assert client.get(status).json()["status"] == "queued"
    assert len(runs_of("deleted")) == 1


def test_a_killed_gateway_loses_no_accepted_job(gateway_with_prefect: Open, tmp_path: Path) -> None:
    with _gateway_process(tmp_path, {"PREFECT_API_URL": "http://127.0.0.1:9/api"}) as (client, process):
        answer = client.post("/api/generation/events", json=event("survives"))
        assert answer.status_code == 202
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert runs_of("survives") == []
    with _gateway_process(tmp_path, api_environment()) as (client, _):
        status = client.get("/api/enhancement/status/survives")
        assert status.json()["status"] == "queued", "known from the first moment on"
        until(lambda: bool(client.get("/api/enhancement/status/survives").json()["flow_run_id"]))
    assert len(runs_of("survives")) == 1


def test_a_cancelled_job_that_is_posted_again_is_processed(gateway_with_prefect: Open) -> None:
    """Before, the second post was a 202, and the job stayed cancelled."""
    client = gateway_with_prefect()
    status = "/api/enhancement/status/again"
    client.post("/api/generation/events", json=event("again"))
    until(lambda: client.get(status).json()["flow_run_id"])
    first = client.get(status).json()["flow_run_id"]
    assert client.delete("/api/enhancement/again").status_code == 202
    until(lambda: client.get(status).json()["status"] == "cancelled")
    assert client.post("/api/generation/events", json=event("again")).status_code == 202
    until(lambda: client.get(status).json()["flow_run_id"] not in (None, first))
    assert client.get(status).json()["status"] == "queued"
    assert len(runs_of("again")) == 2


def test_a_job_whose_run_takes_long_to_create_is_cancelled_as_soon_as_it_has_one(
    gateway_with_prefect: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before, it could not be cancelled (503 `no_run_yet`), and the page was computed all the same."""
    submit = Jobs.submit

    async def slowly(self: Jobs, job: AcceptedJob) -> UUID:
        await asyncio.sleep(2)
        return await submit(self, job)

    monkeypatch.setattr(Jobs, "submit", slowly)
    monkeypatch.setattr(enhancement, "_RUN_SECONDS", 0.2)
    client = gateway_with_prefect()
    client.post("/api/generation/events", json=event("slow"))
    answer = client.delete("/api/enhancement/slow")
    assert (answer.status_code, answer.json()["status"]) == (202, "queued")
    until(lambda: client.get("/api/enhancement/status/slow").json()["status"] == "cancelled")


def test_the_first_attempt_that_fails_is_no_warning(
    gateway_with_prefect: Open, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A busy SQLite refuses once. Before, each such page began with a warning and a pause of half a second."""
    submit, failed = Jobs.submit, [503, 503]

    async def refused(self: Jobs, job: AcceptedJob) -> UUID:
        if failed:
            answer = httpx.Response(failed.pop(), request=httpx.Request("POST", "http://127.0.0.1/"))
            raise as_panelworks_error(httpx.HTTPStatusError("", request=answer.request, response=answer))
        return await submit(self, job)

    monkeypatch.setattr(Jobs, "submit", refused)
    client = gateway_with_prefect()
    with caplog.at_level(logging.INFO, "service.gateway.outbox"):
        client.post("/api/generation/events", json=event("refused"))
        until(lambda: client.get("/api/enhancement/status/refused").json()["flow_run_id"])
    lines = [record for record in caplog.records if "has no run yet" in record.getMessage()]
    assert [line.levelno for line in lines] == [logging.INFO, logging.WARNING]
    assert all("The Prefect server answered 503." in line.getMessage() for line in lines)


def test_a_job_that_prefect_refuses_has_its_callback(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before, the job failed, and its callback was never sent."""

    heard = list[str]()
    monkeypatch.setattr(
        outbox_module, "emit_page_end", lambda *_, callback_id, **__: heard.append(callback_id)
    )

    class RefusingJobs(Jobs):
        async def submit(self, job: AcceptedJob) -> UUID:
            raise Rejected("bad_request", "Prefect takes no such parameters.")

    async def scenario() -> None:
        jobs = RefusingJobs()
        event_stream = EventStream(jobs, Metrics(), engine.accepted)
        outbox = Outbox(engine, jobs, event_stream)
        origin = Origin(callback="https://example.com/done", entry_point="event")
        await outbox.accept(PageRequest(source="data:,x", out="out", job_id="gen-7", origin=origin), "events")
        work = asyncio.create_task(outbox.run())
        async with asyncio.timeout(60):
            while event_stream.end_of(JobKey(None, "gen-7")) is None or not heard:  # noqa: ASYNC110 - nothing announces it
                await asyncio.sleep(0.01)
        work.cancel()
        with suppress(asyncio.CancelledError):
            await work
        assert heard == list(engine.callbacks.pending())

    asyncio.run(scenario())
    (one,) = engine.callbacks.pending()
    callback = engine.callbacks.find(one)
    assert callback is not None and callback.result is not None and callback.result.error is not None
    assert (callback.job_id, callback.result.error.code) == ("gen-7", "bad_request")
