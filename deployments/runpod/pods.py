"""What is asked of RunPod and what it answers, in our words.

Bodies follow the published descriptions of its REST API: version 2, and version 1 for spot pods, which version 2
does not rent. Answers are read leniently: recorded ones lack documented fields and have others.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

Cloud = Literal["SECURE", "COMMUNITY"]
_ENDED: Final = frozenset({"EXITED", "ERROR", "TERMINATED"})
_PREFIX: Final = "panelworks"


@dataclass(frozen=True)
class Pod:
    """A pod as RunPod tells of it."""

    id: str
    name: str
    status: str
    """PROVISIONING, STARTING, RUNNING, EXITED, ERROR, TERMINATED, or whatever RunPod adds."""
    cost_per_hour: float
    """US dollars; 0 where RunPod does not say."""
    created: datetime | None

    @property
    def ended(self) -> bool:
        """It computes no more. A container that exits does not end its pod: RunPod starts it again."""
        return self.status in _ENDED

    @property
    def purpose(self) -> tuple[UUID, int] | None:
        """The run that it was rented for, and which attempt of it; None for a pod of somebody else."""
        attempt, _, run = self.name[len(_PREFIX) :].removeprefix("-").partition("-")[2].partition("-")
        try:
            return UUID(run), int(attempt)
        except ValueError:
            return None


def pod_prefix(pool_id: UUID) -> str:
    """How the names of the pods of a work pool begin. The id is of one server: accounts may be shared by several."""
    return f"{_PREFIX}-{pool_id.hex[:12]}-"


def pod_name(pool_id: UUID, flow_run_id: UUID, attempt: int) -> str:
    """The name of the pod of an attempt at a run: one that is handed back gets another pod."""
    return f"{pod_prefix(pool_id)}{attempt}-{flow_run_id}"


def read_pod(answer: Mapping[str, Any]) -> Pod:
    """A pod of either version of the API."""
    cost = answer.get("cost", answer.get("costPerHr")) or 0
    return Pod(
        id=str(answer["id"]),
        name=str(answer.get("name", "")),
        status=str(answer.get("status") or answer.get("desiredStatus") or "PROVISIONING"),
        cost_per_hour=float(cost),
        created=_moment(answer.get("createdAt")),
    )


def _moment(text: Any) -> datetime | None:
    """ISO 8601, or the form of version 1: `2026-08-20 06:16:19.436 +0000 UTC`."""
    if not isinstance(text, str):
        return None
    try:
        return datetime.fromisoformat(text.removesuffix(" UTC").replace(" +0000", "+00:00"))
    except ValueError:
        return None


class PodRequest(BaseModel):
    """A pod to rent, with one type of GPU."""

    model_config = ConfigDict(frozen=True)

    name: str = Field(min_length=1, max_length=191)
    image: str = Field(min_length=1)
    command: tuple[str, ...] = Field(min_length=1)
    env: dict[str, str] = Field(max_length=50)
    """RunPod takes at most 50 variables."""
    gpu_type: str = Field(min_length=1)
    gpu_count: int = Field(ge=1)
    cloud: Cloud
    spot: bool
    min_cuda: str = Field(pattern=r"^\d+\.\d+$")
    """CUDA that the machine's driver must bear at least, such as `13.0`."""
    disk_gb: int = Field(ge=1)
    """Disk of the container, wiped when the pod ends."""
    network_volume: str | None
    """Id of a network volume, kept between pods; there are the weights."""
    volume_path: str = Field(pattern="^/")
    registry_credentials: str | None
    data_centers: tuple[str, ...]

    def body(self) -> dict[str, Any]:
        """The body of POST /v2/pods."""
        optional = {
            "registry": self.registry_credentials,
            "dataCenterIds": list(self.data_centers) or None,
            "mounts": {"network": [{"volumeId": self.network_volume, "path": self.volume_path}]}
            if self.network_volume
            else None,
        }
        return {
            "name": self.name,
            "image": self.image,
            "args": " ".join(self.command),
            "env": self.env,
            "disk": self.disk_gb,
            "cloud": self.cloud,
            # Version 2 answers that there are no instances when the count is left out.
            "gpu": {"id": self.gpu_type, "count": self.gpu_count, "minCudaVersion": self.min_cuda},
            **{key: value for key, value in optional.items() if value is not None},
        }

    def spot_body(self) -> dict[str, Any]:
        """The body of POST /v1/pods, for a pod that RunPod may take away."""
        optional = {
            "containerRegistryAuthId": self.registry_credentials,
            "dataCenterIds": list(self.data_centers) or None,
            "networkVolumeId": self.network_volume,
        }
        return {
            "name": self.name,
            "imageName": self.image,
            "dockerStartCmd": list(self.command),
            "env": self.env,
            "containerDiskInGb": self.disk_gb,
            "volumeInGb": 0,  # else a volume of 20 GB is rented, which stays when a pod is stopped
            "volumeMountPath": self.volume_path,
            "cloudType": self.cloud,
            "computeType": "GPU",
            "gpuTypeIds": [self.gpu_type],
            "gpuCount": self.gpu_count,
            "allowedCudaVersions": [self.min_cuda],  # version 1 knows none above 13.0
            "interruptible": True,
            **{key: value for key, value in optional.items() if value is not None},
        }
