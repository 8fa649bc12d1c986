"""The lease of a pod: renting one for a run, and following it until pod or run has ended.

RunPod reports no exit code and restarts a container that has exited: only Prefect knows how a run ended.
"""

import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

import anyio
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.objects import FlowRun, StateType

from deployments.followed_runs import Missing, read_run
from deployments.runpod.api import NoCapacity, Pod, PodRequest, Refused, RunPodApi, RunPodError, Unavailable

logger = logging.getLogger(__name__)

RENT_INTERVAL_SECONDS: Final = 15.0
"""Between two rounds of requests for all GPU types."""
LAST_STATE_SECONDS: Final = 10.0
"""Time for the last state of a run to arrive after its pod has ended, and for a pod to end (RunPod: five seconds)."""
_LEAVE_POD_SECONDS: Final = 90.0
"""A run that is scheduled or cancelling for longer does not need its pod any more."""


class TooExpensive(Refused):
    """All requested GPU types cost more than the limit."""

    def __init__(self, limit: float) -> None:
        super().__init__(402, f"none of the GPUs costs at most {limit:.2f} USD an hour")


async def rent(
    api: RunPodApi,
    request: PodRequest,
    gpu_types: Sequence[str],
    *,
    max_price: float | None,
    timeout_seconds: float,
    is_wanted: Callable[[], Awaitable[bool]],
    interval_seconds: float = RENT_INTERVAL_SECONDS,
) -> Pod | None:
    """Rent a pod of the first type that is free; no run gets two pods.

    Args:
        api: The account.
        request: The pod; its type of GPU is replaced.
        gpu_types: Acceptable types, the best first.
        max_price: US dollars per hour of the whole pod at most; None: any price.
        timeout_seconds: How long to try while no GPU is free.
        is_wanted: Whether the run still needs a pod; called before each round.
        interval_seconds: Between two rounds.

    Returns:
        The pod, possibly one that was rented earlier under this name; None if it is not wanted any more.

    Raises:
        NoCapacity: no GPU was free in time.
        TooExpensive: all types cost more than the limit.
        Refused, Unavailable: RunPod rejects the request, or does not answer.
    """
    deadline = anyio.current_time() + timeout_seconds
    while await is_wanted():
        if existing := await _find_pod(api, request.name):
            return existing
        affordable = await _select_affordable(api, request, gpu_types, max_price)
        for gpu_type in affordable:
            pod = await _try_to_rent(api, request.model_copy(update={"gpu_type": gpu_type}))
            if pod is None:
                continue
            if max_price is None or pod.cost_per_hour <= max_price:
                return pod
            await api.delete(pod.id)  # it costs more than the catalogue says
            affordable = [one for one in affordable if one != gpu_type]
        if not affordable and max_price is not None:
            raise TooExpensive(max_price)
        if anyio.current_time() + interval_seconds > deadline:
            minutes = timeout_seconds / 60
            raise NoCapacity(f"RunPod had none of {', '.join(gpu_types)} for {minutes:.0f} minutes.")
        await anyio.sleep(interval_seconds)
    return None


async def _select_affordable(
    api: RunPodApi, request: PodRequest, gpu_types: Sequence[str], max_price: float | None
) -> list[str]:
    """The types without a known price above the limit. Spot prices are in no catalogue, but below the others."""
    if max_price is None or request.spot:
        return list(gpu_types)
    prices = await api.list_prices(request.cloud)
    return [one for one in gpu_types if prices.get(one, 0) * request.gpu_count <= max_price]


async def _try_to_rent(api: RunPodApi, request: PodRequest) -> Pod | None:
    """Rent a pod; None if no GPU is free. Without an answer, look for a pod that may have been rented."""
    try:
        return await api.create(request)
    except NoCapacity:
        return None
    except Unavailable:
        return await _find_pod(api, request.name)


async def _find_pod(api: RunPodApi, name: str) -> Pod | None:
    return next((pod for pod in await api.list_pods() if pod.name == name and not pod.ended), None)


class Ending(Enum):
    """How a lease ended."""

    DONE = auto()
    """The run has a final state."""
    HANDED_BACK = auto()
    """RunPod took the pod back, and the run is scheduled again."""
    DIED = auto()
    """The pod ended before the run."""
    OVERDUE = auto()
    """The run exceeds the time limit of the pool."""
    UNRESPONSIVE = auto()
    """The run ignores its cancellation."""


@dataclass
class _Duration:
    """Measures for how long a condition has been true."""

    since: float | None = None

    def update(self, is_true: bool) -> float:
        """Seconds for which it has been true without interruption."""
        now = anyio.current_time()
        self.since = (self.since or now) if is_true else None
        return now - self.since if self.since else 0.0


async def follow(
    api: RunPodApi,
    client: PrefectClient,
    pod: Pod,
    started: FlowRun,
    *,
    max_seconds: float,
    interval_seconds: float,
) -> Ending:
    """Wait for the end of a lease. While an API is unavailable, the lease continues.

    Args:
        api: RunPod's.
        client: Prefect's.
        pod: The pod of the run.
        started: The run as it was when the pod was rented.
        max_seconds: Time limit of the run.
        interval_seconds: Between two checks.
    """
    deadline = anyio.current_time() + max_seconds
    ended, waiting, cancelling = _Duration(), _Duration(), _Duration()
    while True:
        run = await read_run(client, started.id)
        if isinstance(run, Missing) or (run and run.state and run.state.is_final()):
            return Ending.DONE
        state_type = run.state_type if run else None
        ended_seconds = ended.update(await _has_ended(api, pod))
        waiting_seconds = waiting.update(state_type == StateType.SCHEDULED)
        if state_type == StateType.SCHEDULED and (ended_seconds or waiting_seconds > _LEAVE_POD_SECONDS):
            return Ending.HANDED_BACK
        if run and is_retried_elsewhere(run, started.run_count, pod_ended=ended_seconds > 0):
            return Ending.HANDED_BACK
        if run and ended_seconds > LAST_STATE_SECONDS:
            return Ending.DIED
        if cancelling.update(state_type == StateType.CANCELLING) > _LEAVE_POD_SECONDS:
            return Ending.UNRESPONSIVE
        if anyio.current_time() > deadline:
            return Ending.OVERDUE
        await anyio.sleep(interval_seconds)


def is_retried_elsewhere(run: FlowRun, attempt: int, *, pod_ended: bool) -> bool:
    """Whether this or another worker has started another attempt at the run.

    Args:
        run: The run now.
        attempt: How often it had started before the pod was rented.
        pod_ended: Whether the pod has ended. A flow that retries inside its pod starts again too.
    """
    if run.state_type == StateType.PENDING:
        return run.run_count > attempt
    return pod_ended and run.run_count > attempt + 1


async def _has_ended(api: RunPodApi, pod: Pod) -> bool:
    """Whether the pod has ended; while RunPod is unavailable, no."""
    try:
        current = await api.read_pod(pod.id)
    except RunPodError as error:
        logger.warning("status of pod %s unknown: %s", pod.id, error)
        return False
    return current is None or current.ended
