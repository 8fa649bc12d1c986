"""Follows tasks of ECS: asks for all of them together, and reports what changed."""

import logging
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

import anyio
from prefect.client.schemas.objects import FlowRun

from deployments.ecs.api import MAX_DESCRIBED, EcsApi, EcsError, Task

logger = logging.getLogger(__name__)

POLL_SECONDS: Final = 15.0
"""Between two requests, unless the pool's form says otherwise."""
MISSING_CHECKS: Final = 4
"""A task that ECS does not know so often in a row does not exist. A new task may be missing at first."""


@dataclass(eq=False)
class FollowedTask:
    """A task and the run that it executes."""

    api: EcsApi
    arn: str
    flow_run: FlowRun
    """As it was when the task was started or found."""
    container: str | None = None
    """Name of the container in which the run is executed, if it is known."""
    attempt: int | None = None
    """How often the run had started before its task, if it is known."""
    poll_seconds: float = POLL_SECONDS
    log_lines: int = 0
    """How many lines of the container's log are reported if the run ends without a report."""
    last: Task | None = None
    """As ECS described it last."""
    is_unwanted: bool = False
    """Its run was cancelled: the task is stopped."""
    missing: int = 0
    """How often in a row ECS did not know it."""
    ended: anyio.Event = field(default_factory=anyio.Event)
    """The task has stopped, and this was reported."""


class TaskFollower:
    """Asks ECS for the followed tasks at an interval, at most a hundred with one request."""

    def __init__(
        self,
        on_change: Callable[[FollowedTask, Task], Awaitable[None]],
        on_stop: Callable[[FollowedTask, Task | None], Awaitable[bool]],
        on_checked: Callable[[], Awaitable[None]],
    ) -> None:
        """Follow nothing yet.

        Args:
            on_change: Called with a task whose description changed, also with the first one.
            on_stop: Called with a task that stopped, or None if ECS does not know it any more. It returns whether
                this was reported; if not, or if it raises, it is called again after the interval.
            on_checked: Called after each check of all tasks.
        """
        self._on_change = on_change
        self._on_stop = on_stop
        self._on_checked = on_checked
        self._followed: dict[str, FollowedTask] = {}
        self._not_empty = anyio.Event()

    def follow(self, task: FollowedTask) -> FollowedTask:
        """Follow a task; returns the one that is already followed under this ARN, if there is one."""
        self._not_empty.set()
        return self._followed.setdefault(task.arn, task)

    @property
    def arns(self) -> set[str]:
        """The tasks that are followed."""
        return set(self._followed)

    @property
    def tasks(self) -> list[FollowedTask]:
        return list(self._followed.values())

    async def run(self) -> None:
        """Check the tasks until this is cancelled; no error ends it."""
        while True:
            if not self._followed:
                self._not_empty = anyio.Event()
                await self._not_empty.wait()
            await anyio.sleep(
                min((task.poll_seconds for task in self._followed.values()), default=POLL_SECONDS)
            )
            await self.check()

    async def check(self) -> None:
        """Ask for all followed tasks once. Tasks that AWS gives no answer about are asked for the next time."""
        for api, batch in self._batches():
            try:
                described = await api.describe([task.arn for task in batch])
            except EcsError as error:
                logger.warning("%s tasks of cluster %s not checked: %s", len(batch), api.cluster, error)
                continue
            for task in batch:
                await self._update(task, described.get(task.arn))
        try:
            await self._on_checked()
        except Exception:
            logger.exception("cancelled runs not checked, retried after the next check")

    def _batches(self) -> Iterator[tuple[EcsApi, list[FollowedTask]]]:
        clusters: dict[tuple[int, str], list[FollowedTask]] = defaultdict(list)
        for task in self._followed.values():
            clusters[task.api.key].append(task)
        for tasks in clusters.values():
            for start in range(0, len(tasks), MAX_DESCRIBED):
                yield tasks[0].api, tasks[start : start + MAX_DESCRIBED]

    async def _update(self, task: FollowedTask, now: Task | None) -> None:
        task.missing = 0 if now else task.missing + 1
        try:
            if now and now != task.last:
                await self._on_change(task, now)
            task.last = now or task.last
            if (now and now.has_stopped) or task.missing >= MISSING_CHECKS:
                if not await self._on_stop(task, now):
                    return
                self._followed.pop(task.arn, None)
                task.ended.set()
        except Exception:
            logger.exception("task %s not reported, retried after the next check", task.arn)
