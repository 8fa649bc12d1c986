"""Work pools of the type `runpod`: one rented pod a flow run."""

from deployments.runpod.worker import RunPodWorker

__all__ = ["RunPodWorker"]
