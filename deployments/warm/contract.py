"""Every name of Prefect's private modules that the warm worker uses, each with the reason. No other file uses one.

Any version of Prefect that provides these names is accepted: `missing_names` looks at names, not at versions.
"""

import inspect
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Final
from uuid import UUID

from prefect.flows import load_flow_from_flow_run

with suppress(ImportError):  # `missing_names` reports what this version of Prefect lacks
    from prefect._internal import control_listener
    from prefect.engine import handle_engine_signals
    from prefect.flow_engine import load_flow, load_flow_run, run_flow
    from prefect.runner._control_channel import ControlChannel, ControlSignalStatus
    from prefect.runner._flow_run_executor import FlowRunExecutionResult, FlowRunExecutorContext
    from prefect.runner._hook_runner import HookRunner
    from prefect.runner._process_manager import ProcessHandle

__all__ = [
    "AcceptedRunsMixin",
    "ControlChannel",
    "ControlSignalStatus",
    "FlowRunExecutionResult",
    "FlowRunExecutorContext",
    "ProcessHandle",
    "close_control_session",
    "handle_engine_signals",
    "load_flow",
    "load_flow_run",
    "missing_names",
    "open_control_session",
    "run_cancellation_hooks",
    "run_flow",
]


@dataclass(frozen=True)
class PrivateName:
    """A name that Prefect does not document, and the reason why the warm worker needs it."""

    name: str
    """Module and qualified name: `module:Class.attribute`."""
    reason: str
    parameters: tuple[str, ...] = ()
    """Parameters or fields that are used."""


_EXECUTOR: Final = "Prefect's process worker runs a flow run through it: states, crash reports, cancellation."
_CONTROL: Final = "A cancelled run ends with its hooks and its state instead of as a crash."
_ENGINE: Final = (
    "`python -m prefect.engine` runs a flow run with it; the engine has no public function for that."
)
PRIVATE_NAMES: Final = (
    PrivateName("prefect.runner._flow_run_executor:FlowRunExecutorContext", _EXECUTOR),
    PrivateName(
        "prefect.runner._flow_run_executor:FlowRunExecutorContext.create_executor",
        _EXECUTOR,
        ("flow_run", "starter", "resolve_flow", "propose_submitting"),
    ),
    PrivateName("prefect.runner._flow_run_executor:FlowRunExecutor.submit", _EXECUTOR, ("task_status",)),
    PrivateName("prefect.runner._flow_run_executor:FlowRunExecutionResult", _EXECUTOR, ("status_code",)),
    PrivateName(
        "prefect.runner._process_manager:ProcessHandle",
        "The executor expects the run as a process with a scope that ends it.",
        ("termination_scope",),
    ),
    PrivateName("prefect.runner._control_channel:ControlChannel.register", _CONTROL, ("flow_run_id",)),
    PrivateName(
        "prefect.runner._control_channel:ControlChannel.signal",
        "A stopped worker ends its runs without a final state, so that another worker takes them.",
        ("flow_run_id", "intent"),
    ),
    PrivateName("prefect.runner._control_channel:ControlSignalStatus.ACKNOWLEDGED", _CONTROL),
    PrivateName("prefect.runner._control_channel:ControlSignalStatus.ALREADY_CONCLUDED", _CONTROL),
    PrivateName("prefect._internal.control_listener:configure_from_env", _CONTROL),
    PrivateName(
        "prefect._internal.control_listener:stop",
        "The listener serves one run per process; a warm process starts it again for each run.",
    ),
    PrivateName(
        "prefect._internal.control_listener:clear_intent",
        "The request to cancel one run must not reach the next run of the process.",
    ),
    PrivateName(
        "prefect.runner._hook_runner:HookRunner",
        "Cancellation hooks of a run that was cancelled before its process started.",
        ("resolve_flow",),
    ),
    PrivateName(
        "prefect.runner._hook_runner:HookRunner.run_cancellation_hooks",
        "As HookRunner.",
        ("flow_run", "state"),
    ),
    PrivateName(
        "prefect.workers.base:BaseWorker._cancel_run",
        "Prefect marks a run without a process as Cancelled while the worker is starting it.",
        ("flow_run_id",),
    ),
    PrivateName(
        "prefect.workers.base:BaseWorker._give_worker_labels_to_flow_run",
        "Prefect waits for its server to store the worker's labels before it starts the run.",
        ("flow_run_id",),
    ),
    PrivateName("prefect.engine:handle_engine_signals", _ENGINE, ("flow_run_id",)),
    PrivateName("prefect.flow_engine:load_flow", _ENGINE, ("flow_run",)),
    PrivateName("prefect.flow_engine:load_flow_run", _ENGINE, ("flow_run_id",)),
    PrivateName("prefect.flow_engine:run_flow", _ENGINE, ("flow", "flow_run", "error_logger")),
)


def missing_names() -> list[str]:
    """One sentence for each needed name that this version of Prefect lacks; empty when the warm worker can start."""
    return [problem for needed in PRIVATE_NAMES for problem in _find_problems(needed)]


def _find_problems(needed: PrivateName) -> Iterator[str]:
    module, _, path = needed.name.partition(":")
    try:
        found: object = import_module(module)
        for part in path.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError):
        yield f"{needed.name} does not exist."
        return
    if not needed.parameters or not callable(found):
        return
    known = inspect.signature(found).parameters
    for parameter in needed.parameters:
        if parameter not in known:
            yield f"{needed.name} has no parameter '{parameter}'."


class AcceptedRunsMixin(ABC):
    """For a worker of Prefect: what it does with a run between accepting it and starting its process (3.9.1).

    An accepted run stays Cancelling until its process has ended. Prefect's worker marks a pending run without a
    process as Cancelled at once, also while it is starting the process. The run would then start in spite of its
    state.

    The labels of the worker are stored while the run starts. SQLite answers the request with 503 while another
    writer holds the lock; Prefect's retries would delay the run by 2, 4 and 8 s.
    """

    @abstractmethod
    def start_soon(self, function: Callable[..., Awaitable[object]], *arguments: object) -> None:
        """Call a function in the background; its errors are logged."""

    async def _cancel_run(self, flow_run_id: UUID) -> None:
        worker: Any = self
        if flow_run_id not in worker.limiter.statistics().borrowers:
            prefect_worker: Any = super()
            await prefect_worker._cancel_run(flow_run_id)

    async def _give_worker_labels_to_flow_run(self, flow_run_id: UUID) -> None:
        prefect_worker: Any = super()
        self.start_soon(prefect_worker._give_worker_labels_to_flow_run, flow_run_id)


def open_control_session() -> None:
    """Read the port and the token of the worker's control channel from the environment, for the next run."""
    control_listener.stop()
    control_listener.configure_from_env()


def close_control_session() -> None:
    """Forget the control channel of the last run, and a request that was not handled."""
    control_listener.stop()
    control_listener.clear_intent()


async def run_cancellation_hooks(flow_run: Any, state: Any) -> None:
    """Run the hooks of a flow run's flow for a cancellation; errors are logged.

    Args:
        flow_run: Prefect's `FlowRun`.
        state: Its Cancelling state; the hooks receive it.
    """
    await HookRunner(resolve_flow=load_flow_from_flow_run).run_cancellation_hooks(flow_run, state)
