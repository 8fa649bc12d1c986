"""The worker of `runpod` pools: rents a pod for each flow run, follows it, and pays for none that is not needed."""

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

from deployments.runpod.api import Away, Refused, RunPodApi, RunPodError
from deployments.runpod.configuration import RunPodConfiguration, RunPodVariables
from deployments.runpod.following import Ending, Missing, follow, run_of, taken_again
from deployments.runpod.pods import Pod, pod_name, pod_prefix
from deployments.runpod.renting import rent

logger = logging.getLogger(__name__)

_SLACK: Final = 120.0
"""Seconds beyond its longest runtime after which a pod that nobody follows is ended."""


class RunPodResult(BaseWorkerResult):
    """How a pod ended: 0 when Prefect knows how the run ended, 1 when the pod died under it."""


class RunPodWorker(BaseWorker[RunPodConfiguration, RunPodVariables, RunPodResult]):
    """Rents a RunPod pod for each flow run and ends it with the run.

    Pods are named after their pool and run. At its start and with every heartbeat the worker looks for pods of
    its pool that nobody follows, such as those of a worker that died: it ends those whose run is over.
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

        A worker that is stopped leaves its pods: their runs go on, and the next worker ends them.

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
                    patience=configuration.capacity_timeout_seconds,
                    wanted=partial(self._is_wanted, flow_run.id),
                    pause=configuration.poll_seconds * 3,
                )
                if task_status is not None:
                    task_status.started(pod.id if pod else name)
                if pod is None:
                    return RunPodResult(identifier=name, status_code=0)
                logger.info("Pod %s: %.2f USD an hour, for run %s", pod.id, pod.cost_per_hour, flow_run.id)
                ending = await follow(
                    api,
                    self.client,
                    pod,
                    flow_run,
                    seconds=configuration.max_runtime_minutes * 60,
                    every=configuration.poll_seconds,
                )
                await self._tell(flow_run.id, ending)
                await self._end(api, pod)
        finally:
            self._followed.discard(name)
        return RunPodResult(identifier=pod.id, status_code=1 if ending is Ending.DIED else 0)

    async def kill_infrastructure(
        self, infrastructure_pid: str, configuration: RunPodConfiguration, grace_seconds: int = 30
    ) -> None:
        """End a pod, as Prefect asks for when a run is cancelled.

        Raises:
            InfrastructureNotFound: it is gone.
            InfrastructureNotAvailable: RunPod is away, or does not let us.
        """
        del grace_seconds  # RunPod has a grace period of its own
        async with configuration.api() as api:
            try:
                if await api.pod(infrastructure_pid) is None:
                    raise InfrastructureNotFound(f"Pod {infrastructure_pid} is gone.")
                await api.delete(infrastructure_pid)
            except RunPodError as trouble:
                raise InfrastructureNotAvailable(str(trouble)) from trouble

    async def sync_with_backend(self) -> None:
        """Heartbeat, and a look at pods that nobody follows."""
        await super().sync_with_backend()
        try:
            await self.sweep()
        except (RunPodError, ValueError) as trouble:
            logger.warning("pods that nobody follows were not looked for: %s", trouble)

    async def sweep(self) -> list[str]:
        """End the pods of this pool whose runs are over; gives their ids.

        Raises:
            RunPodError: RunPod is away, or does not let us.
            ValueError: the pool has no credentials yet.
        """
        configuration: RunPodConfiguration = await RunPodConfiguration.from_template_and_values(
            self.work_pool.base_job_template, {}, client=self.client
        )
        prefix = pod_prefix(self.work_pool.id)
        async with configuration.api() as api:
            ended = []
            for pod in await api.pods():
                if pod.name.startswith(prefix) and await self._is_orphan(pod, configuration):
                    await api.delete(pod.id)
                    logger.warning("Pod %s was nobody's any more and was ended.", pod.id)
                    ended.append(pod.id)
            return ended

    async def _is_orphan(self, pod: Pod, configuration: RunPodConfiguration) -> bool:
        if pod.purpose is None or pod.name in self._followed:
            return False
        run_id, attempt = pod.purpose
        run = await run_of(self.client, run_id)
        if run is None:
            return False
        if isinstance(run, Missing) or run.state is None or run.state.is_final():
            return True
        if taken_again(run, attempt, gone=pod.ended):
            return True
        age = (datetime.now(UTC) - pod.created).total_seconds() if pod.created else 0.0
        if age > configuration.max_runtime_minutes * 60 + _SLACK:
            await self._tell(run_id, Ending.OVERDUE)
            return True
        if pod.ended and not run.state.is_scheduled():
            await self._propose(run_id, Crashed(message="Its pod ended while its worker was away."))
        return pod.ended

    async def _is_wanted(self, flow_run_id: UUID) -> bool:
        run = await run_of(self.client, flow_run_id)
        if run is None:
            return True
        if isinstance(run, Missing) or run.state is None or run.state.is_final():
            return False
        if run.state.is_cancelling():
            await self._propose(flow_run_id, Cancelled(message="Cancelled before a pod was rented."))
            return False
        return True

    async def _tell(self, flow_run_id: UUID, ending: Ending) -> None:
        """What the run itself cannot tell any more. Before its pod ends, lest that be taken for a crash."""
        if ending is Ending.OVERDUE:
            late: State[Any] = Failed(
                name="TimedOut", message="It took longer than the work pool allows; its pod was ended."
            )
            await self._propose(flow_run_id, late)
        elif ending is Ending.DEAF:
            await self._propose(flow_run_id, Cancelled(message="It did not obey; its pod was ended."))

    async def _propose(self, flow_run_id: UUID, state: State[Any]) -> None:
        await self.client.set_flow_run_state(flow_run_id, state, force=True)

    async def _end(self, api: RunPodApi, pod: Pod) -> None:
        """End a pod, however long RunPod is away: what is not ended costs money."""
        while True:
            try:
                return await api.delete(pod.id)
            except Away as trouble:
                logger.warning("Pod %s is not ended yet: %s", pod.id, trouble)
            except Refused as trouble:
                logger.error("Pod %s could not be ended, end it by hand: %s", pod.id, trouble)
                return None
