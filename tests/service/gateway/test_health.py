"""Health: degraded when accepted pages would wait, and figures that count each page once."""

import asyncio
import socket
import threading
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any, get_args
from uuid import UUID

import httpx
import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import WorkPoolUpdate
from prefect.exceptions import ObjectNotFound
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.states import Scheduled

from deployments.names import POOL
from panelworks.domain.result import ErrorInfo
from panelworks.errors import (
    Invalid,
    Misconfigured,
    PanelworksError,
    Rejected,
    ResourceExhausted,
    Transient,
    UnknownName,
    UnsafeSource,
    as_unexpected_error,
)
from panelworks.page.engine import Engine
from panelworks.settings import Settings
from service.gateway.app import create_app
from service.gateway.direct_pages import BudgetWatch
from service.gateway.jobs import meaning_of, types_of
from service.gateway.metrics import Metrics
from service.gateway.problems import status_of, status_of_job
from service.gateway.schemas import JobStatus
from service.supervisor.leadership import LEASE_VARIABLE, CallbackCounters, Leadership
from tests.books import page_file
from tests.servers import until
from tests.service.gateway.conftest import Open
from tests.service.supervisor.test_budget import record


async def _heartbeat() -> None:
    async with get_client() as client:
        await client.send_worker_heartbeat(POOL, "a-worker", heartbeat_interval_seconds=30)


async def _remove_workers() -> None:
    async with get_client() as client:
        for worker in await client.read_workers_for_work_pool(POOL):
            names = {"work_pool_name": POOL, "name": worker.name}
            await client.request("DELETE", "/work_pools/{work_pool_name}/workers/{name}", path_params=names)


async def _pause(*, pool: bool = False, queue: bool = False) -> None:
    async with get_client() as client:
        await client.update_work_pool(POOL, WorkPoolUpdate(is_paused=pool))
        events = next(one for one in await client.read_work_queues(POOL) if one.name == "events")
        await client.update_work_queue(events.id, is_paused=queue)


def test_health_is_degraded_while_no_worker_polls_or_a_pool_is_paused(gateway_with_prefect: Open) -> None:
    def health() -> dict[str, Any]:
        answer = gateway_with_prefect().get("/api/health")  # a new gateway remembers no earlier answer
        assert answer.status_code == 200
        body = answer.json()
        return {**body["components"], "status": body["status"]}

    asyncio.run(_remove_workers())
    before = health()
    assert (before["workers"], before["status"]) == ("down", "degraded")
    asyncio.run(_heartbeat())
    assert health()["workers"] == "up"
    try:
        for paused in ({"pool": True}, {"queue": True}):
            asyncio.run(_pause(**paused))
            during = health()
            assert (during["pools"], during["status"]) == ("paused", "degraded"), paused
    finally:
        asyncio.run(_pause())
    assert health()["pools"] == "up"


def test_every_gateway_reports_the_supervisor_and_its_counters(gateway_with_prefect: Open) -> None:
    async def lead() -> None:
        leadership = Leadership(1.0)
        leadership.callbacks = CallbackCounters(delivered=5, failed=1, pending=3)
        task = asyncio.create_task(leadership.run())
        async with asyncio.timeout(60):
            while not leadership.leads:  # noqa: ASYNC110 - nothing announces it
                await asyncio.sleep(0.05)
        await asyncio.to_thread(check)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    def check() -> None:
        for client in (gateway_with_prefect(), gateway_with_prefect()):
            assert client.get("/api/health").json()["components"]["supervisor"] == "up"
            text = ""
            while "panelworks_callbacks_pending 3.0" not in text:
                text = client.get("/metrics").text
            assert 'panelworks_callbacks_total{outcome="delivered"} 5.0' in text
            assert 'panelworks_callbacks_total{outcome="failed"} 1.0' in text

    async def remove_lease() -> None:
        async with get_client() as client:
            with suppress(ObjectNotFound):
                await client.delete_variable_by_name(LEASE_VARIABLE)

    asyncio.run(remove_lease())
    health = gateway_with_prefect().get("/api/health").json()
    assert (health["components"]["supervisor"], health["status"]) == ("down", "degraded")
    asyncio.run(lead())


def _samples(client: httpx.Client) -> dict[str, float]:
    """The lines of `/metrics`, such as `panelworks_workers_online{pool="panelworks"}`, and their values."""
    lines = client.get("/metrics").raise_for_status().text.splitlines()
    return {
        name: float(value) for name, _, value in (line.rpartition(" ") for line in lines if line[0] != "#")
    }


def test_metrics_and_health_agree_on_the_components(gateway_with_prefect: Open) -> None:
    for prepare, workers in ((_remove_workers, 0), (_heartbeat, 1)):
        asyncio.run(prepare())
        client = gateway_with_prefect()
        until(lambda client=client: client.get("/api/health").json()["components"]["events"] == "up")  # type: ignore[misc]
        components = client.get("/api/health").json()["components"]
        samples = _samples(client)
        exported = {name: samples[f'panelworks_component_up{{component="{name}"}}'] for name in components}
        assert exported == {name: float(found == "up") for name, found in components.items()}
        assert exported["workers"] == workers
        assert samples[f'panelworks_workers_online{{pool="{POOL}"}}'] == workers


def test_a_queue_shows_how_long_its_oldest_run_has_waited(gateway_with_prefect: Open) -> None:
    depth, oldest = (f'panelworks_queue_{what}{{queue="events"}}' for what in ("depth", "oldest_seconds"))
    before = _samples(gateway_with_prefect())

    async def schedule(hours: float) -> UUID:
        async with get_client() as client:
            deployment = await client.read_deployment_by_name("enhance-page/on-panel-generated")
            run = await client.create_flow_run_from_deployment(
                deployment.id,
                state=Scheduled(scheduled_time=datetime.now(UTC) + timedelta(hours=hours)),
                work_queue_name="events",
            )
            return run.id

    async def delete(runs: list[UUID]) -> None:
        async with get_client() as client:
            for run in runs:
                await client.delete_flow_run(run)

    # The first should have started ten hours ago. The second does not wait: it is scheduled for later.
    runs = [asyncio.run(schedule(hours)) for hours in (-10, 10)]
    try:
        during = _samples(gateway_with_prefect())
    finally:
        asyncio.run(delete(runs))
    assert during[depth] == before[depth] + 1
    assert 36_000 <= during[oldest] < 36_600
    after = _samples(gateway_with_prefect())
    assert after[depth] == before[depth]
    assert after[oldest] < 36_000
    assert after['panelworks_queue_oldest_seconds{queue="backfill"}'] == 0


def test_without_prefect_the_metrics_say_only_that(gateway: Open) -> None:
    samples = _samples(gateway())
    assert samples['panelworks_component_up{component="prefect"}'] == 0
    assert samples['panelworks_component_up{component="cache"}'] == 1
    unknown = ("panelworks_queue_", "panelworks_workers_", 'panelworks_component_up{component="workers"')
    assert [name for name in samples if name.startswith(unknown)] == []


def test_a_prefect_that_does_not_answer_is_down_and_the_gateway_up(
    gateway: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A scrape that waited for it would fail, and the gateway would count as down."""
    monkeypatch.setattr("service.gateway.monitoring._MAX_READ_SECONDS", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}/api"
        with temporary_settings({PREFECT_API_URL: address}):
            samples = _samples(gateway())
    assert samples['panelworks_component_up{component="prefect"}'] == 0


def test_a_scraper_of_the_port_finds_the_state_of_the_service(settings: Settings) -> None:
    async def wait_for_state() -> None:
        metrics = Metrics()
        app = create_app(settings.model_copy(update={"enable_metrics": True}), metrics)
        async with app.router.lifespan_context(app), asyncio.timeout(60):
            while metrics.registry.get_sample_value("panelworks_component_up", {"component": "cache"}) != 1:  # noqa: ASYNC110 - nothing announces it
                await asyncio.sleep(0.05)

    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}):
        asyncio.run(wait_for_state())


def test_counters_exist_before_the_first_page() -> None:
    """The rate of a counter that appears with its first page misses that page."""
    read = Metrics().registry.get_sample_value
    assert read("generation_success_total", {"tool": "event"}) == 0
    assert read("panelworks_pages_total", {"route": "couldn't_upscale", "cached": "false"}) == 0
    assert read("panelworks_cache_requests_total", {"answer": "hit"}) == 0


def test_a_known_page_is_a_cache_hit(gateway: Open) -> None:
    client = gateway()
    threads = [
        threading.Thread(target=client.post, args=("/api/pages",), kwargs={"files": {"image": page_file(81)}})
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert client.post("/api/enhancement/process", files={"file": page_file(81)}).status_code == 200
    text = client.get("/metrics").text
    assert 'panelworks_cache_requests_total{answer="miss"} 1.0' in text
    assert 'panelworks_cache_requests_total{answer="hit"} 2.0' in text
    assert 'panelworks_stage_seconds_count{stage="enhance"} 1.0' in text


def test_a_job_that_ends_badly_while_its_caller_waits_is_an_error(gateway_with_prefect: Open) -> None:
    client = gateway_with_prefect()
    answers: list[httpx.Response] = []
    waiting = threading.Thread(
        target=lambda: answers.append(
            client.post(
                "/api/enhancement/process?wait=60", files={"file": page_file(82)}, data={"tool": "sd"}
            )
        )
    )
    waiting.start()
    until(lambda: bool(client.get("/api/enhancement?tool=sd").json()["jobs"]))
    job_id = client.get("/api/enhancement?tool=sd").json()["jobs"][0]["job_id"]
    assert client.delete(f"/api/enhancement/{job_id}").json()["status"] == "cancelled"
    waiting.join()
    assert (answers[0].status_code, answers[0].json()["status"]) == (409, "cancelled")


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (Rejected("truncated", "x"), 422), (Rejected("too_large", "x"), 413), (Rejected("not_found", "x"), 404),
        (UnsafeSource("forbidden_path", "x"), 403), (UnsafeSource("plain_http", "x"), 403),
        (Transient("s3_unavailable", "x"), 503), (Transient("a_new_code", "x"), 503), (ResourceExhausted("x", "x"), 503),
        (Misconfigured("weights_missing", "x"), 500), (UnknownName("unknown_model", "x"), 422),
        (Invalid("network_failed", "x"), 500), (as_unexpected_error(ValueError()), 500),
    ],
)  # fmt: skip
def test_errors_raised_and_recorded_have_one_status(error: PanelworksError, status: int) -> None:
    """Before, a failed job answered 422 whenever its code was not in a table: a server's fault looked like the client's."""
    assert status_of(error) == status
    assert status_of_job(ErrorInfo.of(error)) == status


def test_records_without_a_fault_have_a_status() -> None:
    assert status_of_job(ErrorInfo(code="too_large", message="x")) == 413
    assert status_of_job(ErrorInfo(code="crashed", message="x")) == 500
    assert status_of_job(None) == 500


def test_states_have_one_vocabulary() -> None:
    for status in get_args(JobStatus):
        for kind in types_of(status):
            assert meaning_of(kind.value) == ("queued" if kind.value == "CRASHED" else status)


def test_a_gateway_shows_what_the_pages_of_the_day_cost(settings: Settings) -> None:
    engine, metrics = Engine(settings.model_copy(update={"budget_per_day": 2.0})), Metrics()
    record(engine, 2.5)

    async def watch() -> None:
        watch = BudgetWatch(engine, metrics)
        task = asyncio.create_task(watch.run())
        while watch.spent is None:  # noqa: ASYNC110 - nothing announces it
            await asyncio.sleep(0.01)
        task.cancel()

    asyncio.run(watch())
    assert metrics.registry.get_sample_value("panelworks_spent_today_usd") == 2.5
    assert metrics.registry.get_sample_value("panelworks_budget_per_day_usd") == 2.0


def test_a_page_that_someone_waits_for_is_not_computed_either(gateway: Open, settings: Settings) -> None:
    record(Engine(settings), 2.5)
    client = gateway(budget_per_day=2.0)
    until(lambda: "panelworks_spent_today_usd 2.5" in client.get("/metrics").text)

    def post() -> httpx.Response:
        return client.post("/api/pages?on_failure=error", files={"image": ("page.png", page_file())})

    answer = post()
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "budget_spent")
