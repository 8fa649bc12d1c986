"""RunPod's REST API: pods, requests for pods, and a client that retries while the API is unavailable.

Bodies follow the published descriptions: version 2, and version 1 for spot pods, which version 2 does not offer.
Answers are parsed leniently: recorded ones lack documented fields and contain others.
"""

import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal, Self
from uuid import UUID

import anyio
import httpx
from pydantic import BaseModel, ConfigDict, Field

API_V2_URL: Final = "https://api.runpod.io/v2"
API_V1_URL: Final = "https://rest.runpod.io/v1"
Cloud = Literal["SECURE", "COMMUNITY"]

_ENDED: Final = frozenset({"EXITED", "ERROR", "TERMINATED"})
_POD_NAME_PREFIX: Final = "panelworks"
_REQUEST_TIMEOUT: Final = httpx.Timeout(30, connect=10)
_MAX_RETRY_AFTER_SECONDS: Final = 60.0
_MAX_BACKOFF_EXPONENT: Final = 4
_NO_CAPACITY_PATTERN: Final = re.compile(
    r"no (?:longer any )?instances|does not have the resources|no gpu", re.IGNORECASE
)
"""Matches the message of RunPod if no GPU is free. The status does not tell: it is 400 or 500, as for other errors."""


class RunPodError(Exception):
    """A request to RunPod failed."""


class NoCapacity(RunPodError):
    """RunPod cannot rent this pod now: no GPU of the type is free, or RunPod limits the rate."""


class Refused(RunPodError):
    """RunPod rejected the request, and a retry would not help: a wrong key, an empty balance, an invalid body."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(f"RunPod answered {status}: {reason}")
        self.status = status


class Unavailable(RunPodError):
    """RunPod did not answer, answered with a server error, or still limited the rate after all retries.

    It is unknown whether the request was carried out.
    """


@dataclass(frozen=True)
class Pod:
    """A pod as RunPod reports it."""

    id: str
    name: str
    status: str
    """PROVISIONING, STARTING, RUNNING, EXITED, ERROR, TERMINATED, or a value that RunPod adds."""
    cost_per_hour: float
    """US dollars; 0 if RunPod does not report it."""
    created: datetime | None

    @property
    def ended(self) -> bool:
        """Whether it has stopped. A container that exits does not end its pod: RunPod starts it again."""
        return self.status in _ENDED

    @property
    def purpose(self) -> tuple[UUID, int] | None:
        """The run that it was rented for, and the attempt; None for a pod that is not ours."""
        attempt, _, run = (
            self.name[len(_POD_NAME_PREFIX) :].removeprefix("-").partition("-")[2].partition("-")
        )
        try:
            return UUID(run), int(attempt)
        except ValueError:
            return None


def pod_prefix(pool_id: UUID) -> str:
    """The prefix of the names of a work pool's pods. The id keeps them unique if several servers share an account."""
    return f"{_POD_NAME_PREFIX}-{pool_id.hex[:12]}-"


def pod_name(pool_id: UUID, flow_run_id: UUID, attempt: int) -> str:
    """The name of the pod of an attempt at a run: each attempt gets its own pod."""
    return f"{pod_prefix(pool_id)}{attempt}-{flow_run_id}"


def read_pod(answer: Mapping[str, Any]) -> Pod:
    """Parse a pod of either version of the API."""
    cost = answer.get("cost", answer.get("costPerHr")) or 0
    return Pod(
        id=str(answer["id"]),
        name=str(answer.get("name", "")),
        status=str(answer.get("status") or answer.get("desiredStatus") or "PROVISIONING"),
        cost_per_hour=float(cost),
        created=_parse_time(answer.get("createdAt")),
    )


def _parse_time(text: Any) -> datetime | None:
    """ISO 8601, or the format of version 1: `2026-08-20 06:16:19.436 +0000 UTC`."""
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
    """RunPod accepts at most 50 variables."""
    gpu_type: str = Field(min_length=1)
    gpu_count: int = Field(ge=1)
    cloud: Cloud
    spot: bool
    min_cuda: str = Field(pattern=r"^\d+\.\d+$")
    """The CUDA version that the machine's driver must support at least, such as `13.0`."""
    disk_gb: int = Field(ge=1)
    """Disk of the container, deleted when the pod ends."""
    network_volume: str | None
    """Id of a network volume for the weights, which stays when the pod ends."""
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
            # Without the count, version 2 answers that there are no instances.
            "gpu": {"id": self.gpu_type, "count": self.gpu_count, "minCudaVersion": self.min_cuda},
            **{key: value for key, value in optional.items() if value is not None},
        }

    def spot_body(self) -> dict[str, Any]:
        """The body of POST /v1/pods, for a pod that RunPod may take back."""
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
            "volumeInGb": 0,  # by default RunPod adds a volume of 20 GB, which stays when the pod is stopped
            "volumeMountPath": self.volume_path,
            "cloudType": self.cloud,
            "computeType": "GPU",
            "gpuTypeIds": [self.gpu_type],
            "gpuCount": self.gpu_count,
            "allowedCudaVersions": [self.min_cuda],  # version 1 accepts no version above 13.0
            "interruptible": True,
            **{key: value for key, value in optional.items() if value is not None},
        }


class RunPodApi:
    """The pods of an account.

    Every request except `create` is retried while RunPod is unreachable, limits the rate (429) or fails (5xx), for
    at most `retry_seconds`.
    """

    def __init__(
        self, key: str, *, url: str = API_V2_URL, spot_url: str = API_V1_URL, retry_seconds: float = 300
    ) -> None:
        self._client = httpx.AsyncClient(headers={"Authorization": f"Bearer {key}"}, timeout=_REQUEST_TIMEOUT)
        self._url = url.rstrip("/")
        self._spot_url = spot_url.rstrip("/")
        self._retry_seconds = retry_seconds

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *raised: object) -> None:
        await self._client.aclose()

    async def create(self, request: PodRequest) -> Pod:
        """Rent a pod. The request is sent once: a retry could rent a second pod.

        Raises:
            NoCapacity: no GPU of this type is free, or RunPod limits the rate.
            Refused: RunPod rejects the request.
            Unavailable: it is unknown whether a pod was rented; it would have the name of the request.
        """
        url, body = (self._spot_url, request.spot_body()) if request.spot else (self._url, request.body())
        try:
            response = await self._client.post(f"{url}/pods", json=body)
        except httpx.HTTPError as error:
            raise Unavailable(f"RunPod did not answer ({type(error).__name__}).") from error
        if response.is_success:
            return read_pod(response.json())
        reason = _reason(response)
        if _NO_CAPACITY_PATTERN.search(reason):
            raise NoCapacity(reason)
        if response.status_code == httpx.codes.TOO_MANY_REQUESTS:
            await anyio.sleep(_retry_after(response, 1))
            raise NoCapacity("RunPod limits the rate of requests.")
        if response.is_server_error:
            raise Unavailable(f"RunPod answered {response.status_code}: {reason}")
        if response.status_code == httpx.codes.GONE:
            reason += " Version 1 of the API is retired, and version 2 offers no spot pods: disable `spot`."
        raise Refused(response.status_code, reason)

    async def list_pods(self) -> list[Pod]:
        """All pods of the account.

        Raises:
            Refused, Unavailable: see the classes.
        """
        response = await self._request("GET", "/pods")
        return [read_pod(one) for one in response.json()["pods"]]

    async def read_pod(self, pod_id: str) -> Pod | None:
        """A pod; None if it does not exist any more.

        Raises:
            Refused, Unavailable: see the classes.
        """
        response = await self._request("GET", f"/pods/{pod_id}", allow_missing=True)
        return None if response.status_code == httpx.codes.NOT_FOUND else read_pod(response.json())

    async def delete(self, pod_id: str) -> None:
        """End a pod and its cost. It is no error if the pod does not exist any more.

        Raises:
            Refused, Unavailable: see the classes.
        """
        await self._request("DELETE", f"/pods/{pod_id}", allow_missing=True)

    async def list_prices(self, cloud: Cloud) -> dict[str, float]:
        """US dollars per hour of one GPU, by type; types that the cloud does not offer are omitted.

        Raises:
            Refused, Unavailable: see the classes.
        """
        found: list[Mapping[str, Any]] = (await self._request("GET", "/catalog/gpus")).json()["gpus"]
        named = {str(one["id"]): (one.get("price") or {}).get(cloud.lower()) for one in found}
        return {name: float(price) for name, price in named.items() if price}

    async def _request(self, method: str, path: str, *, allow_missing: bool = False) -> httpx.Response:
        async def send() -> httpx.Response:
            return await self._client.request(method, self._url + path)

        response = await _retry(send, self._retry_seconds)
        if response.is_success or (allow_missing and response.status_code == httpx.codes.NOT_FOUND):
            return response
        raise Refused(response.status_code, _reason(response))


async def _retry(send: Callable[[], Awaitable[httpx.Response]], seconds: float) -> httpx.Response:
    """Retry a request on network errors, 429 and 5xx, and return the first other response."""
    deadline, attempt = anyio.current_time() + seconds, 0
    while True:
        try:
            response = await send()
            if response.status_code != httpx.codes.TOO_MANY_REQUESTS and not response.is_server_error:
                return response
            problem, pause = f"answered {response.status_code}", _retry_after(response, 2**attempt)
        except httpx.HTTPError as error:
            problem, pause = f"did not answer ({type(error).__name__})", 2.0**attempt
        if anyio.current_time() + pause > deadline:
            raise Unavailable(f"RunPod {problem} for {seconds:.0f} s.")
        await anyio.sleep(pause)
        attempt = min(attempt + 1, _MAX_BACKOFF_EXPONENT)


def _retry_after(response: httpx.Response, default: float) -> float:
    """Seconds to wait before the next attempt."""
    try:
        return min(float(response.headers["Retry-After"]), _MAX_RETRY_AFTER_SECONDS)
    except (KeyError, ValueError):
        return default


def _reason(response: httpx.Response) -> str:
    """The message of an error: problem+json of version 2, or one of the formats of version 1."""
    try:
        body = response.json()
    except ValueError:
        return response.text[:300]
    if not isinstance(body, dict):
        return str(body)[:300]
    messages = [str(body[key]) for key in ("detail", "error", "message", "title") if body.get(key)]
    return "; ".join([*messages[:1], *map(str, body.get("errors") or [])])[:500]
