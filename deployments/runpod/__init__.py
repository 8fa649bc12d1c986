"""Work pools of type `runpod`: one rented pod a flow run. Prefect finds the worker here, by its entry point."""

from deployments.runpod.worker import RunPodWorker

__all__ = ["RunPodWorker"]
