"""The worker of `runpod` pools: rents a pod for each flow run, follows it, and ends it when it is not needed."""

import logging
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final
from uuid import UUID

import anyio.abc
from prefect.client.schemas.objects import FlowRun, State
from prefect.exceptions import InfrastructureNotAvailable, InfrastructureNotFound
from prefect.states import Cancelled, Crashed, Failed
from prefect.workers.base import BaseWorker, BaseWorkerResult

from deployments.followed_runs import Missing, read_run
from deployments.runpod.api import Pod, Refused, RunPodApi, RunPodError, Unavailable, pod_name, pod_prefix
from deployments.runpod.configuration import RunPodConfiguration, RunPodVariables
from deployments.runpod.lease import LAST_STATE_SECONDS, Ending, follow, is_retried_elsewhere, rent

logger = logging.getLogger(__name__)

ORPHAN_GRACE_SECONDS: Final = 120.0
"""A pod that no worker follows is ended this long after its time limit."""


class RunPodResult(BaseWorkerResult):
    """The result of a run: status 0 if Prefect knows how the run ended, 1 if the pod ended before the run."""


class RunPodWorker(BaseWorker[RunPodConfiguration, RunPodVariables, RunPodResult]):
    """Rents a RunPod pod for each flow run and ends it with the run.

    Pods are named after their pool and run. At its start and with every heartbeat, the worker looks for pods of its
    pool that no worker follows, for example after a crash of a worker. It ends those whose run is over.
    """

    type = "runpod"
    job_configuration = RunPodConfiguration
    job_configuration_variables = RunPodVariables
    _description = "Run each flow run in a GPU pod rented from RunPod."
    _display_name = "RunPod"
    _documentation_url = "https://docs.runpod.io/pods/overview"
    _logo_url = "https://docs.runpod.io/favicon.ico"

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._followed: set[str] = set()
        """Names of the pods that this worker follows."""

    async def run(
        self,
        flow_run: FlowRun,
        configuration: RunPodConfiguration,
        task_status: anyio.abc.TaskStatus[Any] | None = None,
    ) -> RunPodResult:
        """Rent a pod, follow it until the run is over, end the pod.

        A worker that is stopped leaves its pods running: their runs continue, and the next worker ends them.

        Raises:
            RunPodError: no pod could be rented.
        """
        name = pod_name(self.work_pool.id, flow_run.id, flow_run.run_count)
        self._followed.add(name)
        try:
            async with configuration.api() as api:
                pod = await rent(
                    api,
                    configuration.pod_request(name),
                    configuration.gpu_types,
                    max_price=configuration.max_price_per_hour,
                    timeout_seconds=configuration.capacity_timeout_seconds,
                    is_wanted=partial(self._is_wanted, flow_run.id),
                    interval_seconds=configuration.poll_seconds * 3,
                )
                if task_status is not None:
                    task_status.started(pod.id if pod else name)
                if pod is None:
                    return RunPodResult(identifier=name, status_code=0)
                logger.info(
                    "pod %s rented for run %s: %.2f USD per hour", pod.id, flow_run.id, pod.cost_per_hour
                )
                ending = await follow(
                    api,
                    self.client,
                    pod,
                    flow_run,
                    max_seconds=configuration.max_runtime_minutes * 60,
                    interval_seconds=configuration.poll_seconds,
                )
                state = await self._report(flow_run.id, ending)
                await self._end(api, pod)
                if state is not None:
                    await self._keep(flow_run.id, state)
        finally:
            self._followed.discard(name)
        return RunPodResult(identifier=pod.id, status_code=1 if ending is Ending.DIED else 0)

    async def kill_infrastructure(
        self, infrastructure_pid: str, configuration: RunPodConfiguration, grace_seconds: int = 30
    ) -> None:
        """End a pod; Prefect calls this when a run is cancelled.

        Raises:
            InfrastructureNotFound: the pod does not exist any more.
            InfrastructureNotAvailable: RunPod is unavailable, or refuses.
        """
        del grace_seconds  # RunPod has its own grace period
        async with configuration.api() as api:
            try:
                if await api.read_pod(infrastructure_pid) is None:
                    raise InfrastructureNotFound(f"Pod {infrastructure_pid} does not exist.")
                await api.delete(infrastructure_pid)
            except RunPodError as error:
                raise InfrastructureNotAvailable(str(error)) from error

    async def sync_with_backend(self) -> None:
        """Send the heartbeat, and end pods that no worker follows."""
        await super().sync_with_backend()
        try:
            await self.end_orphans()
        except (RunPodError, ValueError) as error:
            logger.warning("orphaned pods not checked: %s", error)

    async def end_orphans(self) -> list[str]:
        """End the pods of this pool whose runs are over; returns their ids.

        Raises:
            RunPodError: RunPod is unavailable, or refuses.
            ValueError: the pool has no credentials yet.
        """
        configuration: RunPodConfiguration = await RunPodConfiguration.from_template_and_values(
            self.work_pool.base_job_template, {}, client=self.client
        )
        prefix = pod_prefix(self.work_pool.id)
        async with configuration.api() as api:
            ended = []
            for pod in await api.list_pods():
                if pod.name.startswith(prefix) and await self._is_orphan(pod, configuration):
                    await api.delete(pod.id)
                    logger.warning("orphaned pod %s ended", pod.id)
                    ended.append(pod.id)
            return ended

    async def _is_orphan(self, pod: Pod, configuration: RunPodConfiguration) -> bool:
        if pod.purpose is None or pod.name in self._followed:
            return False
        run_id, attempt = pod.purpose
        run = await read_run(self.client, run_id)
        if run is None:
            return False
        if isinstance(run, Missing) or run.state is None or run.state.is_final():
            return True
        if is_retried_elsewhere(run, attempt, pod_ended=pod.ended):
            return True
        age = (datetime.now(UTC) - pod.created).total_seconds() if pod.created else 0.0
        if age > configuration.max_runtime_minutes * 60 + ORPHAN_GRACE_SECONDS:
            await self._report(run_id, Ending.OVERDUE)
            return True
        if pod.ended and not run.state.is_scheduled():
            await self._propose(run_id, Crashed(message="Its pod ended while its worker was not running."))
        return pod.ended

    async def _is_wanted(self, flow_run_id: UUID) -> bool:
        run = await read_run(self.client, flow_run_id)
        if run is None:
            return True
        if isinstance(run, Missing) or run.state is None or run.state.is_final():
            return False
        if run.state.is_cancelling():
            await self._propose(flow_run_id, Cancelled(message="Cancelled before a pod was rented."))
            return False
        return True

    async def _report(self, flow_run_id: UUID, ending: Ending) -> State[Any] | None:
        """Set and return the state that the run cannot set itself; before its pod ends, which would count as a crash."""
        state: State[Any]
        if ending is Ending.OVERDUE:
            message = "It exceeded the time limit of the work pool; its pod was ended."
            state = Failed(name="TimedOut", message=message)
        elif ending is Ending.UNRESPONSIVE:
            state = Cancelled(message="It did not react to the cancellation; its pod was ended.")
        else:
            return None
        await self._propose(flow_run_id, state)
        return state

    async def _keep(self, flow_run_id: UUID, state: State[Any]) -> None:
        """Set a state again that the run replaces while its pod ends, when it starts only then or reports a crash."""
        with anyio.move_on_after(LAST_STATE_SECONDS):
            while True:
                run = await read_run(self.client, flow_run_id)
                if isinstance(run, FlowRun) and run.state and run.state.name != state.name:
                    await self._propose(flow_run_id, state)
                await anyio.sleep(1)

    async def _propose(self, flow_run_id: UUID, state: State[Any]) -> None:
        await self.client.set_flow_run_state(flow_run_id, state, force=True)

    async def _end(self, api: RunPodApi, pod: Pod) -> None:
        """End a pod, and retry as long as RunPod is unavailable: a pod that is not ended costs money."""
        while True:
            try:
                return await api.delete(pod.id)
            except Unavailable as error:
                logger.warning("pod %s not ended yet: %s", pod.id, error)
            except Refused as error:
                logger.error("pod %s not ended, end it by hand: %s", pod.id, error)
                return None
