"""The worker types that Prefect finds through the entry point `prefect.collections`: importing a class registers it.

The warm worker is registered only if this version of Prefect has the names that it needs.
"""

from deployments.runpod import RunPodWorker
from deployments.warm.contract import missing_names

__all__ = ["RunPodWorker"]

if not missing_names():
    from deployments.warm.worker import WarmWorker  # noqa: F401 - registered by its import
