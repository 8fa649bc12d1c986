"""The day's budget: once it is spent, no queue gives work to a worker until the next day."""

import asyncio
import logging
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.objects import WorkQueue
from prefect.events import emit_event
from prefect.exceptions import ObjectNotFound

from deployments.names import QUEUES
from deployments.targets import pools
from panelworks.accounting.budget import Budget, Halt
from panelworks.page.engine import Engine
from service.gateway.metrics import Metrics

logger = logging.getLogger(__name__)

_EVERY: Final = 15.0
_MARK: Final = "Paused by the budget: "
"""Begins the description of the queues that we paused; those that a person paused are left alone."""
_BETWEEN: Final = "\n\n"
"""Between ours and what somebody wrote there."""
_RESOURCE: Final = {"prefect.resource.id": "panelworks.accounting.budget", "prefect.resource.name": "budget"}


class BudgetKeeper:
    """Watches what the pages of the day cost."""

    def __init__(self, engine: Engine, metrics: Metrics, leads: Callable[[], bool] = lambda: True) -> None:
        """`leads`: whether this gateway acts; each gateway counts, one pauses and resumes the queues."""
        self._leads = leads
        self._budget = Budget(engine.settings, engine.ledger)
        self._metrics = metrics
        self._warned = False
        self.spent: Halt | None = None
        """The budget, while it is used up."""
        if engine.settings.budget_per_day is not None:
            metrics.budget.set(engine.settings.budget_per_day)

    async def run(self) -> None:
        """Look again and again, for as long as the gateway runs. Without a budget, what one left paused goes on."""
        while True:
            try:
                acts = self._leads()
                await self.look()
                if acts and not self._budget.exists:
                    return
            except Exception as error:  # noqa: BLE001 - whatever it was, the next look may succeed
                logger.warning("the budget is not looked at (%s)", type(error).__name__)
            await asyncio.sleep(_EVERY)

    async def look(self) -> None:
        """Count, and pause the queues or let them go on."""
        before = self.spent
        self.spent = await asyncio.to_thread(self._budget.reached, datetime.now(UTC))
        self._metrics.spent_today.set(self._budget.spent_today)
        if self._budget.unpriced and not self._warned:
            self._warned = True
            logger.warning("some pages have no price, so that the budget does not count them")
        if not self._leads():
            return
        async with get_client() as client:
            await (pause(client, self.spent) if self.spent else resume(client))
        if self.spent is not None and before is None:
            logger.warning("%s: no new work is taken until midnight (UTC)", self.spent.reason)
            emit_event(
                "panelworks.accounting.budget.spent", _RESOURCE, payload=self.spent.model_dump(mode="json")
            )
        elif self.spent is None and before is not None:
            logger.warning("a new day's budget: work is taken again")
            emit_event("panelworks.accounting.budget.renewed", _RESOURCE)


async def pause(client: PrefectClient, spent: Halt) -> None:
    """Pause the queues of our pools, and write why before what they say themselves."""
    for queue in await _queues(client):
        if not queue.is_paused:
            why = f"{_MARK}{spent.reason}; it goes on at {spent.until:%Y-%m-%d %H:%M} UTC."
            told = _BETWEEN.join(filter(None, [why, queue.description]))
            await client.update_work_queue(queue.id, is_paused=True, description=told)


async def resume(client: PrefectClient) -> None:
    """Let the queues go on that `pause` paused."""
    for queue in await _queues(client):
        told = queue.description or ""
        if told.startswith(_MARK):
            own = told.partition(_BETWEEN)[2]
            await client.update_work_queue(queue.id, is_paused=False, description=own)


async def _queues(client: PrefectClient) -> list[WorkQueue]:
    found: list[WorkQueue] = []
    for pool in pools():
        try:
            found += await client.read_work_queues(pool)
        except ObjectNotFound:  # a target that nobody set up
            continue
    return [queue for queue in found if queue.name in QUEUES]
