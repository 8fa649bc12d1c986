"""Names that the deployments, the worker and the gateway agree on; `prefect.yaml` uses the same."""

import socket
from typing import Final, Literal, get_args

POOL: Final = "panelworks"
"""The work pool of GPU machines."""
Priority = Literal["interactive", "events", "backfill"]
"""Queues of the pool, the most urgent first."""
QUEUES: Final[tuple[Priority, ...]] = get_args(Priority)
PoolKind = Literal["process", "docker", "kubernetes", "ecs", "runpod"]
"""The infrastructure that runs are started in; Prefect's worker types."""
ENHANCE_PAGE: Final = "enhance-page/enhance-page"
PAGE_FLOWS: Final = ("enhance-page", "reenhance")
"""Flows whose run is one page."""
GENERATED: Final = "comic.panel.generated"
WORKER_LABEL: Final = "prefect.worker.name"
"""Label of a run with the name of its worker; a worker stores it when it starts the run."""
MIRRORED: Final = "comic.priority.accepted."
"""Start of the resource id of a panel whose run was created by the gateway: no trigger of ours matches it."""

GPU_LIMIT_PREFIX: Final = "gpu:"
"""Start of the names of the concurrency limits of GPUs."""


def generated_resource(name: str, priority: Priority) -> str:
    """The resource id of a generated panel; automations choose the queue by its prefix."""
    return f"comic.panel.{name}" if priority == "events" else f"comic.priority.{priority}.{name}"


def gpu_limit() -> str:
    """Name of the concurrency limit of this machine's GPU."""
    return f"{GPU_LIMIT_PREFIX}{socket.gethostname()}"


def worker_name() -> str:
    """Name of this machine's worker."""
    return f"panelworks-{socket.gethostname()}"
