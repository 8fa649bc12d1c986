"""What Prefect finds by our entry point, in workers and in servers: importing a worker's class makes its type known.

The warm worker is left out where Prefect's private modules are not as it needs them; `panelworks worker` says so.
"""

from deployments.runpod import RunPodWorker
from deployments.warm.contract import breaches

__all__ = ["RunPodWorker"]

if not breaches():
    from deployments.warm.worker import WarmWorker  # noqa: F401 - known to Prefect by being imported
