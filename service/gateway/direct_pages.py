"""Pages processed inside the gateway, for callers that wait for one page at a time, and the budget that stops them."""

import asyncio
import logging
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final, TypeVar

from panelworks.accounting.budget import Budget, Halt
from panelworks.domain.request import PageRequest
from panelworks.domain.result import PageResult
from panelworks.errors import Transient
from panelworks.page.direct import deliver_directly
from panelworks.page.engine import Engine
from service.gateway.metrics import Metrics

logger = logging.getLogger(__name__)

Made = TypeVar("Made")
_MAX_PAGES: Final = 2
"""Pages computed at the same time; a network uses all cores by itself."""
_BUDGET_CHECK_SECONDS: Final = 15.0


class BudgetWatch:
    """Reads from the ledger, which all gateways share, what the pages of the day cost. The supervisor pauses the queues."""

    def __init__(self, engine: Engine, metrics: Metrics) -> None:
        self._budget = Budget(engine.settings, engine.ledger)
        self._metrics = metrics
        self._warned = False
        self.spent: Halt | None = None
        """The budget, while it is used up."""
        if engine.settings.budget_per_day is not None:
            metrics.budget.set(engine.settings.budget_per_day)

    async def run(self) -> None:
        """Check the budget repeatedly for as long as the gateway runs, if there is one."""
        while self._budget.exists:
            try:
                await self._check()
            except Exception as error:  # noqa: BLE001 - whatever the cause, the next check may succeed
                logger.warning("budget not checked: %s", type(error).__name__)
            await asyncio.sleep(_BUDGET_CHECK_SECONDS)

    def require(self) -> None:
        """Refuse new work while the budget is used up.

        Raises:
            Transient: `budget_spent`.
        """
        if self.spent is not None:
            raise Transient(
                "budget_spent", "The budget of the day is spent; new pages are accepted from 00:00 UTC."
            )

    async def _check(self) -> None:
        self.spent = await asyncio.to_thread(self._budget.reached, datetime.now(UTC))
        self._metrics.spent_today.set(self._budget.spent_today)
        if self._budget.unpriced and not self._warned:
            self._warned = True
            logger.warning("budget does not count some pages: they have no price")


class DirectPages:
    """Computes pages in threads. A page that is requested twice at the same time is computed once."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._slots = asyncio.Semaphore(_MAX_PAGES)
        self._in_progress: dict[str, asyncio.Task[PageResult]] = {}

    async def result(self, request: PageRequest, key: str, deadline: float | None) -> tuple[PageResult, bool]:
        """The result of a page, and whether it was computed for another caller at the same time.

        A page that misses its deadline is finished anyway: the next request finds it in the cache.

        Raises:
            TimeoutError: it took longer than `deadline` seconds.
            PanelworksError: the page could not be delivered.
        """
        task = self._in_progress.get(key)
        shared = task is not None
        if task is None:
            task = self._in_progress[key] = asyncio.create_task(self._compute(request))
            task.add_done_callback(lambda _: self._in_progress.pop(key, None))
        return await asyncio.wait_for(asyncio.shield(task), deadline), shared

    async def run(self, work: Callable[[], Made]) -> Made:
        """Run work that uses a network in a thread, in turn with the pages."""
        async with self._slots:
            return await asyncio.to_thread(work)

    async def _compute(self, request: PageRequest) -> PageResult:
        async with self._slots:
            return await asyncio.to_thread(deliver_directly, request, self._engine)
