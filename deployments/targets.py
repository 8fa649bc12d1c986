"""The targets of `prefect.yaml`: the same deployments for this machine, for staging, for production."""

from functools import lru_cache
from typing import Any, Literal, get_args

import yaml

from deployments.checkout import ROOT
from deployments.names import POOL

Target = Literal["local", "staging", "production"]
PREFECT_FILE = ROOT / "prefect.yaml"


def pool_of(target: Target) -> str:
    """Name of the work pool that a target's deployments go to."""
    return str(_read()["definitions"][target]["name"])


@lru_cache(maxsize=1)
def pools() -> tuple[str, ...]:
    """Names of the work pools of all targets; that of this machine where no `prefect.yaml` is."""
    if not PREFECT_FILE.exists():
        return (POOL,)
    return tuple(pool_of(target) for target in get_args(Target))


def deployments_of(target: Target) -> list[dict[str, Any]]:
    """The deployments of `prefect.yaml` with the pool and the job variables of a target."""
    content = _read()
    pool = content["definitions"][target]
    return [
        {**one, "work_pool": {**pool, "work_queue_name": one["work_pool"]["work_queue_name"]}}
        for one in content["deployments"]
    ]


def pull_steps() -> list[dict[str, Any]]:
    """What a worker does before it loads a flow."""
    return list(_read()["pull"])


def _read() -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load(PREFECT_FILE.read_text(encoding="utf-8"))
    return content
