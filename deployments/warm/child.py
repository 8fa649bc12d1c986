"""The child of a warm worker: one flow run after the other, on its main thread, as `prefect.engine` runs one."""

import contextvars
import functools
import importlib
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
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from uuid import UUID

from prefect import flow_engine
from prefect._internal import control_listener
from prefect.context import SettingsContext, get_settings_context
from prefect.engine import _drive_run_flow_result, handle_engine_signals
from prefect.exceptions import TerminationSignal
from prefect.flow_engine import load_flow, load_flow_run, run_flow
from prefect.flows import Flow
from prefect.logging.loggers import flow_run_logger
from prefect.settings import Settings

from deployments.warm.certificates import share_tls_context
from deployments.warm.pool import LEAVE_SECONDS

_ORPHAN_SECONDS: Final = 30.0
"""For the run of a worker that died: then it is terminated, and reports itself as crashed."""
Order = dict[str, Any]


@dataclass(frozen=True)
class _Loaded:
    version: str
    flow: Flow[..., Any]
    folder: str
    """Where the pull steps led."""


def serve(descriptor: int) -> None:
    """Life of a child, until the worker closes the socket or dies.

    Orders come by a socket of their own: `prefect.engine` closes standard input.
    """
    signal.signal(signal.SIGTERM, _ignore)
    link = socket.socket(fileno=descriptor)
    link.set_inheritable(False)
    orders: queue.SimpleQueue[Order | None] = queue.SimpleQueue()
    idle = threading.Event()
    idle.set()
    threading.Thread(target=_listen, args=(link, orders, idle), daemon=True).start()
    # Prefect waits up to a second for this thread at the end of a flow; it ends by itself, once the run is final.
    heartbeats: Any = functools.partial(flow_engine._send_heartbeats, join_on_exit=False)
    flow_engine._send_heartbeats = heartbeats
    share_tls_context()
    sys.path.insert(0, "")  # modules of entrypoints are found from where the pull steps lead
    preload(os.environ.get("PANELWORKS_WARM_PRELOAD", ""))
    flows: dict[str, _Loaded] = {}
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
    """Import modules before the first run asks for them; names are separated by commas."""
    for name in filter(None, modules.split(",")):
        try:
            importlib.import_module(name)
        except Exception:
            logging.getLogger(__name__).exception("%s cannot be loaded before it is asked for", name)


def _listen(link: socket.socket, orders: "queue.SimpleQueue[Order | None]", idle: threading.Event) -> None:
    """Pass orders on. After the last one a run may still end, then it is terminated, then the child just goes."""
    with suppress(OSError), link.makefile("r", encoding="utf-8") as lines:
        for line in lines:
            orders.put(json.loads(line))
    orders.put(None)
    if not idle.wait(_ORPHAN_SECONDS):
        # os.kill would not wake a sleep of the main thread.
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)
        idle.wait(LEAVE_SECONDS)
    time.sleep(
        LEAVE_SECONDS
    )  # for logs and events on their way; threads that were left behind do not hold us
    os._exit(1)


def _run(order: Order, flows: dict[str, _Loaded]) -> int:
    """One flow run; gives the exit code that a process of its own would have had."""
    environment, folder = dict(os.environ), Path.cwd()
    os.environ.update(order["env"])
    control_listener.stop()
    control_listener.configure_from_env()
    try:
        try:
            signal.signal(signal.SIGTERM, _terminate)  # for a cancel before the engine has its own handler
            _drive(order, flows, environment)
        finally:
            signal.signal(signal.SIGTERM, _ignore)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 1
    except TerminationSignal:
        return -signal.SIGTERM
    except BaseException:
        logging.getLogger(__name__).exception("the run %s ended badly", order["flow_run"])
        return 1
    finally:
        control_listener.stop()
        control_listener.clear_intent()
        os.environ.clear()
        os.environ.update(environment)
        os.chdir(folder)
    return 0


def _drive(order: Order, flows: dict[str, _Loaded], environment: dict[str, str]) -> None:
    flow_run_id = UUID(order["flow_run"])
    with ExitStack() as stack:
        stack.enter_context(_settings_of_run(order["env"], environment))
        stack.enter_context(handle_engine_signals(flow_run_id))
        flow_run = load_flow_run(flow_run_id=flow_run_id)
        logger: Any = flow_run_logger(flow_run=flow_run)
        known = flows.get(order["deployment"])
        if known is None or known.version != order["version"]:
            if order["folder"]:
                os.chdir(order["folder"])
            try:
                flow = load_flow(flow_run)
            except Exception:
                logger.exception("The code of the flow cannot be loaded.")
                raise
            known = flows[order["deployment"]] = _Loaded(order["version"], flow, str(Path.cwd()))
        os.chdir(known.folder)
        _drive_run_flow_result(known.flow, run_flow(known.flow, flow_run=flow_run, error_logger=logger))


@contextmanager
def _settings_of_run(env: dict[str, str], before: dict[str, str]) -> Iterator[None]:
    """Prefect reads its settings once: a run that brings others gets a context of its own."""
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
    """A handler that does nothing: programs that a flow starts would inherit SIG_IGN."""
    del number, frame


if __name__ == "__main__":
    serve(int(sys.argv[1]))
