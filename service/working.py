"""`panelworks worker`: a warm worker where that is possible, else Prefect's process worker."""

import os
import signal
import sys

from deployments.checkout import ROOT
from deployments.warm.contract import missing_names
from panelworks.settings import get_settings
from panelworks.storage import sweep_places
from service.prefect_server import require_server

_PAGES = "flows.enhance_page"
"""What a process loads before its first run: what pages need."""


def worker_type(*, plain: bool) -> str:
    """The type of worker to start; says on standard error why it is not the warm one."""
    if plain:
        return "process"
    missing = missing_names()
    for name in missing:
        print(f"warning: {name}", file=sys.stderr)
    if missing:
        print("warning: each run gets a process of its own, which takes 2 s more", file=sys.stderr)
        return "process"
    return "panelworks-warm"


def work(
    pool: str,
    *,
    name: str | None,
    limit: int,
    plain: bool,
    runs_per_child: int,
    idle_seconds: float,
    drain_seconds: float,
    with_healthcheck: bool,
) -> None:
    """Become a worker of a `process` pool; does not return.

    Raises:
        Misconfigured: `no_server`.
    """
    require_server()
    # The health check's port, which Prefect opens to all machines by default.
    os.environ.setdefault("PREFECT_WORKER_WEBSERVER_HOST", "127.0.0.1")
    sweep_places(get_settings())
    os.environ["PANELWORKS_WARM_RUNS"] = str(runs_per_child)
    os.environ["PANELWORKS_WARM_IDLE_SECONDS"] = str(idle_seconds)
    os.environ["PANELWORKS_WARM_DRAIN_SECONDS"] = str(drain_seconds)
    os.environ.setdefault("PANELWORKS_WARM_PRELOAD", _PAGES)
    found = filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])
    os.environ["PYTHONPATH"] = os.pathsep.join(dict.fromkeys(found))
    # A script's `&` has us ignore SIGINT, and this is inherited; but to Prefect's workers SIGTERM comes as SIGINT.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    named = ["--name", name] if name else []
    watched = ["--with-healthcheck"] if with_healthcheck else []
    command = [
        sys.executable,
        "-m",
        "prefect",
        "worker",
        "start",
        "--pool",
        pool,
        "--limit",
        str(limit),
        *named,
        *watched,
    ]
    os.execv(sys.executable, [*command, "--type", worker_type(plain=plain)])  # noqa: S606 - our own command
