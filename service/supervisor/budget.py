"""The day's budget: once it is spent, no queue gives work to a worker until the next day."""

import asyncio
import logging
from datetime import UTC, datetime
from typing import Final

from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.objects import WorkQueue
from prefect.events import emit_event
from prefect.exceptions import ObjectNotFound

from deployments.checkout import pools
from deployments.names import QUEUES
from panelworks.accounting.budget import Budget, Halt
from panelworks.page.engine import Engine
from service.supervisor.leadership import Leadership

logger = logging.getLogger(__name__)

CHECK_INTERVAL_SECONDS: Final = 15.0
_PAUSE_MARK: Final = "Paused by the budget: "
"""Start of the description of the queues that we paused. Queues that a person paused are not changed."""
_SEPARATOR: Final = "\n\n"
"""Between our description and the operator's."""
_RESOURCE: Final = {"prefect.resource.id": "panelworks.budget", "prefect.resource.name": "budget"}


class BudgetEnforcer:
    """Pauses the queues while the day's budget is spent."""

    def __init__(self, engine: Engine, leadership: Leadership) -> None:
        self._leadership = leadership
        self._budget = Budget(engine.settings, engine.ledger)
        self._spent: Halt | None = None

    async def run(self) -> None:
        """Check repeatedly while the supervisor runs. Without a budget, one check resumes what a budget paused."""
        while True:
            try:
                if self._leadership.leads:
                    await self.check()
                    if not self._budget.exists:
                        return
            except Exception as error:  # noqa: BLE001 - whatever the cause, the next check may succeed
                logger.warning("budget not checked: %s", type(error).__name__)
            await asyncio.sleep(CHECK_INTERVAL_SECONDS if self._budget.exists else 1.0)

    async def check(self) -> None:
        """Pause the queues when the budget is spent, else resume them."""
        before = self._spent
        self._spent = await asyncio.to_thread(self._budget.reached, datetime.now(UTC))
        async with get_client() as client:
            if self._spent is not None:
                is_first = await pause_queues(client, self._spent)
                if is_first and before is None:
                    logger.warning("queues paused until midnight (UTC): %s", self._spent.reason)
                    payload = self._spent.model_dump(mode="json")
                    emit_event("panelworks.budget.spent", _RESOURCE, payload=payload)
            elif await resume_queues(client) and self._budget.exists:
                logger.warning("queues resumed: a new day's budget is available")
                emit_event("panelworks.budget.renewed", _RESOURCE)


async def pause_queues(client: PrefectClient, spent: Halt) -> bool:
    """Pause the queues of our pools, and write the reason before their descriptions.

    Returns False when the budget had paused a queue before, perhaps through another supervisor.
    """
    queues = await _read_queues(client)
    for queue in queues:
        if not queue.is_paused:
            reason = f"{_PAUSE_MARK}{spent.reason}; it goes on at {spent.until:%Y-%m-%d %H:%M} UTC."
            description = _SEPARATOR.join(filter(None, [reason, queue.description]))
            await client.update_work_queue(queue.id, is_paused=True, description=description)
    return not any(_is_paused_by_budget(queue) for queue in queues)


async def resume_queues(client: PrefectClient) -> bool:
    """Resume the queues that `pause_queues` paused, and restore their descriptions; False when there are none."""
    paused = [queue for queue in await _read_queues(client) if _is_paused_by_budget(queue)]
    for queue in paused:
        original = (queue.description or "").partition(_SEPARATOR)[2]
        await client.update_work_queue(queue.id, is_paused=False, description=original)
    return bool(paused)


def _is_paused_by_budget(queue: WorkQueue) -> bool:
    return (queue.description or "").startswith(_PAUSE_MARK)


async def _read_queues(client: PrefectClient) -> list[WorkQueue]:
    queues: list[WorkQueue] = []
    for pool in pools():
        try:
            queues += await client.read_work_queues(pool)
        except ObjectNotFound:  # the pool of a target that is not set up
            continue
    return [queue for queue in queues if queue.name in QUEUES]
