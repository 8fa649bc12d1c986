"""What the worker reports to a run about its task: log lines, labels, and the state that the run did not set."""

import logging
from collections.abc import Callable
from typing import Any, Final

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import LogFilter, LogFilterFlowRunId
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.client.schemas.responses import SetStateStatus
from prefect.client.schemas.sorting import LogSort
from prefect.exceptions import ObjectNotFound
from prefect.states import AwaitingRetry, Cancelled, Crashed

from deployments.ecs.api import NoContainerLog, Task
from deployments.ecs.follower import FollowedTask
from deployments.ecs.stopped_tasks import Stop, explain
from deployments.followed_runs import Missing, read_run

RunLogger = logging.LoggerAdapter[logging.Logger]

LABEL: Final = "ecs"
"""Start of the labels of a run: `ecs.task`, `ecs.task-definition`, `ecs.console`."""
_MAX_LINE_CHARACTERS: Final = 2000
_RECENT_LOGS: Final = 200
"""Log records of the run that are compared with the lines of its container."""
_MEANINGS: Final = {
    "PROVISIONING": "it waits for an instance or a network interface; if this takes long, check the activity of the"
    " Auto Scaling group and the quotas of the account",
    "PENDING": "its instance pulls the image and prepares the container",
    "RUNNING": "its container runs",
}
"""What the states of a task mean to an operator."""


class RunReporter:
    """Reports the tasks of a worker to their runs."""

    def __init__(self, client: PrefectClient, get_logger: Callable[[FlowRun], RunLogger]) -> None:
        """Reports with a client of Prefect.

        Args:
            client: Of the worker.
            get_logger: Returns the logger of a run.
        """
        self._client = client
        self._get_logger = get_logger

    async def report_change(self, followed: FollowedTask, task: Task) -> None:
        """Log the state of a task; the first time also the task itself and its definition, which become labels."""
        log = self._get_logger(followed.flow_run)
        if followed.last is None:
            console = task.console_url(followed.api.cluster)
            labels = {"task": task.arn, "task-definition": task.definition_arn, "console": console}
            try:
                await self._client.update_flow_run_labels(
                    followed.flow_run.id, {f"{LABEL}.{name}": value for name, value in labels.items()}
                )
            except ObjectNotFound:
                return
            log.info(
                "ECS task %s uses task definition %s (%s): %s",
                task.id,
                task.definition,
                task.definition_arn,
                console,
            )
        if not task.has_stopped and (followed.last is None or followed.last.status != task.status):
            meaning = _MEANINGS.get(task.status)
            log.info("ECS task %s is %s%s", task.id, task.status, f": {meaning}" if meaning else "")
        for reason in _reasons(task) - _reasons(followed.last):
            log.warning("ECS reports about task %s: %s", task.id, reason)

    async def report_stop(self, followed: FollowedTask, task: Task | None) -> bool:
        """Report why a task stopped, and set the state of a run that did not set it itself.

        Args:
            followed: The task.
            task: As it stopped; None if ECS does not know it any more.

        Returns:
            Whether it is reported; not while Prefect is unreachable.
        """
        run = await read_run(self._client, followed.flow_run.id)
        if run is None:
            return False
        if isinstance(run, Missing) or run.state is None or not belongs_to(run, followed, task):
            return True
        stop = explain(task, followed.container)
        log = self._get_logger(run)
        if run.state.is_final() or run.state.is_paused():
            if task is not None:
                log.info("ECS task %s stopped after it reported its run: %s", task.id, _codes(task, followed))
            return True
        if run.state.is_scheduled():
            log.warning("ECS task stopped, and its run is scheduled again. %s", stop.sentence)
            return True
        state = _state_after(run.state, stop)
        if not await self._set_state(run, state):
            return True
        level = logging.ERROR if state.is_crashed() else logging.WARNING
        log.log(level, "ECS task stopped before it reported how its run ended. %s", stop.sentence)
        if shown := task or followed.last:
            await self._report_log(run, followed, shown)
        return True

    async def _set_state(self, run: FlowRun, state: State[Any]) -> bool:
        """Set the state; False if the run was deleted or has changed meanwhile."""
        try:
            answer = await self._client.set_flow_run_state(run.id, state, force=state.is_cancelled())
        except ObjectNotFound:
            return False
        return answer.status == SetStateStatus.ACCEPT

    async def _report_log(self, run: FlowRun, followed: FollowedTask, task: Task) -> None:
        """Log the last lines of the container that are not in the log of the run."""
        log = self._get_logger(run)
        if followed.log_lines < 1:
            return
        try:
            output = await followed.api.read_log(task, followed.container, followed.log_lines)
        except NoContainerLog as missing:
            log.warning("%s", missing)
            return
        known = await self._read_known_lines(run)
        lines = [line[:_MAX_LINE_CHARACTERS] for line in output.lines if not _is_known(line, known)]
        if lines:
            log.error(
                "Last lines of the container (CloudWatch, %s, %s):\n%s",
                output.group,
                output.stream,
                "\n".join(lines),
            )
        else:
            log.info("The container wrote nothing else (CloudWatch, %s, %s)", output.group, output.stream)

    async def _read_known_lines(self, run: FlowRun) -> set[str]:
        records = await self._client.read_logs(
            LogFilter(flow_run_id=LogFilterFlowRunId(any_=[run.id])),
            limit=_RECENT_LOGS,
            sort=LogSort.TIMESTAMP_DESC,
        )
        return {line.strip() for record in records for line in record.message.splitlines()}


def belongs_to(run: FlowRun, followed: FollowedTask, task: Task | None) -> bool:
    """Whether the run is in the attempt that the task executes, and not in a later one.

    Args:
        run: The run now.
        followed: The task.
        task: As it stopped.
    """
    recorded = (run.infrastructure_pid or followed.arn).rpartition("::")[2]
    if recorded != followed.arn:
        return False
    if run.state is None or run.state_type != StateType.PENDING:
        return True
    # A run that waits for its next task still has the identifier of its last one.
    if followed.attempt is not None and run.run_count > followed.attempt:
        return False
    stopped_at = task.stopped_at if task else None
    return stopped_at is None or run.state.timestamp <= stopped_at


def _state_after(state: State[Any], stop: Stop) -> State[Any]:
    if state.is_cancelling():
        return Cancelled(message=f"Its task stopped while it was being cancelled. {stop.sentence}")
    if stop.is_interruption:
        return AwaitingRetry(message=stop.sentence)
    return Crashed(message=stop.sentence)


def _reasons(task: Task | None) -> set[str]:
    """Reasons that ECS gives before a task has stopped; after it they are part of the explanation."""
    if task is None or task.has_stopped:
        return set()
    return {text for text in (task.stopped_reason, *(one.reason for one in task.containers)) if text}


def _codes(task: Task, followed: FollowedTask) -> str:
    container = task.find_container(followed.container)
    code = None if container is None else container.exit_code
    return ", ".join(
        filter(None, [f"exit code {code}" if code is not None else "", task.stop_code, task.stopped_reason])
    )


def _is_known(line: str, known: set[str]) -> bool:
    """Whether a line is empty or in the log of the run, perhaps after the time, the level and the logger's name."""
    text = line.strip()
    return not text or text in known or text.partition(" - ")[2] in known
