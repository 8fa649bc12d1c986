"""The gateway keeps the day's budget: queues of a real Prefect server."""

import asyncio
import contextlib
from datetime import UTC, datetime

import httpx
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
from service.gateway.metrics import Metrics
from service.gateway.spending import BudgetKeeper, pause, resume
from service.pools import create_missing_queues
from tests.books import page_file
from tests.deployments.server import asked
from tests.live.stack import until
from tests.service.gateway.conftest import Open

SPENT = Halt(
    reason="2.00 USD are spent today, of a budget of 2.00 a day", until=datetime(2031, 5, 2, tzinfo=UTC)
)


async def make_pool(client: PrefectClient) -> None:
    with contextlib.suppress(ObjectAlreadyExists):
        await client.create_work_pool(WorkPoolCreate(name=POOL, type="process"))
    await create_missing_queues(client, POOL)


def queues() -> dict[str, tuple[bool, str]]:
    """Is each queue paused, and what does it say?"""
    found = asked(lambda client: client.read_work_queues(POOL))
    return {queue.name: (queue.is_paused, queue.description or "") for queue in found}


@pytest.mark.usefixtures("prefect_server")
def test_a_spent_budget_pauses_the_queues_and_says_why() -> None:
    async def describe(client: PrefectClient) -> None:
        queue = await client.read_work_queue_by_name("events", work_pool_name=POOL)
        await client.update_work_queue(queue.id, description="What the generator asks for.\n\nAsk Ada.")

    asked(make_pool)
    asked(describe)
    before = queues()
    asked(lambda client: pause(client, SPENT))
    paused = queues()
    for name in QUEUES:
        why = f"Paused by the budget: {SPENT.reason}; it goes on at 2031-05-02 00:00 UTC."
        own = f"\n\n{before[name][1]}" if before[name][1] else ""
        assert paused[name] == (True, why + own)
    assert paused["default"] == before["default"]
    asked(resume)
    assert queues() == before


@pytest.mark.usefixtures("prefect_server")
def test_a_queue_that_a_person_paused_stays_paused() -> None:
    async def pause_by_hand(client: PrefectClient) -> None:
        queue = await client.read_work_queue_by_name("events", work_pool_name=POOL)
        await client.update_work_queue(queue.id, is_paused=True)

    async def go_on(client: PrefectClient) -> None:
        queue = await client.read_work_queue_by_name("events", work_pool_name=POOL)
        await client.update_work_queue(queue.id, is_paused=False)

    asked(make_pool)
    asked(pause_by_hand)
    asked(lambda client: pause(client, SPENT))
    asked(resume)
    assert {name for name, (paused, _) in queues().items() if paused} == {"events"}
    asked(go_on)


def record(engine: Engine, usd: float) -> None:
    request = PageRequest(source="page.png", out="out", job_id="spent")
    cost = Cost(pool="here", gpu_seconds=1.0, usd=usd)
    engine.ledger.append(request, PageResult(job_id="spent", status="success", cost=cost))


@pytest.mark.usefixtures("prefect_server")
def test_the_keeper_counts_the_ledger_and_acts(settings: Settings) -> None:
    asked(make_pool)
    engine, metrics = Engine(settings.model_copy(update={"budget_per_day": 2.0})), Metrics()
    record(engine, 2.5)

    asyncio.run(BudgetKeeper(engine, metrics).look())
    assert all(queues()[name][0] for name in QUEUES)
    assert metrics.registry.get_sample_value("panelworks_spent_today_usd") == 2.5
    assert metrics.registry.get_sample_value("panelworks_budget_per_day_usd") == 2.0
    # A gateway that starts without a budget lets the queues go on that one with a budget left paused.
    asyncio.run(BudgetKeeper(Engine(settings), metrics).run())
    assert not any(paused for paused, _ in queues().values())


def test_a_page_that_someone_waits_for_is_not_computed_either(gateway: Open, settings: Settings) -> None:
    record(Engine(settings), 2.5)
    client = gateway(budget_per_day=2.0)
    until(lambda: "panelworks_spent_today_usd 2.5" in client.get("/metrics").text)

    def post() -> httpx.Response:
        return client.post("/api/pages?on_failure=error", files={"image": ("page.png", page_file())})

    answer = post()
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "budget_spent")
