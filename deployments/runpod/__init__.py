"""Work pools of the type `runpod`: one rented GPU pod per flow run. See README.md."""

from deployments.runpod.worker import RunPodWorker

__all__ = ["RunPodWorker"]
