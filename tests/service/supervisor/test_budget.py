"""The supervisor enforces the day's budget: queues of a real Prefect server."""

import asyncio
import contextlib
from datetime import UTC, datetime

import pytest
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.exceptions import ObjectAlreadyExists

from deployments.names import POOL, QUEUES
from panelworks.accounting.budget import Halt
from panelworks.domain.request import PageRequest
from panelworks.domain.result import Cost, PageResult
from panelworks.page.engine import Engine
from panelworks.settings import Settings
from service.pools import create_missing_queues
from service.supervisor import budget as budget_module
from service.supervisor.budget import BudgetEnforcer, pause_queues, resume_queues
from service.supervisor.leadership import Leadership
from tests.deployments.server import call_prefect

SPENT = Halt(
    reason="2.00 USD of the daily budget of 2.00 are spent today", until=datetime(2031, 5, 2, tzinfo=UTC)
)


async def make_pool(client: PrefectClient) -> None:
    with contextlib.suppress(ObjectAlreadyExists):
        await client.create_work_pool(WorkPoolCreate(name=POOL, type="process"))
    await create_missing_queues(client, POOL)


def queues() -> dict[str, tuple[bool, str]]:
    """Is each queue paused, and what does it say?"""
    found = call_prefect(lambda client: client.read_work_queues(POOL))
    return {queue.name: (queue.is_paused, queue.description or "") for queue in found}


@pytest.mark.usefixtures("prefect_server")
def test_a_spent_budget_pauses_the_queues_and_says_why() -> None:
    async def describe(client: PrefectClient) -> None:
        queue = await client.read_work_queue_by_name("events", work_pool_name=POOL)
        await client.update_work_queue(queue.id, description="What the generator asks for.\n\nAsk Ada.")

    call_prefect(make_pool)
    call_prefect(describe)
    before = queues()
    call_prefect(lambda client: pause_queues(client, SPENT))
    paused = queues()
    for name in QUEUES:
        why = f"Paused by the budget: {SPENT.reason}; it goes on at 2031-05-02 00:00 UTC."
        own = f"\n\n{before[name][1]}" if before[name][1] else ""
        assert paused[name] == (True, why + own)
    assert paused["default"] == before["default"]
    call_prefect(resume_queues)
    assert queues() == before


@pytest.mark.usefixtures("prefect_server")
def test_a_queue_that_a_person_paused_stays_paused() -> None:
    async def pause_by_hand(client: PrefectClient) -> None:
        queue = await client.read_work_queue_by_name("events", work_pool_name=POOL)
        await client.update_work_queue(queue.id, is_paused=True)

    async def go_on(client: PrefectClient) -> None:
        queue = await client.read_work_queue_by_name("events", work_pool_name=POOL)
        await client.update_work_queue(queue.id, is_paused=False)

    call_prefect(make_pool)
    call_prefect(pause_by_hand)
    call_prefect(lambda client: pause_queues(client, SPENT))
    call_prefect(resume_queues)
    assert {name for name, (paused, _) in queues().items() if paused} == {"events"}
    call_prefect(go_on)


def record(engine: Engine, usd: float) -> None:
    request = PageRequest(source="page.png", out="out", job_id="spent")
    cost = Cost(pool="here", gpu_seconds=1.0, usd=usd)
    engine.ledger.append(request, PageResult(job_id="spent", status="success", cost=cost))


class Leader(Leadership):
    leads = True


@pytest.mark.usefixtures("prefect_server")
def test_a_spent_budget_is_enforced_and_announced_once(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    call_prefect(make_pool)
    engine, events = Engine(settings.model_copy(update={"budget_per_day": 2.0})), list[str]()
    monkeypatch.setattr(budget_module, "emit_event", lambda event, *_, **__: events.append(event))
    record(engine, 2.5)
    for _ in range(2):  # the second one succeeds a leader that died
        asyncio.run(BudgetEnforcer(engine, Leader()).check())
        assert all(queues()[name][0] for name in QUEUES)
    assert events == ["panelworks.budget.spent"]
    # A supervisor that starts without a budget resumes the queues that one with a budget left paused.
    asyncio.run(BudgetEnforcer(Engine(settings), Leader()).run())
    assert not any(paused for paused, _ in queues().values())
