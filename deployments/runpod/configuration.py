"""The configuration of a `runpod` work pool: its form, and the pod that results for a run."""

import os
import shlex
from typing import Final

from prefect.workers.base import BaseJobConfiguration, BaseVariables
from pydantic import Field, SecretStr
from pydantic.config import JsonDict

from blocks.runpod_credentials import RunPodCredentials
from deployments.runpod.api import Cloud, PodRequest, RunPodApi

_KEY_VARIABLE: Final = "RUNPOD_API_KEY"
_COMMAND: Final = "python -m deployments.runpod.pod"
"""Executes the flow run once, reports a container that died, and ends its own pod."""
_RETRY_SECONDS: Final = 60.0
_EXAMPLE_NAME: Final = "panelworks-check"
_ENVIRONMENT: Final[JsonDict] = {
    "PANELWORKS_GPU_PRICE_PER_HOUR": "{{ price_per_gpu_hour }}",
    "MODEL_PATH": "/models",
    "PANELWORKS_CACHE_DIR": "/models/cache",
    "PREFECT_RESULTS_LOCAL_STORAGE_PATH": "/models/cache/results",
    "PREFECT_DEFAULT_RESULT_STORAGE_BLOCK": "{{ result_storage }}",
}
"""Variables of every run; those of the pool and of the deployment override them."""


class RunPodConfiguration(BaseJobConfiguration):
    """The configuration of one run."""

    env: dict[str, str | None] = Field(default_factory=dict, json_schema_extra={"template": _ENVIRONMENT})
    image: str
    gpu_types: list[str] = Field(min_length=1)
    gpu_count: int = Field(default=1, ge=1)
    cloud: Cloud = "SECURE"
    spot: bool = False
    min_cuda: str = "13.0"
    max_price_per_hour: float | None = None
    network_volume: str | None = None
    data_centers: list[str] = Field(default_factory=list)
    disk_gb: int = 20
    registry_credentials: str | None = None
    max_runtime_minutes: float = Field(default=240, gt=0)
    capacity_timeout_seconds: float = 900
    poll_seconds: float = Field(default=5, gt=0)
    credentials: RunPodCredentials | None = None

    def api(self) -> RunPodApi:
        """RunPod's API with the key of the pool's block, or of the environment.

        Raises:
            ValueError: there is no key.
        """
        block = self.credentials or RunPodCredentials(api_key=SecretStr(os.environ.get(_KEY_VARIABLE, "")))
        key = block.api_key.get_secret_value()
        if not key:
            raise ValueError(
                f"RunPod needs a key: choose a RunPod Credentials block, or set {_KEY_VARIABLE}."
            )
        return RunPodApi(key, url=block.url, spot_url=block.spot_url, retry_seconds=_RETRY_SECONDS)

    def pod_request(self, name: str = _EXAMPLE_NAME) -> PodRequest:
        """The pod to rent.

        Raises:
            ValueError: RunPod would reject it.
        """
        env = {key: value for key, value in self.env.items() if value is not None}
        if self.spot:
            # A spot pod is ended with five seconds' notice: the page returns to the queue.
            env.setdefault("PREFECT_FLOW_RUN_EXECUTE_SIGTERM_BEHAVIOR", "reschedule")
        command = self.command or ""
        return PodRequest(
            name=name,
            image=self.image,
            command=tuple(shlex.split(_COMMAND if command == self._base_flow_run_command() else command)),
            # The worker ends the pod in time; without a worker, the pod ends itself a little later.
            env={**env, "PANELWORKS_MAX_RUNTIME_SECONDS": str(self.max_runtime_minutes * 60 + 60)},
            gpu_type=self.gpu_types[0],
            gpu_count=self.gpu_count,
            cloud=self.cloud,
            spot=self.spot,
            min_cuda=self.min_cuda,
            disk_gb=self.disk_gb,
            network_volume=self.network_volume,
            volume_path="/models",
            registry_credentials=self.registry_credentials,
            data_centers=tuple(self.data_centers),
        )


class RunPodVariables(BaseVariables):
    """The form of the pool."""

    image: str = Field(
        default="panelworks:cuda",
        title="Image",
        description="Image built from deployments/Dockerfile, target cuda, in a registry that RunPod can reach.",
    )
    gpu_types: list[str] = Field(
        default=["NVIDIA L4", "NVIDIA RTX A5000", "NVIDIA GeForce RTX 4090"],
        min_length=1,
        title="GPU types",
        description="RunPod's names of acceptable GPUs, the best first; the first free one is rented.",
    )
    gpu_count: int = Field(default=1, ge=1, title="GPUs", description="GPUs per pod.")
    cloud: Cloud = Field(
        default="SECURE",
        title="Cloud",
        description="SECURE: RunPod's data centres. COMMUNITY: machines of other people, cheaper, without network volumes.",
    )
    spot: bool = Field(
        default=False,
        title="Spot",
        description="Cheaper pods that RunPod may take back with five seconds' notice; their pages return to the"
        " queue. Only version 1 of RunPod's API rents them, which RunPod retires at the end of 2026.",
    )
    min_cuda: str = Field(
        default="13.0",
        pattern=r"^\d+\.\d+$",
        title="Minimum CUDA version",
        description="CUDA version that the machine's driver must support; 13.0 for the image of deployments/Dockerfile.",
    )
    max_price_per_hour: float | None = Field(
        default=1.0,
        gt=0,
        title="Maximum price (USD per hour)",
        description="Price limit of a whole pod; more expensive ones are not rented. Empty: no limit.",
    )
    network_volume: str | None = Field(
        default=None,
        title="Network volume",
        description="Id of a network volume for weights and results, shared by all pods (mounted at /models).",
    )
    data_centers: list[str] = Field(
        default=[],
        title="Data centres",
        description="Where to rent; empty: anywhere. With a network volume, only its own data centre is possible.",
    )
    disk_gb: int = Field(default=20, ge=5, title="Disk (GB)", description="Disk of a pod, deleted with it.")
    registry_credentials: str | None = Field(
        default=None,
        title="Registry credentials",
        description="Id of the credentials of a private registry at RunPod.",
    )
    max_runtime_minutes: float = Field(
        default=240,
        gt=0,
        title="Longest runtime (minutes)",
        description="A run that takes longer is ended and becomes TimedOut.",
    )
    capacity_timeout_seconds: float = Field(
        default=900,
        gt=0,
        title="Wait for a GPU (seconds)",
        description="A run that gets no GPU within this time counts as crashed.",
    )
    poll_seconds: float = Field(
        default=5,
        gt=0,
        title="Check interval (seconds)",
        description="How often the worker checks a pod and its run.",
    )
    price_per_gpu_hour: float | None = Field(
        default=None,
        ge=0,
        title="Price per GPU hour",
        description="US dollars; pages, books and reports show the cost.",
    )
    result_storage: str | None = Field(
        default=None,
        pattern=r"^[a-z0-9-]+/.+$",
        title="Result storage block",
        description="Block of Prefect in which the results of stages are stored, such as s3-bucket/panelworks-results, which"
        " 'provision' creates where PANELWORKS_STORE is a bucket. Empty: a folder in /models.",
    )
    credentials: RunPodCredentials | None = Field(
        default=None,
        title="Credentials",
        description=f"Block with the API key; empty: {_KEY_VARIABLE} of the worker's environment.",
    )
