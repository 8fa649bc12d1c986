"""The `pools` commands: what they print."""

import asyncio
import json as json_module
import os

from deployments.names import PoolKind
from deployments.pools import template
from panelworks.errors import Misconfigured
from service.console import print_json
from service.pools import check_pool, create_pool

_STARTED_BY = "prefect worker start --pool {name} --type {kind}"


def create(name: str, kind: PoolKind, *, overwrite: bool) -> None:
    """Create a pool and say what comes next.

    Raises:
        Misconfigured: `no_server`, `unknown_pool_type`.
    """
    _server()
    made = asyncio.run(create_pool(name, kind, overwrite=overwrite))
    print(
        f"The work pool '{name}' is {'ready' if made else 'there already; --overwrite gives it our template'}."
    )
    print(f"Fill its form in the Prefect UI, then: panelworks pools check {name}")
    print("Its worker: " + _STARTED_BY.format(name=name, kind=kind))


def check(name: str, *, json: bool) -> int:
    """Check a pool; 0 when its runs would start, else 1.

    Raises:
        Misconfigured: `no_server`, `no_pool`, `unknown_pool_type`.
    """
    _server()
    findings = asyncio.run(check_pool(name))
    for found in findings:
        if json:
            print_json({"pool": name, "deployment": found.deployment, "problems": list(found.problems)})
            continue
        subject = found.deployment or f"the pool '{name}'"
        print(f"ok      {subject}" if not found.problems else f"TROUBLE {subject}")
        for problem in found.problems:
            print(f"        {problem}")
    return int(any(found.problems for found in findings))


def print_template(kind: PoolKind) -> None:
    """Print a template as JSON."""
    print(json_module.dumps(template(kind), indent=2))


def _server() -> None:
    """Without a server Prefect would start one that knows no pool."""
    from prefect.settings import PREFECT_API_URL

    if not (os.environ.get("PREFECT_API_URL") or PREFECT_API_URL.value()):
        raise Misconfigured("no_server", "Set PREFECT_API_URL to the Prefect server that has the pools.")
