"""This machine's checkout: the pull step of every deployment, and the targets that its `prefect.yaml` declares.

A target is the same set of deployments for this machine, for staging, or for production.
"""

import os
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, get_args

import yaml

from deployments.names import POOL

ROOT = Path(__file__).parents[1]
"""The checkout, which contains `prefect.yaml`."""
PREFECT_FILE = ROOT / "prefect.yaml"
Target = Literal["local", "staging", "production"]


def enter() -> dict[str, str]:
    """Pull step: change to the checkout of this machine.

    Stored deployments refer to it as `deployments.checkout.enter`. Prefect reads the directory from the output.
    """
    os.chdir(ROOT)
    return {"directory": str(ROOT)}


def pool_of(target: Target) -> str:
    """Name of the work pool of a target's deployments."""
    return str(_read()["definitions"][target]["name"])


@lru_cache(maxsize=1)
def pools() -> tuple[str, ...]:
    """Names of the work pools of all targets; without a `prefect.yaml`, the pool of this machine."""
    if not PREFECT_FILE.exists():
        return (POOL,)
    return tuple(pool_of(target) for target in get_args(Target))


def deployments_of(target: Target) -> list[dict[str, Any]]:
    """The deployments of `prefect.yaml`, with the pool and the job variables of a target."""
    content = _read()
    pool = content["definitions"][target]
    return [
        {**one, "work_pool": {**pool, "work_queue_name": one["work_pool"]["work_queue_name"]}}
        for one in content["deployments"]
    ]


def pull_steps() -> list[dict[str, Any]]:
    """The steps that a worker executes before it loads a flow."""
    return list(_read()["pull"])


def _read() -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load(PREFECT_FILE.read_text(encoding="utf-8"))
    return content
