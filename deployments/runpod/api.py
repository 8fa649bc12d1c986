"""RunPod's REST API: patient where it is away, plain where it refuses."""

import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, Self

import anyio
import httpx

from deployments.runpod.pods import Cloud, Pod, PodRequest, read_pod

V2: Final = "https://api.runpod.io/v2"
V1: Final = "https://rest.runpod.io/v1"
_TIMEOUT: Final = httpx.Timeout(30, connect=10)
_FULL: Final = re.compile(r"no (?:longer any )?instances|does not have the resources|no gpu", re.IGNORECASE)
"""What a refusal says when nothing is free; its status is 400 or 500, which tells nothing."""


class RunPodError(Exception):
    """RunPod did not do what it was asked."""


class NoCapacity(RunPodError):
    """Nothing that was asked for is free at the moment."""


class Refused(RunPodError):
    """It will not, now or later: a wrong key, an empty balance, a body that it does not take."""

    def __init__(self, status: int, said: str) -> None:
        super().__init__(f"RunPod answered {status}: {said}")
        self.status = status


class Away(RunPodError):
    """It did not answer for as long as we waited; whether it did what it was asked is not known."""


class RunPodApi:
    """The pods of an account.

    Every call but `create` is repeated while RunPod is away, asks for patience (429) or fails (5xx), until
    `patience` seconds have passed.
    """

    def __init__(self, key: str, *, url: str = V2, spot_url: str = V1, patience: float = 300) -> None:
        self._client = httpx.AsyncClient(headers={"Authorization": f"Bearer {key}"}, timeout=_TIMEOUT)
        self._url = url.rstrip("/")
        self._spot_url = spot_url.rstrip("/")
        self._patience = patience

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *raised: object) -> None:
        await self._client.aclose()

    async def create(self, request: PodRequest) -> Pod:
        """Rent a pod; asked once, since a second time might rent a second one.

        Raises:
            NoCapacity: no such GPU is free.
            Refused: RunPod does not take the request.
            Away: it is not known whether there is a pod now; it has the name of the request.
        """
        url, body = (self._spot_url, request.spot_body()) if request.spot else (self._url, request.body())
        try:
            answer = await self._client.post(f"{url}/pods", json=body)
        except httpx.HTTPError as error:
            raise Away(f"RunPod did not answer ({type(error).__name__}).") from error
        said = _said(answer)
        if answer.is_success:
            return read_pod(answer.json())
        if _FULL.search(said):
            raise NoCapacity(said)
        if answer.status_code == httpx.codes.TOO_MANY_REQUESTS:
            await anyio.sleep(_wait(answer, 1))
            raise NoCapacity("RunPod asks for fewer requests.")
        if answer.is_server_error:
            raise Away(f"RunPod answered {answer.status_code}: {said}")
        if answer.status_code == httpx.codes.GONE:
            said += " Version 1 of the API is retired, and version 2 rents no spot pods: switch spot off."
        raise Refused(answer.status_code, said)

    async def pods(self) -> list[Pod]:
        """All pods of the account.

        Raises:
            Refused, Away: as the class says.
        """
        answer = await self._ask("GET", "/pods")
        return [read_pod(one) for one in answer.json()["pods"]]

    async def pod(self, pod_id: str) -> Pod | None:
        """A pod; None when it is gone.

        Raises:
            Refused, Away: as the class says.
        """
        answer = await self._ask("GET", f"/pods/{pod_id}", missing_is_fine=True)
        return None if answer.status_code == httpx.codes.NOT_FOUND else read_pod(answer.json())

    async def delete(self, pod_id: str) -> None:
        """End a pod and all its cost; one that is gone already is fine.

        Raises:
            Refused, Away: as the class says.
        """
        await self._ask("DELETE", f"/pods/{pod_id}", missing_is_fine=True)

    async def prices(self, cloud: Cloud) -> dict[str, float]:
        """US dollars an hour of one GPU, by its type; types that the cloud does not have are left out.

        Raises:
            Refused, Away: as the class says.
        """
        found: list[Mapping[str, Any]] = (await self._ask("GET", "/catalog/gpus")).json()["gpus"]
        named = {str(one["id"]): (one.get("price") or {}).get(cloud.lower()) for one in found}
        return {name: float(price) for name, price in named.items() if price}

    async def _ask(self, method: str, path: str, *, missing_is_fine: bool = False) -> httpx.Response:
        async def once() -> httpx.Response:
            return await self._client.request(method, self._url + path)

        answer = await _patiently(once, self._patience)
        if answer.is_success or (missing_is_fine and answer.status_code == httpx.codes.NOT_FOUND):
            return answer
        raise Refused(answer.status_code, _said(answer))


async def _patiently(ask: Callable[[], Awaitable[httpx.Response]], patience: float) -> httpx.Response:
    """Ask until there is an answer that another attempt would not change."""
    deadline, attempt = anyio.current_time() + patience, 0
    while True:
        try:
            answer = await ask()
            if answer.status_code != httpx.codes.TOO_MANY_REQUESTS and not answer.is_server_error:
                return answer
            trouble, wait = f"answered {answer.status_code}", _wait(answer, 2**attempt)
        except httpx.HTTPError as error:
            trouble, wait = f"did not answer ({type(error).__name__})", 2.0**attempt
        if anyio.current_time() + wait > deadline:
            raise Away(f"RunPod {trouble} for {patience:.0f} s.")
        await anyio.sleep(wait)
        attempt = min(attempt + 1, 4)


def _wait(answer: httpx.Response, otherwise: float) -> float:
    """Seconds to wait before the next attempt."""
    try:
        return min(float(answer.headers["Retry-After"]), 60)
    except (KeyError, ValueError):
        return otherwise


def _said(answer: httpx.Response) -> str:
    """What a refusal says: problem+json of version 2, or one of the forms of version 1."""
    try:
        body = answer.json()
    except ValueError:
        return answer.text[:300]
    if not isinstance(body, dict):
        return str(body)[:300]
    told = [str(body[key]) for key in ("detail", "error", "message", "title") if body.get(key)]
    return "; ".join([*told[:1], *map(str, body.get("errors") or [])])[:500]
