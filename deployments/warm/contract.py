"""The private names of Prefect that the warm worker needs, checked before it starts.

Any version of Prefect that provides these names is accepted.
"""

import inspect
from collections.abc import Iterator
from importlib import import_module
from typing import Final

_NEEDED: Final[dict[str, tuple[str, ...]]] = {
    "prefect.runner._flow_run_executor:FlowRunExecutorContext.create_executor": (
        "flow_run",
        "starter",
        "resolve_flow",
        "propose_submitting",
    ),
    "prefect.runner._flow_run_executor:FlowRunExecutor.submit": ("task_status",),
    "prefect.runner._flow_run_executor:FlowRunExecutionResult": ("handle", "status_code"),
    "prefect.runner._process_manager:ProcessHandle": ("termination_scope",),
    "prefect.runner._process_manager:ProcessHandle.raw_process": (),
    "prefect.runner._process_manager:ProcessHandle.graceful_kill": (),
    "prefect.runner._process_manager:ProcessHandle.hard_kill": (),
    "prefect.runner._process_manager:ProcessManager.get": ("flow_run_id",),
    "prefect.runner._process_manager:ProcessManager.kill": ("flow_run_id", "grace_seconds", "force"),
    "prefect.runner._control_channel:ControlChannel.register": ("flow_run_id",),
    "prefect.runner._control_channel:ControlChannel.signal": ("flow_run_id", "intent"),
    "prefect.runner._control_channel:ControlSignalStatus.ACKNOWLEDGED": (),
    "prefect.runner._control_channel:ControlSignalStatus.ALREADY_CONCLUDED": (),
    "prefect.runner._hook_runner:HookRunner": ("resolve_flow",),
    "prefect.runner._hook_runner:HookRunner.run_cancellation_hooks": ("flow_run", "state"),
    "prefect.runner._starter_engine:EngineCommandStarter": (
        "command",
        "cwd",
        "env",
        "stream_output",
        "control_channel",
    ),
    "prefect._internal.control_listener:configure_from_env": (),
    "prefect._internal.control_listener:stop": (),
    "prefect._internal.control_listener:clear_intent": (),
    "prefect.engine:_drive_run_flow_result": ("flow",),
    "prefect.engine:handle_engine_signals": ("flow_run_id",),
    "prefect.flow_engine:_send_heartbeats": ("join_on_exit",),
    "prefect.flow_engine:load_flow": ("flow_run",),
    "prefect.flow_engine:load_flow_run": ("flow_run_id",),
    "prefect.flow_engine:run_flow": ("flow", "flow_run", "error_logger"),
    "prefect.workers.base:BaseWorker._give_worker_labels_to_flow_run": ("flow_run_id",),
    "prefect.workers.base:BaseWorker._cancel_run": ("flow_run_id",),
    "prefect.workers.base:BaseWorker._mark_flow_run_as_cancelled": ("flow_run", "state_updates"),
    "prefect.client.orchestration:ssl.create_default_context": ("cafile",),
    "prefect.context:SettingsContext": ("profile", "settings"),
    "prefect.context:get_settings_context": (),
    "prefect.exceptions:TerminationSignal": ("signal",),
}
"""Module and name, with the parameters or fields that the warm worker uses."""


def breaches() -> list[str]:
    """One sentence for each needed name that this version of Prefect lacks; empty when the warm worker can start."""
    return [breach for name, parameters in _NEEDED.items() for breach in _breaches_of(name, parameters)]


def _breaches_of(name: str, parameters: tuple[str, ...]) -> Iterator[str]:
    module, _, path = name.partition(":")
    try:
        found: object = import_module(module)
        for part in path.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError):
        yield f"{name} does not exist."
        return
    if not callable(found):
        return
    known = inspect.signature(found).parameters
    for parameter in parameters:
        if parameter not in known:
            yield f"{name} has no parameter '{parameter}'."
