"""The warm worker: serves pools of the type `process`, as Prefect's process worker does, without a new interpreter for each run.

Submitting, Crashed, Cancelled and the hooks are those of Prefect's private executor, as its own worker uses it; only
the starter of runs is ours.
"""

import functools
import os
from contextlib import suppress
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import anyio
import anyio.abc
from prefect.client.schemas.objects import FlowRun, State
from prefect.flows import load_flow_from_flow_run
from prefect.runner._control_channel import ControlChannel, ControlSignalStatus
from prefect.runner._flow_run_executor import FlowRunExecutionResult, FlowRunExecutorContext
from prefect.runner._hook_runner import HookRunner
from prefect.runner._process_manager import ProcessHandle, ProcessManager
from prefect.runner._starter_engine import EngineCommandStarter
from prefect.states import AwaitingRetry
from prefect.workers.base import BaseWorker
from prefect.workers.process import ProcessJobConfiguration, ProcessVariables, ProcessWorkerResult

from deployments.warm.announcements import at_each_scheduled_run
from deployments.warm.certificates import share_tls_context
from deployments.warm.pool import LEAVE_SECONDS, Child, PoolLimits, RunInChild, RunScope, WarmPool

_ENGINE: Final = "-m prefect.engine"
_DRAIN_SECONDS: Final = 30.0
"""For accepted runs to end when the worker is stopped."""
_HAND_BACK_SECONDS: Final = 2 * LEAVE_SECONDS
"""For those that did not."""


async def stop_run(
    manager: ProcessManager, flow_run_id: UUID, grace_seconds: float = 30, *, force: bool = False
) -> None:
    """`ProcessManager.kill` that sees the end of a run at once, instead of looking every three seconds."""
    handle = manager.get(flow_run_id)
    run: Any = handle.raw_process if handle else None
    if handle is None or not isinstance(run, RunInChild):
        await ProcessManager.kill(manager, flow_run_id, grace_seconds, force=force)
        return
    with suppress(ProcessLookupError):
        if not force:
            handle.graceful_kill()
            with anyio.move_on_after(grace_seconds):
                await run.ended.wait()
        handle.hard_kill()


class WarmStarter:
    """Prefect's `ProcessStarter` over a child of the pool."""

    def __init__(
        self, pool: WarmPool, configuration: ProcessJobConfiguration, control: ControlChannel
    ) -> None:
        self._pool = pool
        self._configuration = configuration
        self._control = control
        self._child: Child | None = None
        self.interrupted = False

    async def start(
        self,
        flow_run: FlowRun,
        task_status: anyio.abc.TaskStatus[ProcessHandle] = anyio.TASK_STATUS_IGNORED,
    ) -> None:
        """Run a flow run in a child; returns when the run has ended."""
        deployment: Any = self._configuration._related_objects.get("deployment")
        updated: datetime | None = deployment.updated if deployment else None
        self._child = child = await self._pool.take(str(flow_run.deployment_id), updated)
        child.run = run = RunInChild(child)
        try:
            child.send(self._order(flow_run, updated))
            child.loaded.add(str(flow_run.deployment_id))
            like_a_process: Any = run
            task_status.started(ProcessHandle(like_a_process, termination_scope=RunScope(run)))
            await run.ended.wait()
        finally:
            self._child = None
            with anyio.CancelScope(shield=True):
                await self._pool.give_back(child)

    async def interrupt(self, flow_run_id: UUID, execution: anyio.CancelScope) -> None:
        """End the run before its time, with its process, unless it has just ended by itself. It keeps its state."""
        with anyio.CancelScope(shield=True):
            answer = await self._control.signal(flow_run_id, "reschedule")
            if answer is ControlSignalStatus.ALREADY_CONCLUDED:
                return
            self.interrupted = True
            agreed = answer is ControlSignalStatus.ACKNOWLEDGED
            if not agreed:
                execution.cancel()  # it would take the killed process for a crash
            if self._child is not None:
                await self._child.end(politely=agreed)

    def _order(self, flow_run: FlowRun, updated: datetime | None) -> dict[str, Any]:
        control = {}
        with suppress(RuntimeError):  # without a listener Prefect cancels by signal alone
            port, token = self._control.register(flow_run.id)
            control = {"PREFECT__CONTROL_PORT": str(port), "PREFECT__CONTROL_TOKEN": token}
        given = {key: value for key, value in self._configuration.env.items() if value is not None}
        return {
            "flow_run": str(flow_run.id),
            "deployment": str(flow_run.deployment_id),
            "version": str(updated),
            "env": {**given, "PREFECT__ENABLE_CANCELLATION_AND_CRASHED_HOOKS": "false", **control},
            "folder": str(self._configuration.working_dir or ""),
        }


class WarmWorker(BaseWorker[ProcessJobConfiguration, ProcessVariables, ProcessWorkerResult]):
    """Runs flow runs in warm children, as many at once as its limit."""

    type = "process"  # of its pools
    job_configuration = ProcessJobConfiguration
    job_configuration_variables = ProcessVariables
    _display_name = "Panelworks warm"
    _description = "Run flow runs in processes that stay, with the flow and its networks loaded."

    @classmethod
    def __dispatch_key__(cls) -> str:
        """Its name in Prefect's list of workers, where 'process' is Prefect's own."""
        return "panelworks-warm"

    def __init__(self, work_pool_name: str, *, limit: int | None = None, **named: Any) -> None:
        slots = limit or 1
        super().__init__(work_pool_name, limit=slots, **named)
        self._pool = WarmPool(
            PoolLimits(
                slots,
                runs_per_child=int(os.environ.get("PANELWORKS_WARM_RUNS", PoolLimits.runs_per_child)),
                idle_seconds=float(os.environ.get("PANELWORKS_WARM_IDLE_SECONDS", PoolLimits.idle_seconds)),
            )
        )
        self._drain_seconds = float(os.environ.get("PANELWORKS_WARM_DRAIN_SECONDS", _DRAIN_SECONDS))
        self._drained = anyio.Event()

    async def setup(self) -> None:
        """Start the children, then what every worker starts; and hear of runs as they are scheduled."""
        share_tls_context()
        await self._exit_stack.enter_async_context(self._pool.open())
        await super().setup()
        await self._exit_stack.enter_async_context(at_each_scheduled_run(self._look_for_more))

    async def teardown(self, *exc_info: Any) -> None:
        """Let accepted runs end; those that take longer are handed back, for another worker."""
        self.is_setup = False  # a slot that becomes free takes no new run
        await self._wait_for_runs(self._drain_seconds)
        self._pool.close()
        self._drained.set()
        await self._wait_for_runs(_HAND_BACK_SECONDS)
        await super().teardown(*exc_info)

    async def _wait_for_runs(self, seconds: float) -> None:
        with anyio.move_on_after(seconds, shield=True):
            while self._limiter and self._limiter.borrowed_tokens:  # noqa: ASYNC110 - Prefect's limiter has no event
                await anyio.sleep(0.05)

    async def run(
        self,
        flow_run: FlowRun,
        configuration: ProcessJobConfiguration,
        task_status: anyio.abc.TaskStatus[int] | None = None,
    ) -> ProcessWorkerResult:
        """Run a flow run in a child; one with a command of its own gets a process of its own."""
        execution: FlowRunExecutionResult | None = None
        pid = 0
        async with FlowRunExecutorContext() as context:
            stop: Any = functools.partial(stop_run, context.process_manager)
            context.process_manager.kill = stop  # type: ignore[method-assign] # cancelling goes this way
            starter = self._starter(configuration, context.control_channel)
            executor = context.create_executor(
                flow_run, starter, resolve_flow=load_flow_from_flow_run, propose_submitting=False
            )

            async def execute(*, task_status: anyio.abc.TaskStatus[ProcessHandle]) -> None:
                nonlocal execution
                execution = await executor.submit(task_status=task_status)

            async with anyio.create_task_group() as watch:
                async with anyio.create_task_group() as group:
                    if isinstance(starter, WarmStarter):
                        watch.start_soon(self._interrupt, starter, flow_run.id, group.cancel_scope)
                    pid = (await group.start(execute)).pid or 0
                    if task_status is not None and pid:
                        task_status.started(pid)
                watch.cancel_scope.cancel()
        settled = await self._cancel_what_nobody_saw(flow_run.id)
        if isinstance(starter, WarmStarter) and starter.interrupted and not settled:
            await self._hand_back(flow_run.id)
            settled = True
        status = 0 if settled else execution.status_code if execution else None
        if status is None:
            raise RuntimeError("The flow run was not started.")
        if task_status is not None and not pid:
            task_status.started(pid)  # it went before it had begun
        if self._runs_task_group is not None and self.is_setup:
            self._runs_task_group.start_soon(self._look_for_more)
        return ProcessWorkerResult(status_code=status, identifier=str(pid))

    def _starter(
        self, configuration: ProcessJobConfiguration, control: ControlChannel
    ) -> WarmStarter | EngineCommandStarter:
        if _ENGINE in (configuration.command or _ENGINE):
            return WarmStarter(self._pool, configuration, control)
        known = configuration.model_dump(include={"command", "env", "stream_output"})
        return EngineCommandStarter(**known, cwd=configuration.working_dir, control_channel=control)

    async def _interrupt(self, starter: WarmStarter, flow_run_id: UUID, execution: anyio.CancelScope) -> None:
        await self._drained.wait()
        await starter.interrupt(flow_run_id, execution)

    async def _hand_back(self, flow_run_id: UUID) -> None:
        """Schedule a run once more whose process was ended before its time: any worker of the pool may take it."""
        try:
            state = (await self.client.read_flow_run(flow_run_id)).state
            if state is None or not (state.is_final() or state.is_scheduled()):
                waiting: State[Any] = AwaitingRetry(message="Its worker was stopped.")
                await self.client.set_flow_run_state(flow_run_id, waiting)
        except Exception:
            self._logger.exception("The flow run %s could not be handed back.", flow_run_id)

    async def _cancel_run(self, flow_run_id: UUID) -> None:
        """A run that this worker has taken stays Cancelling until it ends: from Cancelled, it would begin all the same.

        Prefect marks one without a process as Cancelled, also while the process is being started (3.9.1).
        """
        if flow_run_id not in self._submitting_flow_run_ids:
            await super()._cancel_run(flow_run_id)

    async def _cancel_what_nobody_saw(self, flow_run_id: UUID) -> bool:
        """A cancel between Prefect's two observers reaches neither, and would leave the run in Cancelling for ever."""
        try:
            flow_run = await self.client.read_flow_run(flow_run_id)
        except Exception:  # noqa: BLE001 - deleted, or the server is away: the run itself has ended
            return False
        if flow_run.state is None or not flow_run.state.is_cancelling():
            return False
        hooks = HookRunner(resolve_flow=load_flow_from_flow_run)
        await hooks.run_cancellation_hooks(flow_run, flow_run.state)
        await self._mark_flow_run_as_cancelled(flow_run, {"message": "Cancelled before it began."})
        return True

    async def _give_worker_labels_to_flow_run(self, flow_run_id: UUID) -> None:
        """Later: SQLite answers this call with locks, and its retries of 2, 4 and 8 s would hold the run back."""
        if self._runs_task_group is not None:
            self._runs_task_group.start_soon(self._give_labels, flow_run_id)

    async def _give_labels(self, flow_run_id: UUID) -> None:
        with suppress(Exception):  # else the worker would end with it
            await super()._give_worker_labels_to_flow_run(flow_run_id)

    async def _look_for_more(self) -> None:
        """A slot is free now, or a run was scheduled: the next poll is not waited for."""
        with suppress(Exception):
            if self.is_setup:
                await self.get_and_submit_flow_runs()
