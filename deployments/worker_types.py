"""The worker types that Prefect finds through the entry point `prefect.collections`: importing a class registers it.

The warm worker is registered only if this version of Prefect has the names that it needs, the worker of ECS tasks only
if prefect-aws is installed.
"""

from importlib.util import find_spec

from deployments.runpod import RunPodWorker
from deployments.warm.contract import missing_names

__all__ = ["RunPodWorker"]

if not missing_names():
    from deployments.warm.worker import WarmWorker  # noqa: F401 - registered by its import

if find_spec("prefect_aws"):
    from deployments.ecs.worker import EcsWorker  # noqa: F401 - registered by its import
