"""The warm worker: serves pools of the type `process` as Prefect's process worker does, without a new interpreter per run.

States, crash reports, cancellation and hooks come from Prefect's executor, as in its own worker. Only the starter of
the runs differs.
"""

import logging
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from datetime import datetime
from functools import partial
from typing import Any, Final
from uuid import UUID

import anyio
import anyio.abc
from prefect.client.schemas.objects import FlowRun, State
from prefect.client.schemas.responses import DeploymentResponse
from prefect.events.clients import get_events_subscriber
from prefect.events.filters import EventFilter, EventNameFilter
from prefect.flows import load_flow_from_flow_run
from prefect.settings import PREFECT_API_SSL_CERT_FILE, PREFECT_API_URL
from prefect.states import AwaitingRetry, Cancelled
from prefect.workers.process import ProcessJobConfiguration, ProcessWorker, ProcessWorkerResult
from pydantic import PrivateAttr

from deployments.warm.contract import (
    AcceptedRunsMixin,
    ControlChannel,
    ControlSignalStatus,
    FlowRunExecutionResult,
    FlowRunExecutorContext,
    ProcessHandle,
    run_cancellation_hooks,
)
from deployments.warm.pool import (
    LEAVE_SECONDS,
    Child,
    PoolLimits,
    RunInChild,
    RunScope,
    WarmPool,
    certificates_environment,
    restore_certificates,
)

logger = logging.getLogger(__name__)

ENGINE_COMMAND: Final = "-m prefect.engine"
DRAIN_SECONDS: Final = 30.0
"""Time for accepted runs to end when the worker is stopped."""
HAND_BACK_SECONDS: Final = 2 * LEAVE_SECONDS
"""Time to hand back the runs that did not end."""
SUBSCRIBE_RETRY_SECONDS: Final = 5.0
"""Between two attempts to subscribe to events. Meanwhile the worker polls as usual."""


class WarmJobConfiguration(ProcessJobConfiguration):
    """Prefect's configuration of a run, with the time of the deployment's last update."""

    _deployment_updated: datetime | None = PrivateAttr(default=None)

    @property
    def deployment_updated(self) -> datetime | None:
        """When the deployment was last changed; a process that started earlier has old code."""
        return self._deployment_updated

    def prepare_for_flow_run(
        self, flow_run: FlowRun, deployment: DeploymentResponse | None = None, *others: Any, **named: Any
    ) -> None:
        """Called by Prefect with the run's deployment."""
        super().prepare_for_flow_run(flow_run, deployment, *others, **named)
        self._deployment_updated = deployment.updated if deployment else None

    @property
    def has_own_command(self) -> bool:
        """Whether the run must be started by a command other than Prefect's engine."""
        return ENGINE_COMMAND not in (self.command or ENGINE_COMMAND)


class WarmStarter:
    """Starts one flow run in a child of the pool. Prefect's executor calls it like its own starters."""

    def __init__(
        self,
        pool: WarmPool,
        configuration: WarmJobConfiguration,
        control: ControlChannel,
        leave_seconds: float,
    ) -> None:
        """`leave_seconds`: how long a child may clean up after its run was interrupted."""
        self._pool = pool
        self._leave_seconds = leave_seconds
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
        updated = self._configuration.deployment_updated
        self._child = child = await self._pool.take(str(flow_run.deployment_id), updated)
        child.run = run = RunInChild(child)
        try:
            child.send(self._build_order(flow_run, updated))
            child.loaded.add(str(flow_run.deployment_id))
            process: Any = run
            task_status.started(ProcessHandle(process, termination_scope=RunScope(run)))
            await run.ended.wait()
        finally:
            self._child = None
            with anyio.CancelScope(shield=True):
                await self._pool.give_back(child)

    async def interrupt(self, flow_run_id: UUID, execution: anyio.CancelScope) -> None:
        """End a running flow run and its process; the run keeps its state. A run that has just ended is ignored."""
        with anyio.CancelScope(shield=True):
            answer = await self._control.signal(flow_run_id, "reschedule")
            if answer is ControlSignalStatus.ALREADY_CONCLUDED:
                return
            self.interrupted = True
            acknowledged = answer is ControlSignalStatus.ACKNOWLEDGED
            if not acknowledged:
                execution.cancel()  # else the executor would report the killed process as a crash
            if self._child is not None:
                await self._child.end(graceful=acknowledged, leave_seconds=self._leave_seconds)

    def _build_order(self, flow_run: FlowRun, updated: datetime | None) -> dict[str, Any]:
        control = {}
        with suppress(RuntimeError):  # without a listener, Prefect cancels by signal alone
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


class WarmWorker(AcceptedRunsMixin, ProcessWorker):
    """Runs flow runs in warm processes, as many at the same time as its limit."""

    job_configuration = WarmJobConfiguration
    _display_name = "Panelworks warm"
    _description = "Run flow runs in processes that stay, with the flow and its networks loaded."

    @classmethod
    def __dispatch_key__(cls) -> str:
        """The name in Prefect's list of worker types, where 'process' is Prefect's own worker."""
        return "panelworks-warm"

    def __init__(self, work_pool_name: str, *, limit: int | None = None, **named: Any) -> None:
        slots = limit or 1
        super().__init__(work_pool_name, limit=slots, **named)
        limits = PoolLimits(
            slots,
            runs_per_child=int(os.environ.get("PANELWORKS_WARM_RUNS", PoolLimits.runs_per_child)),
            idle_seconds=float(os.environ.get("PANELWORKS_WARM_IDLE_SECONDS", PoolLimits.idle_seconds)),
        )
        environment = certificates_environment(PREFECT_API_URL.value(), PREFECT_API_SSL_CERT_FILE.value())
        self._pool = WarmPool(limits, environment)
        self._drain_seconds = float(os.environ.get("PANELWORKS_WARM_DRAIN_SECONDS", DRAIN_SECONDS))
        self._drained = anyio.Event()
        self._pool_stack = AsyncExitStack()
        self._background_stack = AsyncExitStack()
        self._background: anyio.abc.TaskGroup | None = None

    async def setup(self) -> None:
        """Start the children, then Prefect's worker, then the subscription to scheduled runs."""
        await self._pool_stack.enter_async_context(self._pool.open())
        await super().setup()
        self._background = await self._background_stack.enter_async_context(anyio.create_task_group())
        submit = partial(_call_and_log_errors, self._submit_scheduled)
        await self._background_stack.enter_async_context(on_scheduled_run(submit))

    async def teardown(self, *exc_info: Any) -> None:
        """Let accepted runs end; hand back those that take longer, so that another worker runs them."""
        self.is_setup = False  # a free slot accepts no new run
        await self._wait_for_runs(self._drain_seconds)
        self._pool.close()
        self._drained.set()
        await self._wait_for_runs(HAND_BACK_SECONDS)
        # Task groups must be left in the reverse order of `setup`, also if one of them raises.
        async with self._pool_stack:
            try:
                await self._background_stack.__aexit__(*exc_info)
            finally:
                await super().teardown(*exc_info)

    async def _wait_for_runs(self, seconds: float) -> None:
        with anyio.move_on_after(seconds, shield=True):
            while self.limiter.borrowed_tokens:  # noqa: ASYNC110 - Prefect's limiter has no event
                await anyio.sleep(0.05)

    async def run(
        self,
        flow_run: FlowRun,
        configuration: ProcessJobConfiguration,
        task_status: anyio.abc.TaskStatus[int] | None = None,
    ) -> ProcessWorkerResult:
        """Run a flow run in a child; a run with its own command gets its own process, as in Prefect's worker."""
        if not isinstance(configuration, WarmJobConfiguration) or configuration.has_own_command:
            restore_certificates(configuration.env)
            return await super().run(flow_run, configuration, task_status)
        execution: FlowRunExecutionResult | None = None
        pid = 0
        async with FlowRunExecutorContext() as context:
            # A worker with little time to drain has little time in all: Docker kills it 10 s after its signal.
            leave_seconds = min(LEAVE_SECONDS, max(1.0, self._drain_seconds))
            starter = WarmStarter(self._pool, configuration, context.control_channel, leave_seconds)
            executor = context.create_executor(
                flow_run, starter, resolve_flow=load_flow_from_flow_run, propose_submitting=False
            )

            async def execute(*, task_status: anyio.abc.TaskStatus[ProcessHandle]) -> None:
                nonlocal execution
                execution = await executor.submit(task_status=task_status)

            async with anyio.create_task_group() as watch:
                async with anyio.create_task_group() as group:
                    watch.start_soon(self._interrupt_when_drained, starter, flow_run.id, group.cancel_scope)
                    pid = (await group.start(execute)).pid or 0
                    if task_status is not None and pid:
                        task_status.started(pid)
                watch.cancel_scope.cancel()
        status = execution.status_code if execution else None
        if await self._finish_cancelling(flow_run.id):
            status = 0
        elif starter.interrupted:
            await self._hand_back(flow_run.id)
            status = 0
        if status is None:
            raise RuntimeError("The flow run was not started.")
        if task_status is not None and not pid:
            task_status.started(pid)  # the run ended before it had a process
        self.start_soon(self._submit_scheduled)
        return ProcessWorkerResult(status_code=status, identifier=str(pid))

    async def _interrupt_when_drained(
        self, starter: WarmStarter, flow_run_id: UUID, execution: anyio.CancelScope
    ) -> None:
        await self._drained.wait()
        await starter.interrupt(flow_run_id, execution)

    async def _hand_back(self, flow_run_id: UUID) -> None:
        """Schedule an interrupted run again, so that any worker of the pool can run it."""
        try:
            state = (await self.client.read_flow_run(flow_run_id)).state
            if state is None or not (state.is_final() or state.is_scheduled()):
                waiting: State[Any] = AwaitingRetry(message="Its worker was stopped.")
                await self.client.set_flow_run_state(flow_run_id, waiting)
        except Exception:
            logger.exception("flow run %s not handed back", flow_run_id)

    async def _finish_cancelling(self, flow_run_id: UUID) -> bool:
        """Mark a run as Cancelled that is still Cancelling after its end.

        Prefect observes cancellations before a run is submitted and while its process exists. A request between
        the two reaches neither observer, and the run would stay in Cancelling.
        """
        try:
            flow_run = await self.client.read_flow_run(flow_run_id)
        except Exception:  # noqa: BLE001 - deleted, or the server is unreachable: the run itself has ended
            return False
        if flow_run.state is None or not flow_run.state.is_cancelling():
            return False
        await run_cancellation_hooks(flow_run, flow_run.state)
        cancelled: State[Any] = Cancelled(message="Cancelled before it started.")
        await self.client.set_flow_run_state(flow_run_id, cancelled, force=True)
        return True

    def start_soon(self, function: Callable[..., Awaitable[object]], *arguments: object) -> None:
        """Call a function in the background, unless the worker is stopping; its errors do not end the worker."""
        if self._background is not None and self.is_setup:
            self._background.start_soon(_call_and_log_errors, function, *arguments)

    async def _submit_scheduled(self) -> None:
        """Submit scheduled runs now instead of at the next poll: a slot is free, or a run was scheduled."""
        if self.is_setup:
            await self.get_and_submit_flow_runs()


async def _call_and_log_errors(function: Callable[..., Awaitable[object]], *arguments: object) -> None:
    try:
        await function(*arguments)
    except Exception as error:  # noqa: BLE001 - a poll follows, and a run does without labels
        logger.debug("%s failed: %s", getattr(function, "__name__", function), type(error).__name__)


@asynccontextmanager
async def on_scheduled_run(look: Callable[[], Awaitable[object]]) -> AsyncIterator[None]:
    """Within the block, call `look` soon after a run was scheduled. Events that arrive together cause one call."""
    scheduled = _Flag()
    async with anyio.create_task_group() as group:
        group.start_soon(_listen_for_scheduled, scheduled)
        group.start_soon(_call_when_set, scheduled, look)
        yield
        group.cancel_scope.cancel()


class _Flag:
    """An event that can be set again after each wait."""

    def __init__(self) -> None:
        self._event = anyio.Event()

    def set(self) -> None:
        self._event.set()

    async def wait_and_clear(self) -> None:
        await self._event.wait()
        self._event = anyio.Event()


async def _listen_for_scheduled(scheduled: _Flag) -> None:
    wanted = EventFilter(event=EventNameFilter(name=["prefect.flow-run.Scheduled"]))
    while True:
        try:
            async with get_events_subscriber(filter=wanted, reconnection_attempts=0) as events:
                async for _ in events:
                    scheduled.set()
        except Exception as error:  # noqa: BLE001 - the socket raises many kinds; each is retried
            logger.debug("events of Prefect unavailable: %s", type(error).__name__)
        await anyio.sleep(SUBSCRIBE_RETRY_SECONDS)


async def _call_when_set(flag: _Flag, look: Callable[[], Awaitable[object]]) -> None:
    while True:
        await flag.wait_and_clear()
        await look()
