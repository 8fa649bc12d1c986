"""The child of a warm worker: executes one flow run after the other on its main thread, like `prefect.engine`."""

import asyncio
import contextvars
import importlib
import inspect
import json
import logging
import os
import queue
import signal
import socket
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import AsyncGenerator, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from uuid import UUID

from prefect.client.schemas.objects import FlowRun
from prefect.context import SettingsContext, get_settings_context
from prefect.exceptions import TerminationSignal
from prefect.flows import Flow
from prefect.logging.loggers import flow_run_logger
from prefect.settings import Settings
from prefect.telemetry.run_telemetry import LABELS_TRACEPARENT_KEY

from deployments.long_running import collect_garbage_less_often
from deployments.warm.contract import (
    close_control_session,
    handle_engine_signals,
    load_flow,
    load_flow_run,
    open_control_session,
    run_flow,
)
from deployments.warm.pool import LEAVE_SECONDS, restore_certificates
from panelworks.domain.request import traceparent_of
from panelworks.telemetry import flush_telemetry

ORPHAN_SECONDS: Final = 30.0
"""How long a run may continue after its worker died. Then it is terminated and reports itself as crashed."""
Order = dict[str, Any]


@dataclass(frozen=True)
class LoadedFlow:
    """A flow that stays in memory between runs."""

    version: str
    flow: Flow[..., Any]
    folder: str
    """The working directory after the pull steps."""


def serve(descriptor: int) -> None:
    """Execute orders until the worker closes the socket or dies.

    Orders arrive on a socket of their own, because `prefect.engine` closes standard input.

    Args:
        descriptor: The inherited file descriptor of the socket.
    """
    signal.signal(signal.SIGTERM, _ignore)
    link = socket.socket(fileno=descriptor)
    link.set_inheritable(False)
    orders: queue.SimpleQueue[Order | None] = queue.SimpleQueue()
    idle = threading.Event()
    idle.set()
    threading.Thread(target=_listen, args=(link, orders, idle), daemon=True).start()
    sys.path.insert(0, "")  # modules of entrypoints are found in the directory of the pull steps
    preload(os.environ.get("PANELWORKS_WARM_PRELOAD", ""))
    collect_garbage_less_often()
    flows: dict[str, LoadedFlow] = {}
    with tempfile.TemporaryDirectory(suffix="panelworks") as home:
        os.chdir(home)
        link.sendall(b'{"ready": true}\n')
        while (order := orders.get()) is not None:
            idle.clear()
            code = contextvars.copy_context().run(_run, order, flows)
            idle.set()
            with suppress(OSError):
                link.sendall(json.dumps({"code": code}).encode() + b"\n")
        os.chdir("/")


def preload(modules: str) -> None:
    """Import modules before the first run needs them; names are separated by commas."""
    for name in filter(None, modules.split(",")):
        try:
            importlib.import_module(name)
        except Exception:
            logging.getLogger(__name__).exception("module %s not preloaded", name)


def _listen(link: socket.socket, orders: "queue.SimpleQueue[Order | None]", idle: threading.Event) -> None:
    """Pass orders on. After the last order: wait for the current run, then terminate it, then exit."""
    with suppress(OSError), link.makefile("r", encoding="utf-8") as lines:
        for line in lines:
            orders.put(json.loads(line))
    orders.put(None)
    if not idle.wait(ORPHAN_SECONDS):
        # os.kill would not interrupt a sleep of the main thread.
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)
        idle.wait(LEAVE_SECONDS)
    time.sleep(LEAVE_SECONDS)  # logs and events are sent meanwhile; remaining threads do not delay the exit
    os._exit(1)


def _run(order: Order, flows: dict[str, LoadedFlow]) -> int:
    """Execute one flow run; returns the exit code that a separate process would have had."""
    environment, folder = dict(os.environ), Path.cwd()
    os.environ.update(order["env"])
    restore_certificates(os.environ)
    open_control_session()
    try:
        try:
            signal.signal(
                signal.SIGTERM, _terminate
            )  # for a cancellation before the engine has its own handler
            _execute(order, flows, environment)
        finally:
            signal.signal(signal.SIGTERM, _ignore)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 1
    except TerminationSignal:
        return -signal.SIGTERM
    except BaseException:
        logging.getLogger(__name__).exception("flow run %s failed", order["flow_run"])
        return 1
    finally:
        close_control_session()
        flush_telemetry()
        os.environ.clear()
        os.environ.update(environment)
        os.chdir(folder)
    return 0


def _execute(order: Order, flows: dict[str, LoadedFlow], environment: dict[str, str]) -> None:
    flow_run_id = UUID(order["flow_run"])
    with ExitStack() as stack:
        stack.enter_context(_settings_of_run(order["env"], environment))
        stack.enter_context(handle_engine_signals(flow_run_id))
        flow_run = load_flow_run(flow_run_id=flow_run_id)
        _continue_trace(flow_run)
        run_logger: Any = flow_run_logger(flow_run=flow_run)
        known = flows.get(order["deployment"])
        if known is None or known.version != order["version"]:
            if order["folder"]:
                os.chdir(order["folder"])
            try:
                flow = load_flow(flow_run)
            except Exception:
                run_logger.exception("The code of the flow could not be loaded.")
                raise
            known = flows[order["deployment"]] = LoadedFlow(order["version"], flow, str(Path.cwd()))
        os.chdir(known.folder)
        _finish(known.flow, run_flow(known.flow, flow_run=flow_run, error_logger=run_logger))


def _continue_trace(flow_run: FlowRun) -> None:
    """Set the label in which Prefect finds the parent of the run's span: runs of events begin without it."""
    traceparent = traceparent_of(flow_run.parameters)
    if traceparent is not None:
        flow_run.labels.setdefault(LABELS_TRACEPARENT_KEY, traceparent)


def _finish(flow: Flow[..., Any], result: Any) -> None:
    """Execute what `run_flow` returned: a coroutine or a generator of an async or generating flow does not run yet."""
    if inspect.isasyncgen(result) and flow.isasync:
        asyncio.run(_exhaust(result))
    elif inspect.isgenerator(result) and flow.isgenerator:
        deque(result, maxlen=0)
    elif inspect.iscoroutine(result) and flow.isasync:
        asyncio.run(result)


async def _exhaust(values: AsyncGenerator[Any, Any]) -> None:
    async for _ in values:
        pass


@contextmanager
def _settings_of_run(env: dict[str, str], before: dict[str, str]) -> Iterator[None]:
    """Use the settings of a run that changes some; Prefect reads its settings once per process."""
    known = get_settings_context()
    usual = known.settings.to_environment_variables(exclude_unset=True)
    given = {key for key in env if key.startswith("PREFECT_") and not key.startswith("PREFECT__")}
    if all(env[key] in (before.get(key), usual.get(key)) for key in given):
        yield
        return
    with SettingsContext(profile=known.profile, settings=Settings()):
        yield


def _terminate(number: int, frame: object) -> None:
    del frame
    raise TerminationSignal(signal=number)


def _ignore(number: int, frame: object) -> None:
    """Ignore a signal. Programs that a flow starts would inherit SIG_IGN."""
    del number, frame


if __name__ == "__main__":
    serve(int(sys.argv[1]))
