"""What the Prefect server says about waiting runs, workers, the supervisor and its own services."""

import logging
import math
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, Generic, TypeVar

import httpx
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterExpectedStartTime,
    FlowRunFilterState,
    FlowRunFilterStateType,
    WorkPoolFilter,
    WorkPoolFilterName,
    WorkQueueFilter,
    WorkQueueFilterName,
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.client.schemas.sorting import FlowRunSort
from prefect.exceptions import ObjectNotFound, PrefectException

from deployments.checkout import pools
from deployments.names import QUEUES, Priority
from service.background_services import stopped_services
from service.gateway.jobs import Jobs, as_panelworks_error
from service.supervisor.leadership import LeaseStatus, read_lease_status

logger = logging.getLogger(__name__)
Value = TypeVar("Value")

_CACHE_SECONDS: Final = 3.0
_SERVICE_CHECK_SECONDS: Final = 30.0
"""Between two checks of the server's background services."""
_WORKER_SILENCE: Final = timedelta(seconds=100)
"""Time without a heartbeat after which a worker counts as dead: a little more than three of its intervals."""


@dataclass(frozen=True)
class Backlog:
    """The runs that wait in a queue. Runs that a schedule created for later do not wait."""

    runs: int
    oldest_seconds: float
    """Since the first of them should have started; 0 when none waits."""


@dataclass(frozen=True)
class Supply:
    """Who processes the runs of our pools."""

    workers: Mapping[str, int]
    """Workers that poll, by pool. Pools that do not exist are left out."""
    is_paused: bool
    """Is a pool or a queue paused?"""


class _Cached(Generic[Value]):
    """An answer of the server, read again when it is older than some seconds."""

    def __init__(self, read: Callable[[], Awaitable[Value]]) -> None:
        self._read = read
        self._answer: tuple[float, Value] | None = None

    async def get(self) -> Value:
        """The answer.

        Raises:
            PanelworksError: the server does not answer.
        """
        now = time.monotonic()
        if self._answer is None or now - self._answer[0] >= _CACHE_SECONDS:
            try:
                self._answer = (now, await self._read())
            except (httpx.HTTPError, PrefectException) as error:
                raise as_panelworks_error(error) from error
        return self._answer[1]


class PrefectReadings:
    """Reads the state of the server. Answers are cached for some seconds, since anyone may request the health."""

    def __init__(self, jobs: Jobs) -> None:
        self._jobs = jobs
        self._backlogs = _Cached(self._request_backlogs)
        self._supply = _Cached(self._request_supply)
        self._lease = _Cached(lambda: read_lease_status(jobs.client))
        self._stopped: dict[str, str] = {}
        self._services_at = -math.inf

    async def is_healthy(self) -> bool:
        """Does the server answer?"""
        return await self._jobs.client.api_healthcheck() is None

    async def read_backlogs(self) -> Mapping[Priority, Backlog]:
        """The runs that wait in each queue.

        Raises:
            PanelworksError: the server does not answer.
        """
        return await self._backlogs.get()

    async def read_supply(self) -> Supply:
        """The workers that poll our pools.

        Raises:
            PanelworksError: the server does not answer.
        """
        return await self._supply.get()

    async def read_supervisor(self) -> LeaseStatus:
        """Whether a supervisor acts for this server, and its counters.

        Raises:
            PanelworksError: the server does not answer.
        """
        return await self._lease.get()

    async def find_stopped_services(self) -> dict[str, str]:
        """Background services of the server that do not work, and the evidence; checked at most every 30 seconds."""
        if time.monotonic() >= self._services_at:
            self._services_at = time.monotonic() + _SERVICE_CHECK_SECONDS
            try:
                found = await stopped_services(self._jobs.client)
            except (httpx.HTTPError, PrefectException) as error:
                logger.warning("background services not checked: %s", type(error).__name__)
                return self._stopped
            for name in found.keys() - self._stopped.keys():
                logger.error("%s", found[name])
            self._stopped = found
        return self._stopped

    async def _request_backlogs(self) -> Mapping[Priority, Backlog]:
        return {queue: await self._request_backlog(queue) for queue in QUEUES}

    async def _request_backlog(self, queue: Priority) -> Backlog:
        """One request: a page of runs that has one entry also says how many runs there are."""
        now = datetime.now(UTC)
        # The time of the first attempt: a run that waits for a slot is scheduled anew every 30 seconds.
        runs = FlowRunFilter(
            state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.SCHEDULED])),
            expected_start_time=FlowRunFilterExpectedStartTime(before_=now),
        )
        query = {
            "flow_runs": runs.model_dump(mode="json"),
            "work_pools": _named(pools()).model_dump(mode="json"),
            "work_pool_queues": WorkQueueFilter(name=WorkQueueFilterName(any_=[queue])).model_dump(
                mode="json"
            ),
            "sort": FlowRunSort.EXPECTED_START_TIME_ASC.value,
            "limit": 1,
        }
        answer = (await self._jobs.client.request("POST", "/flow_runs/paginate", json=query)).json()
        oldest = [FlowRun.model_validate(run).expected_start_time for run in answer["results"]]
        ages = [(now - start).total_seconds() for start in oldest if start is not None]
        return Backlog(runs=answer["count"], oldest_seconds=max([0.0, *ages]))

    async def _request_supply(self) -> Supply:
        client = self._jobs.client
        workers: dict[str, int] = {}
        paused = False
        since = datetime.now(UTC) - _WORKER_SILENCE
        for pool in await client.read_work_pools(work_pool_filter=_named(pools())):
            try:
                known = await client.read_workers_for_work_pool(pool.name)
                queues = await client.read_work_queues(pool.name)
            except ObjectNotFound:
                continue  # it was deleted in between
            beats = (worker.last_heartbeat_time for worker in known)
            workers[pool.name] = sum(beat is not None and beat > since for beat in beats)
            paused |= pool.is_paused or any(queue.is_paused for queue in queues)
        return Supply(workers, paused)


def _named(names: tuple[str, ...]) -> WorkPoolFilter:
    return WorkPoolFilter(name=WorkPoolFilterName(any_=list(names)))
