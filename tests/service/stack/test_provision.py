"""Provisioning against a real server: what operators changed survives, what is missing is created."""

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.actions import (
    BlockDocumentUpdate,
    DeploymentScheduleCreate,
    DeploymentUpdate,
    GlobalConcurrencyLimitUpdate,
    WorkPoolUpdate,
)
from prefect.client.schemas.objects import ConcurrencyOptions
from prefect.client.schemas.schedules import CronSchedule, IntervalSchedule
from prefect.events.schemas.automations import Automation, AutomationCore

from deployments.names import POOL, gpu_limit
from panelworks.settings import get_settings
from service.stack.merging import Difference
from service.stack.plan import PACE, StackPlan
from service.stack.provision import provision
from tests import servers
from tests.deployments.server import call_prefect

Edit = Callable[[PrefectClient], Awaitable[object]]
Look = Callable[[PrefectClient], Awaitable[Any]]
BACKFILL = "backfill/backfill"


@dataclass(frozen=True)
class Change:
    """Something an operator does, and how to see that it is still so."""

    what: str
    edit: Edit
    look: Look


def provision_now(gpu: int | None = None, *, overwrite: bool = False) -> list[Difference]:
    plan = StackPlan(
        host="127.0.0.1",
        port=0,
        gateway_port=0,
        pages=1,
        gpu=gpu,
        existing_api_url="http://unused",
        target="local",
    )
    environment = plan.environment(get_settings())
    os.environ["PANELWORKS_RUN_COMMAND"] = environment["PANELWORKS_RUN_COMMAND"]
    try:
        return asyncio.run(provision(plan, environment, overwrite=overwrite))
    finally:
        del os.environ["PANELWORKS_RUN_COMMAND"]


async def deployment(client: PrefectClient, name: str = BACKFILL) -> Any:
    return await client.read_deployment_by_name(name)


async def update(client: PrefectClient, name: str, **fields: Any) -> None:
    await client.update_deployment((await deployment(client, name)).id, DeploymentUpdate(**fields))


async def automation(client: PrefectClient, name: str) -> Automation:
    return (await client.read_automations_by_name(name))[0]


async def rewrite(client: PrefectClient, name: str, /, **fields: Any) -> None:
    found = await automation(client, name)
    changed = found.model_copy(update=fields).model_dump(exclude={"id", "owner_resource"})
    await client.update_automation(found.id, AutomationCore.model_validate(changed))


async def edit_schedule(client: PrefectClient) -> None:
    found = await deployment(client)
    await client.update_deployment_schedule(
        found.id,
        found.schedules[0].id,
        active=True,
        schedule=CronSchedule(cron="30 1 * * 6", timezone="Europe/Berlin"),
        parameters={"archive": "/books", "out": "/done", "until": "05:00"},
    )


async def add_schedule(client: PrefectClient) -> None:
    found = await deployment(client, "enhance-page/enhance-page")
    schedule = IntervalSchedule(interval=timedelta(days=9))
    await client.create_deployment_schedules(found.id, [DeploymentScheduleCreate(schedule=schedule)])


async def schedules(client: PrefectClient, name: str) -> list[Any]:
    found = await client.read_deployment_schedules((await deployment(client, name)).id)
    return [one.model_dump(exclude={"updated"}) for one in found]


async def edit_parameters(client: PrefectClient) -> None:
    await update(client, "enhance-book/enhance-book", parameters={"force": True})


async def edit_concurrency(client: PrefectClient) -> None:
    await update(
        client, BACKFILL, concurrency_limit=3, concurrency_options=ConcurrencyOptions(collision_strategy="ENQUEUE")
    )  # fmt: skip


async def edit_variables(client: PrefectClient) -> None:
    command = {"command": "nice python -m prefect.engine", "env": {"MINE": "1"}}
    await update(client, "reenhance/reenhance", job_variables=command, description="Ask Ada.", tags=["mine"])


async def edit_queue(client: PrefectClient) -> None:
    queue = await client.read_work_queue_by_name("backfill", work_pool_name=POOL)
    await client.update_work_queue(queue.id, is_paused=True, concurrency_limit=4, description="Ask Ada.")


async def edit_priority(client: PrefectClient) -> None:
    queue = await client.read_work_queue_by_name("events", work_pool_name=POOL)
    await client.update_work_queue(queue.id, priority=9)


async def edit_pool(client: PrefectClient) -> None:
    jobs = (await client.read_work_pool(POOL)).base_job_template
    jobs["variables"]["properties"]["env"]["default"] = {"S3_BUCKET": "mine"}
    await client.update_work_pool(
        POOL, WorkPoolUpdate(is_paused=True, concurrency_limit=7, description="Ask Ada.", base_job_template=jobs)
    )  # fmt: skip


async def edit_block(client: PrefectClient) -> None:
    found = await client.read_block_document_by_name("panelworks-failures", "custom-webhook")
    data = {**found.data, "url": "https://chat.example/hook"}
    await client.update_block_document(found.id, BlockDocumentUpdate(data=data, merge_existing_data=False))


async def block(client: PrefectClient) -> Any:
    return (await client.read_block_document_by_name("panelworks-failures", "custom-webhook")).data["url"]


async def read_automation(client: PrefectClient, name: str) -> Any:
    return (await automation(client, name)).model_dump(exclude={"updated"})


async def edit_zombies(client: PrefectClient) -> None:
    found = await automation(client, "panelworks-zombie-runs")
    trigger = found.trigger.model_copy(update={"within": timedelta(seconds=1200)})
    await rewrite(client, "panelworks-zombie-runs", trigger=trigger)


async def automation_names(client: PrefectClient) -> list[str]:
    return sorted(one.name for one in await client.read_automations())


CHANGES = [
    Change("schedule", edit_schedule, lambda client: schedules(client, BACKFILL)),
    Change("own schedule", add_schedule, lambda client: schedules(client, "enhance-page/enhance-page")),
    Change(
        "parameters",
        edit_parameters,
        lambda client: _fields(client, "enhance-book/enhance-book", "parameters"),
    ),
    Change(
        "deployment concurrency",
        edit_concurrency,
        lambda client: _fields(client, BACKFILL, "global_concurrency_limit", "concurrency_options"),
    ),
    Change(
        "job variables, description, tags",
        edit_variables,
        lambda client: _fields(client, "reenhance/reenhance", "job_variables", "description", "tags"),
    ),
    Change(
        "paused deployment",
        lambda client: update(client, "compare-models/compare-models", paused=True),
        lambda client: _fields(client, "compare-models/compare-models", "paused"),
    ),
    Change(
        "other queue",
        lambda client: update(
            client, "enhance-page/on-panel-generated", work_pool_name=POOL, work_queue_name="interactive"
        ),
        lambda client: _fields(client, "enhance-page/on-panel-generated", "work_queue_name"),
    ),
    Change(
        "global limit",
        lambda client: client.update_global_concurrency_limit(
            gpu_limit(), GlobalConcurrencyLimitUpdate(limit=5)
        ),
        lambda client: _limit(client),
    ),
    Change("paused queue", edit_queue, lambda client: _queue(client, "backfill")),
    Change("queue priority", edit_priority, lambda client: _queue(client, "events")),
    Change("pool", edit_pool, lambda client: _pool(client)),
    Change("block", edit_block, block),
    Change(
        "disabled automation",
        lambda client: rewrite(client, "panelworks-urgent-panel", enabled=False),
        lambda client: read_automation(client, "panelworks-urgent-panel"),
    ),
    Change(
        "edited automation", edit_zombies, lambda client: read_automation(client, "panelworks-zombie-runs")
    ),
    Change(
        "renamed automation",
        lambda client: rewrite(client, "panelworks-background-panel", name="at night"),
        automation_names,
    ),
]


async def _fields(client: PrefectClient, name: str, *fields: str) -> Any:
    found = await deployment(client, name)
    return [str(getattr(found, field)) for field in fields]


async def _limit(client: PrefectClient) -> int:
    return (await client.read_global_concurrency_limit_by_name(gpu_limit())).limit


async def _queue(client: PrefectClient, name: str) -> Any:
    found = await client.read_work_queue_by_name(name, work_pool_name=POOL)
    return found.is_paused, found.concurrency_limit, found.description, found.priority


async def _pool(client: PrefectClient) -> Any:
    found = await client.read_work_pool(POOL)
    return found.is_paused, found.concurrency_limit, found.description, found.base_job_template


@dataclass(frozen=True)
class History:
    """What provisioning did and what was seen, step by step."""

    first: list[Difference]
    second: list[Difference]
    unchanged: dict[str, Any]
    changed: dict[str, Any]
    third: list[Difference]
    kept: dict[str, Any]


@pytest.fixture(scope="module")
def new_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A server that was never provisioned, unlike the one that the other modules share."""
    with servers.prefect_server(tmp_path_factory.mktemp("new-server"), **PACE):
        yield


@pytest.fixture(scope="module")
def history(new_server: None) -> Iterator[History]:
    async def look(client: PrefectClient) -> dict[str, Any]:
        return {change.what: await change.look(client) for change in CHANGES}

    async def edit(client: PrefectClient) -> None:
        for change in CHANGES:
            await change.edit(client)

    first, second = provision_now(), provision_now()
    unchanged = call_prefect(look)
    call_prefect(edit)
    changed = call_prefect(look)
    third = provision_now()
    yield History(first, second, unchanged, changed, third, call_prefect(look))


def test_a_new_server_gets_everything_and_a_second_time_changes_nothing(history: History) -> None:
    assert {one.action for one in history.first} == {"created"}
    assert {one.subject.split()[0] for one in history.first} == {
        "pool", "queue", "limit", "automation", "deployment", "schedule",
    }  # fmt: skip
    assert history.second == []


@pytest.mark.parametrize("what", [change.what for change in CHANGES])
def test_what_an_operator_changed_survives(history: History, what: str) -> None:
    assert history.changed[what] != history.unchanged[what], "the change was made"
    assert history.kept[what] == history.changed[what]


def test_the_differences_are_printed(history: History) -> None:
    assert {one.action for one in history.third} <= {"kept", "updated"}
    kept = {one.subject for one in history.third if one.action == "kept"}
    assert kept >= {
        "schedule backfill/backfill/nightly",
        "deployment enhance-book/enhance-book",
        "deployment backfill/backfill",
        "deployment reenhance/reenhance",
        "pool panelworks",
        f"limit {gpu_limit()}",
        "automation panelworks-zombie-runs",
        "automation panelworks-urgent-panel",
        "automation panelworks-background-panel",
    }
    # The notification is switched on once its block has an address.
    updated = [one for one in history.third if one.action == "updated"]
    assert [one.subject for one in updated] == ["automation panelworks-notify-failures"]


def test_what_is_missing_is_created_again_but_no_removed_schedule(history: History) -> None:
    async def remove(client: PrefectClient) -> None:
        found = await deployment(client)
        await client.delete_deployment_schedule(found.id, found.schedules[0].id)
        await client.delete_deployment((await deployment(client, "compare-models/compare-models")).id)
        await client.delete_automation((await automation(client, "panelworks-panel-generated")).id)

    call_prefect(remove)
    done = {(one.action, one.subject) for one in provision_now()}
    assert ("created", "deployment compare-models/compare-models") in done
    assert ("created", "automation panelworks-panel-generated") in done
    assert ("kept", "schedule backfill/backfill/nightly") in done
    assert call_prefect(lambda client: schedules(client, BACKFILL)) == []


def test_a_new_release_updates_what_nobody_changed(history: History, monkeypatch: pytest.MonkeyPatch) -> None:
    from deployments.manifest import read_deployments as read

    def newer(target: Any) -> Any:
        specs = read(target)
        for spec in specs:
            spec.fields["description"] = f"{spec.name}, second release."
        return specs

    monkeypatch.setattr("service.stack.provision.read_deployments", newer)
    provision_now()
    texts = call_prefect(lambda client: client.read_deployments())
    descriptions = {one.name: one.description for one in texts}
    assert descriptions["enhance-page"] == "enhance-page, second release."
    assert descriptions["reenhance"] == "Ask Ada."


def test_only_a_number_on_the_command_line_changes_the_gpu_limit(history: History) -> None:
    provision_now(gpu=2)
    assert call_prefect(_limit) == 2


def test_overwrite_takes_the_release(history: History) -> None:
    provision_now(overwrite=True)
    assert call_prefect(lambda client: _fields(client, "reenhance/reenhance", "tags")) == ["['panelworks']"]
    assert len(call_prefect(lambda client: schedules(client, BACKFILL))) == 1
    assert "at night" not in call_prefect(automation_names)
