"""The targets of `prefect.yaml`: the same deployments for this machine, for staging, for production."""

from functools import lru_cache
from pathlib import Path
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


def write_for(target: Target, folder: Path) -> Path:
    """Write `prefect.yaml` as it is with another target in its one place; gives the file's path."""
    content = _read()
    pool = content["definitions"][target]
    for deployment in content["deployments"]:
        queue = deployment["work_pool"]["work_queue_name"]
        deployment["work_pool"] = {**pool, "work_queue_name": queue}
    path = folder / "prefect.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


def _read() -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load(PREFECT_FILE.read_text())
    return content
