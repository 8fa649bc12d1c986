"""The worker of `ecs` pools: starts tasks as Prefect's ECS worker does, follows them, and reports how they end."""

import asyncio
import logging
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Self
from uuid import UUID

import anyio.abc
from prefect.client.schemas.objects import FlowRun, State, StateType, WorkPool
from prefect.exceptions import ObjectNotFound
from prefect.states import AwaitingRetry, Cancelled
from prefect_aws import AwsCredentials
from prefect_aws.settings import EcsObserverSettings
from prefect_aws.workers.ecs_worker import (
    ECSJobConfiguration,
    ECSWorker,
    ECSWorkerResult,
    parse_identifier,
)
from pydantic import Field

from deployments.ecs.api import MAX_DESCRIBED, EcsApi, EcsError, Task
from deployments.ecs.follower import POLL_SECONDS, FollowedTask, TaskFollower
from deployments.ecs.reports import RunReporter
from deployments.ecs.stopped_tasks import explain_refusal
from deployments.followed_runs import Missing, is_taken_by, read_other_workers, read_run, read_runs

logger = logging.getLogger(__name__)

LOG_LINES: Final = 50
ATTEMPT_TAG: Final = "panelworks/run-count"
"""Tag of a task: how often its run had started before."""
_RUN_TAG: Final = "prefect.io/flow-run-id"
"""Tag that Prefect gives to each task."""
_UNFINISHED: Final = (StateType.PENDING, StateType.RUNNING, StateType.CANCELLING)
UNRESPONSIVE_AGE = timedelta(seconds=90)
"""A run that has been Cancelling for longer does not react."""
NEVER_STARTED_AGE = timedelta(minutes=2)
"""A run that is Pending for longer, without a task and without a worker that runs, gets no task any more."""


class TaskNotStarted(RuntimeError):
    """ECS did not start a task; the message says why and what to do."""


class EcsConfiguration(ECSJobConfiguration):
    """The configuration of a run: Prefect's, and how its task is followed."""

    poll_seconds: float = Field(default=POLL_SECONDS, gt=0)
    log_lines: int = Field(default=LOG_LINES, ge=0)

    def prepare_for_flow_run(
        self,
        flow_run: FlowRun,
        deployment: Any = None,
        flow: Any = None,
        work_pool: WorkPool | None = None,
        worker_name: str | None = None,
        worker_id: UUID | None = None,
    ) -> None:
        """Called by Prefect: mark the task, so that a worker finds it again."""
        self.labels = {**self.labels, ATTEMPT_TAG: str(flow_run.run_count)}
        super().prepare_for_flow_run(flow_run, deployment, flow, work_pool, worker_name, worker_id=worker_id)
        if work_pool is not None:
            self.task_run_request["startedBy"] = str(work_pool.id)

    def api(self, cluster: str | None = None) -> EcsApi:
        """The cluster of the pool, or another one of the same account."""
        return EcsApi(self.aws_credentials or AwsCredentials(), cluster or self.cluster or "default")


class EcsWorker(ECSWorker):
    """Runs each flow run as a task of ECS and follows the task until it has stopped.

    Prefect's ECS worker returns when the task is created. This one occupies a slot of its limit until the task has
    stopped. At its start and with every heartbeat, it looks for tasks of its pool that no worker follows.
    """

    job_configuration = EcsConfiguration
    _display_name = "Panelworks ECS"
    _description = "Run each flow run as a task of AWS ECS, and report to it what happens to its task."

    @classmethod
    def __dispatch_key__(cls) -> str:
        """The name in Prefect's list of worker types, where 'ecs' is Prefect's own worker."""
        return "panelworks-ecs"

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._starting: set[UUID] = set()
        """Runs whose task this worker is starting."""
        self._follower = TaskFollower(self._on_change, self._on_stop, self._end_cancelled)
        self._following: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        """Start the worker. Prefect's reader of ECS events is started only if its queue is configured.

        Without a queue, Prefect's worker logs warnings or errors, and reads nothing.
        """
        if "queue_name" in EcsObserverSettings().sqs.model_fields_set:
            await super().__aenter__()
        else:
            await super(ECSWorker, self).__aenter__()
        return self

    async def setup(self) -> None:
        """Start Prefect's worker, then follow tasks, also those that it has found at its start."""
        await super().setup()
        self._following = asyncio.create_task(self._follower.run())

    async def teardown(self, *exc_info: Any) -> None:
        """Stop the worker. Its tasks continue, and the next worker of the pool follows them."""
        try:
            await super().teardown(*exc_info)
        finally:
            if self._following is not None:
                self._following.cancel()
                with suppress(asyncio.CancelledError):
                    await self._following

    async def run(
        self,
        flow_run: FlowRun,
        configuration: ECSJobConfiguration,
        task_status: anyio.abc.TaskStatus[Any] | None = None,
    ) -> ECSWorkerResult:
        """Start a task and follow it until it has stopped and its run has its state.

        The result has the status 0 in any case: another status would make Prefect report a second crash.

        Raises:
            TaskNotStarted: ECS did not start a task, for a reason that is known.
        """
        if not isinstance(configuration, EcsConfiguration):
            raise TypeError(f"{type(configuration).__name__} does not say how a task is followed.")
        self._starting.add(flow_run.id)
        try:
            result = await super().run(flow_run, configuration, task_status)
            followed = self._follow(flow_run, configuration, result.identifier, attempt=flow_run.run_count)
        except Exception as error:
            if explanation := explain_refusal(error):
                raise TaskNotStarted(explanation) from error
            raise
        finally:
            self._starting.discard(flow_run.id)
        await followed.ended.wait()
        return result

    def _follow(
        self, flow_run: FlowRun, configuration: EcsConfiguration, identifier: str, attempt: int | None = None
    ) -> FollowedTask:
        cluster, arn = parse_identifier(identifier)
        return self._follower.follow(
            FollowedTask(
                api=configuration.api(cluster),
                arn=arn,
                flow_run=flow_run,
                container=configuration.container_name,
                attempt=attempt,
                poll_seconds=configuration.poll_seconds,
                log_lines=configuration.log_lines,
            )
        )

    async def _on_change(self, followed: FollowedTask, task: Task) -> None:
        if followed.attempt is None and task.tags.get(ATTEMPT_TAG, "").isdigit():
            followed.attempt = int(task.tags[ATTEMPT_TAG])
        await self._reporter().report_change(followed, task)

    async def _on_stop(self, followed: FollowedTask, task: Task | None) -> bool:
        if followed.flow_run.id in self._starting:
            return True  # this is the task of an earlier attempt
        return await self._reporter().report_stop(followed, task)

    async def _end_cancelled(self) -> None:
        """Stop the tasks of cancelled runs.

        Prefect stops a task only while it submits the run. A run whose container has started ends itself; its task is
        stopped if it does not react.
        """
        followed = {task.arn: task for task in self._follower.tasks}
        for run in await read_runs(self.client, self.work_pool.name, (StateType.CANCELLING,)):
            task = followed.get((run.infrastructure_pid or "").rpartition("::")[2])
            if task is None or task.last is None or task.last.has_stopped or run.state is None:
                continue
            if task.last.has_started:
                if datetime.now(UTC) - run.state.timestamp < UNRESPONSIVE_AGE:
                    continue
                # Before its task ends, because SIGTERM would schedule the run again.
                ended: State[Any] = Cancelled(
                    message="It did not react to the cancellation; its task was stopped."
                )
                await self.client.set_flow_run_state(run.id, ended, force=True)
            task.is_unwanted = True
        for task in followed.values():
            if task.is_unwanted and not (task.last and task.last.has_stopped):
                try:
                    await task.api.stop(task.arn, "Its flow run was cancelled.")
                except EcsError as error:
                    logger.warning("task %s of a cancelled run not stopped yet: %s", task.arn, error)

    def _reporter(self) -> RunReporter:
        return RunReporter(self.client, self.get_flow_run_logger)

    async def sync_with_backend(self) -> None:
        """Send the heartbeat, and follow tasks that no worker follows."""
        await super().sync_with_backend()
        try:
            await self.adopt()
        except Exception as error:  # noqa: BLE001 - AWS or Prefect is unavailable: the next heartbeat tries again
            logger.warning("tasks without a worker not looked for: %s: %s", type(error).__name__, error)

    async def adopt(self) -> list[str]:
        """Follow the tasks of unfinished runs of the pool that no running worker took; returns their ARNs.

        A run that waits for a task, of which no worker starts one, is scheduled again.
        """
        before = self._follower.arns
        others = await read_other_workers(self.client, self.work_pool.name, self.name)
        unfinished = await read_runs(self.client, self.work_pool.name, _UNFINISHED)
        untended = [
            run for run in unfinished if run.id not in self._starting and not is_taken_by(run, others)
        ]
        for run in untended:
            pid = run.infrastructure_pid or ""
            if "::" in pid and parse_identifier(pid).task_arn not in before:
                await self._adopt_run(run, pid)
        without_task = {run.id: run for run in untended if not run.infrastructure_pid}
        if without_task:
            await self._adopt_unrecorded(without_task)
        return sorted(self._follower.arns - before)

    async def _adopt_run(self, run: FlowRun, identifier: str) -> None:
        try:
            configuration = await EcsConfiguration.resolve_for_flow_run(
                run,
                client=self.client,
                work_pool=self.work_pool,
                worker_name=self.name,
                worker_id=self.backend_id,
            )
        except ObjectNotFound:
            logger.warning("task of run %s not followed: its deployment was deleted", run.id)
            return
        self._follow(run, configuration, identifier)
        logger.info("task %s of run %s found, which no worker follows", identifier, run.id)

    async def _adopt_unrecorded(self, without_task: dict[UUID, FlowRun]) -> None:
        """Find tasks whose worker died before it stored their identifiers; without a task, schedule the run again."""
        pool: EcsConfiguration = await EcsConfiguration.from_template_and_values(
            self.work_pool.base_job_template, {}, client=self.client
        )
        api = pool.api()
        started = [
            arn for arn in await api.list_started_by(str(self.work_pool.id)) if arn not in self._follower.arns
        ]
        for start in range(0, len(started), MAX_DESCRIBED):
            for arn, task in (await api.describe(started[start : start + MAX_DESCRIBED])).items():
                tagged = task.tags.get(_RUN_TAG)
                run = without_task.pop(UUID(tagged), None) if tagged else None
                if run is not None:
                    identifier = f"{api.cluster}::{arn}"
                    await self.client.update_flow_run(run.id, infrastructure_pid=identifier)
                    await self._adopt_run(run, identifier)
        for run in without_task.values():
            await self._schedule_again(run)

    async def _schedule_again(self, run: FlowRun) -> None:
        """Schedule a run again that has been waiting too long for a task that nobody starts."""
        current = await read_run(self.client, run.id)
        if current is None or isinstance(current, Missing) or current.state is None:
            return
        age = datetime.now(UTC) - current.state.timestamp
        if current.infrastructure_pid or not current.state.is_pending() or age < NEVER_STARTED_AGE:
            return
        waiting: State[Any] = AwaitingRetry(message="Its worker stopped before it started a task.")
        await self.client.set_flow_run_state(run.id, waiting)
        logger.warning("run %s scheduled again: no worker starts a task for it", run.id)
