"""Crashed pages are started again: the same run, whose finished stages come from the cache.

Not an automation: on SQLite, Prefect's own event handling drops an event after four attempts on a
locked database, and repeats those whose later triggers failed. Asking for crashed runs misses none.
"""

import asyncio
import logging
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

from orchestration.page_runs import fail_crashed_page
from panelworks.page.engine import Engine
from panelworks.page.pipeline import MAX_RUNS
from service.gateway.jobs import Jobs
from service.gateway.leadership import Leadership

logger = logging.getLogger(__name__)

_EVERY: Final = 3.0
_SETTLED: Final = timedelta(seconds=8)
"""A process worker reports a crash twice, some three seconds apart; the second report would undo a restart."""


async def restart_crashed(jobs: Jobs, engine: Engine, leadership: Leadership) -> None:
    """Look for crashed pages, for as long as the gateway runs and while it is the leader."""
    ended: set[UUID] = set()
    while True:
        await asyncio.sleep(_EVERY)
        if not leadership.leads:
            continue
        try:
            for run in await jobs.crashed():
                settled = run.state is not None and datetime.now(UTC) - run.state.timestamp > _SETTLED
                if not settled or run.id in ended:
                    continue
                crashes = await jobs.crashes(run)
                if crashes < MAX_RUNS:
                    await jobs.start_again(run)
                    logger.warning("page %s crashed: it is started again", run.id)
                else:
                    if await asyncio.to_thread(fail_crashed_page, run, crashes, engine):
                        logger.error("page %s crashed %s times: it is given up", run.id, crashes)
                    ended.add(run.id)
        except Exception as error:  # noqa: BLE001 - whatever it was, the next look may succeed
            logger.warning("no look for crashed pages (%s)", type(error).__name__)
