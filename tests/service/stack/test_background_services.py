"""Each background service of Prefect that we depend on, observed on a real server with the stack's settings."""

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.actions import DeploymentScheduleCreate, WorkPoolCreate
from prefect.client.schemas.objects import State, StateType, WorkerStatus
from prefect.client.schemas.schedules import CronSchedule, IntervalSchedule
from prefect.states import Cancelling, Running, Scheduled

from deployments.automations import zombie_automation
from deployments.names import POOL
from service.background_services import stopped_services
from service.stack.plan import PACE
from tests import servers
from tests.books import page_file
from tests.deployments import server
from tests.deployments.server import call_prefect
from tests.servers import emit_event, request_api, until, wait_for_triggers
from tests.service.stack.test_provision import provision_now

PATIENCE = 60.0


async def make_run(client: PrefectClient, state: Any, name: str = "backfill/backfill") -> UUID:
    found = await client.read_deployment_by_name(name)
    parameters = {"archive": "/nothing", "out": "/nothing"}
    run = await client.create_flow_run_from_deployment(found.id, state=Scheduled(), parameters=parameters)
    await client.set_flow_run_state(run.id, state, force=True)
    return run.id


def state_of(run: UUID) -> tuple[StateType | None, str | None]:
    found = call_prefect(lambda client: client.read_flow_run(run))
    return found.state_type, found.state_name


@pytest.fixture(scope="module")
def provisioned(fast_server: None) -> None:
    provision_now(overwrite=True)


@pytest.fixture
def worker(provisioned: None, tmp_path: Path) -> Iterator[server.Worker]:
    started = server.Worker(
        tmp_path, "prefect", "worker", "start", "--type", "process", "--pool", POOL, "--name", "seen",
        PANELWORKS_CACHE_DIR=str(tmp_path / "cache"), DEVICE="cpu",
    )  # fmt: skip
    started.start()
    yield started
    started.stop()


def test_an_active_schedule_delivers(worker: server.Worker, tmp_path: Path) -> None:
    (tmp_path / "page.png").write_bytes(page_file())

    async def activate(client: PrefectClient) -> UUID:
        found = await client.read_deployment_by_name("enhance-page/enhance-page")
        wanted = DeploymentScheduleCreate(
            schedule=IntervalSchedule(interval=timedelta(days=1), anchor_date=datetime.now(UTC) + timedelta(seconds=6)),
            active=True,
            parameters={
                "source": str(tmp_path / "page.png"), "out": str(tmp_path / "out"), "options": {"preset": "dall-e"}
            },
        )  # fmt: skip
        made = await client.create_deployment_schedules(found.id, [wanted])
        return made[0].id

    schedule = call_prefect(activate)
    until(lambda: bool(list((tmp_path / "out").rglob("page-*.png"))), 120)

    async def remove(client: PrefectClient) -> None:
        found = await client.read_deployment_by_name("enhance-page/enhance-page")
        await client.delete_deployment_schedule(found.id, schedule)

    call_prefect(remove)


def test_a_run_that_nobody_takes_is_marked_late(provisioned: None) -> None:
    past: State[Any] = Scheduled(scheduled_time=datetime.now(UTC) - timedelta(seconds=30))
    run = call_prefect(lambda client: make_run(client, past))
    until(lambda: state_of(run)[1] == "Late", PATIENCE)
    call_prefect(lambda client: client.delete_flow_run(run))


def test_a_silent_run_crashes_and_a_finished_one_does_not(provisioned: None) -> None:
    async def shorten(client: PrefectClient) -> None:
        found = (await client.read_automations_by_name("panelworks-zombie-runs"))[0]
        await client.update_automation(found.id, zombie_automation(timedelta(seconds=10)))

    call_prefect(shorten)
    wait_for_triggers()
    silent, finished = (call_prefect(lambda client: make_run(client, Running())) for _ in range(2))
    for run in (silent, finished):
        post_event("prefect.flow-run.heartbeat", run)
    post_event("prefect.flow-run.Completed", finished)
    until(lambda: state_of(silent)[0] == StateType.CRASHED, PATIENCE)
    assert state_of(finished)[0] == StateType.RUNNING, "it is only said to be completed; nothing crashed it"
    for run in (silent, finished):
        call_prefect(lambda client, one=run: client.delete_flow_run(one))  # type: ignore[misc]


def post_event(name: str, run: UUID, occurred: datetime | None = None) -> str:
    """What a run's process sends."""
    return emit_event({
        "occurred": (occurred or datetime.now(UTC)).isoformat(),
        "event": name,
        "resource": {"prefect.resource.id": f"prefect.flow-run.{run}"},
        "related": [
            {"prefect.resource.id": f"prefect.flow.{uuid4()}", "prefect.resource.role": "flow", "prefect.resource.name": "backfill"}
        ],
    })  # fmt: skip


def test_a_worker_that_died_is_marked_offline(provisioned: None) -> None:
    beat = {"name": "dead-worker", "heartbeat_interval_seconds": 1}

    def status() -> WorkerStatus:
        workers = call_prefect(lambda client: client.read_workers_for_work_pool(POOL))
        return next(one.status for one in workers if one.name == "dead-worker")

    def is_online_after_heartbeat() -> bool:
        request_api("POST", f"/work_pools/{POOL}/workers/heartbeat", beat)
        return status() == WorkerStatus.ONLINE

    until(is_online_after_heartbeat, PATIENCE)  # a busy server may mark it offline before it answers
    until(lambda: status() == WorkerStatus.OFFLINE, PATIENCE)


def test_old_events_are_removed_and_new_ones_stay(provisioned: None) -> None:
    run = uuid4()
    old = post_event("panelworks.test.old", run, datetime.now(UTC) - timedelta(days=30))
    new = post_event("panelworks.test.new", run)

    def kept() -> set[str]:
        body = {
            "filter": {
                "resource": {"id": [f"prefect.flow-run.{run}"]},
                "occurred": {"since": "2020-01-01T00:00:00Z"},
            }
        }
        return {one["id"] for one in request_api("POST", "/events/filter", body)["events"]}

    until(lambda: new in kept(), PATIENCE)
    until(lambda: kept() == {new}, PATIENCE)
    assert old not in kept()


def test_a_cancellation_that_nobody_carries_out_ends(provisioned: None) -> None:
    run = call_prefect(lambda client: make_run(client, Running()))
    call_prefect(lambda client: client.set_flow_run_state(run, Cancelling(), force=True))
    until(lambda: state_of(run)[0] == StateType.CANCELLED, PATIENCE)


def test_a_server_whose_services_work_shows_no_sign_of_trouble(provisioned: None) -> None:
    async def activate(client: PrefectClient) -> UUID:
        found = await client.read_deployment_by_name("backfill/backfill")
        wanted = DeploymentScheduleCreate(
            schedule=CronSchedule(cron="0 3 * * *"), active=True, slug="watched",
            parameters={"archive": "/nothing", "out": "/nothing"},
        )  # fmt: skip
        return (await client.create_deployment_schedules(found.id, [wanted]))[0].id

    async def remove(client: PrefectClient) -> None:
        found = await client.read_deployment_by_name("backfill/backfill")
        await client.delete_deployment_schedule(found.id, schedule)

    schedule = call_prefect(activate)
    try:
        until(lambda: call_prefect(lambda client: stopped_services(client, timedelta(0))) == {}, PATIENCE)
    finally:
        call_prefect(remove)


@pytest.fixture(scope="module")
def without_services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A server whose scheduler and late-run monitor never run."""
    off = {
        "PREFECT_SERVER_SERVICES_SCHEDULER_ENABLED": "false",
        "PREFECT_SERVER_SERVICES_LATE_RUNS_ENABLED": "false",
    }
    with servers.prefect_server(tmp_path_factory.mktemp("without-services"), **{**PACE, **off}):
        yield


def test_a_dead_scheduler_and_late_run_monitor_are_reported(without_services: None, tmp_path: Path) -> None:
    async def prepare(client: PrefectClient) -> None:
        from flows.backfill import backfill

        await client.create_work_pool(WorkPoolCreate(name=POOL, type="process"))
        wanted = DeploymentScheduleCreate(schedule=CronSchedule(cron="0 3 * * *"), active=True)
        flow = await client.create_flow(backfill)
        identity = await client.create_deployment(flow, "backfill", schedules=[wanted], work_pool_name=POOL)
        found = await client.create_flow_run_from_deployment(identity)
        past: State[Any] = Scheduled(scheduled_time=datetime.now(UTC) - timedelta(minutes=10))
        await client.set_flow_run_state(found.id, past, force=True)

    call_prefect(prepare)
    found = call_prefect(lambda client: stopped_services(client, timedelta(0)))
    assert set(found) == {"scheduler", "late_runs"}
    assert "no run for the active schedule of backfill" in found["scheduler"]

    # The late run is older than the grace; the schedule is not, so that a new one is no false alarm.
    done = subprocess.run(
        [sys.executable, "-m", "panelworks", "up", "--check"],
        cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False,
        env={
            **server.interpreter(), **server.api_environment(),
            "PANELWORKS_CACHE_DIR": str(tmp_path / "absent" / "cache"), "PANELWORKS_OUT": str(tmp_path / "absent" / "out"),
        },
    )  # fmt: skip
    assert "TROUBLE  background services: Prefect's late-run monitor does not work" in done.stdout, (
        done.stdout
    )
    assert "Prefect's scheduler" not in done.stdout
    assert not (tmp_path / "absent").exists(), "a check writes nothing"


def test_the_gateway_reports_them_too(without_services: None) -> None:
    async def prepare(client: PrefectClient) -> None:
        from flows.backfill import backfill

        flow = await client.create_flow(backfill)
        identity = await client.create_deployment(flow, "backfill")
        found = await client.create_flow_run_from_deployment(identity)
        past: State[Any] = Scheduled(scheduled_time=datetime.now(UTC) - timedelta(minutes=10))
        await client.set_flow_run_state(found.id, past, force=True)

    async def look() -> dict[str, Any]:
        from panelworks.settings import get_settings
        from service.gateway.app import create_app
        from service.gateway.metrics import Metrics

        app = create_app(get_settings(), Metrics())
        transport = httpx.ASGITransport(app=app)
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=transport, base_url="http://gateway") as client,
        ):
            answer: dict[str, Any] = json.loads((await client.get("/api/health")).content)
            return answer

    call_prefect(prepare)
    health = asyncio.run(look())
    assert (health["status"], health["components"]["scheduler"]) == ("degraded", "down")
