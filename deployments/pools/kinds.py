"""The kinds of work pools: their worker, the package that holds it, the template of their jobs."""

import json
from importlib import import_module
from pathlib import Path
from typing import Any, Final, get_args

from prefect.workers.base import BaseWorker

from deployments.names import PoolKind

_FOLDER: Final = Path(__file__).parents[1] / "work_pools"

KINDS: Final[tuple[PoolKind, ...]] = get_args(PoolKind)
AnyWorker = BaseWorker[Any, Any, Any]

_WORKERS: Final[dict[PoolKind, tuple[str, str]]] = {
    "process": ("prefect.workers.process", "ProcessWorker"),
    "docker": ("prefect_docker.worker", "DockerWorker"),
    "kubernetes": ("prefect_kubernetes.worker", "KubernetesWorker"),
    "ecs": ("prefect_aws.workers.ecs_worker", "ECSWorker"),
    "runpod": ("deployments.runpod.worker", "RunPodWorker"),
}
"""Module and class; those of clouds come with the extras of the same names."""


class UnknownKind(ValueError):
    """There is no template for this kind of pool, or its worker is not installed."""


def kind_of(pool_type: str) -> PoolKind:
    """The kind of a pool of the server.

    Raises:
        UnknownKind: it is of a type that has no template here.
    """
    for kind in KINDS:
        if kind == pool_type:
            return kind
    raise UnknownKind(f"Pools of type '{pool_type}' are none of ours: {', '.join(KINDS)}.")


def worker_class(kind: PoolKind) -> type[AnyWorker]:
    """The worker that serves pools of a kind.

    Raises:
        UnknownKind: its package is not installed.
    """
    module, name = _WORKERS[kind]
    try:
        found: type[AnyWorker] = getattr(import_module(module), name)
    except ImportError as missing:
        raise UnknownKind(
            f"Pools of type '{kind}' need a package: pip install 'panelworks[{kind}]' ({missing})."
        ) from missing
    return found


def template(kind: PoolKind, pool: str | None = None) -> dict[str, Any]:
    """The base job template of a kind: what the worker makes of a run, and the form of its variables.

    Args:
        kind: Of the pool.
        pool: Its name, which its runs record with their cost; else they record its kind.

    Raises:
        UnknownKind: the template is the worker's own, and its package is not installed.
    """
    path = _FOLDER / f"{kind}.json"
    jobs: dict[str, Any] = (
        json.loads(path.read_text(encoding="utf-8"))
        if path.is_file()
        else worker_class(kind).get_default_base_job_template()
    )
    jobs["job_configuration"]["env"]["PANELWORKS_POOL"] = pool or kind
    return jobs
