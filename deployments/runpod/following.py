"""Following a pod to its end: what the run's state in Prefect and the pod's status at RunPod mean together.

RunPod tells no exit code, and starts a container that exits again: only Prefect knows how a run ended.
"""

import logging
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final
from uuid import UUID

import anyio
import httpx
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.exceptions import ObjectNotFound

from deployments.runpod.api import RunPodApi, RunPodError
from deployments.runpod.pods import Pod

logger = logging.getLogger(__name__)

_UNREPORTED: Final = 10.0
"""Seconds for the last state of a run to arrive after its pod has ended."""
_OUT_OF_THE_POD: Final = 90.0
"""Seconds after which a run that waits to be started again, or to be cancelled, keeps its pod no longer."""


class Ending(Enum):
    """How a pod was seen to end."""

    DONE = auto()
    """The run has ended, however it did."""
    HANDED_BACK = auto()
    """The pod was taken away and the run is scheduled again."""
    DIED = auto()
    """The pod ended before the run did."""
    OVERDUE = auto()
    """The run takes longer than it may."""
    DEAF = auto()
    """The run is to be cancelled and does not obey."""


@dataclass
class _Clock:
    """Since when something has been the case."""

    since: float | None = None

    def lasted(self, true: bool) -> float:
        """Seconds for which it has been true without a break."""
        now = anyio.current_time()
        self.since = (self.since or now) if true else None
        return now - self.since if self.since else 0.0


async def follow(
    api: RunPodApi, client: PrefectClient, pod: Pod, begun: FlowRun, *, seconds: float, every: float
) -> Ending:
    """Wait for the end of a pod; an API that is away only makes it wait longer.

    Args:
        api: RunPod's.
        client: Prefect's.
        pod: The pod of the run.
        begun: The run as it was when the pod was rented.
        seconds: How long it may take.
        every: Seconds between two looks.
    """
    deadline = anyio.current_time() + seconds
    gone, waiting, cancelling = _Clock(), _Clock(), _Clock()
    while True:
        run = await run_of(client, begun.id)
        if isinstance(run, Missing) or (run and run.state and run.state.is_final()):
            return Ending.DONE
        kind = run.state_type if run else None
        absent = gone.lasted(await _is_gone(api, pod))
        rescheduled = waiting.lasted(kind == StateType.SCHEDULED)
        if kind == StateType.SCHEDULED and (absent or rescheduled > _OUT_OF_THE_POD):
            return Ending.HANDED_BACK
        if run and taken_again(run, begun.run_count, gone=absent > 0):
            return Ending.HANDED_BACK
        if run and absent > _UNREPORTED:
            return Ending.DIED
        if cancelling.lasted(kind == StateType.CANCELLING) > _OUT_OF_THE_POD:
            return Ending.DEAF
        if anyio.current_time() > deadline:
            return Ending.OVERDUE
        await anyio.sleep(every)


def taken_again(run: FlowRun, attempt: int, *, gone: bool) -> bool:
    """Has another worker, or we ourselves, begun another attempt at the run?

    Args:
        run: The run as it is.
        attempt: How often it had begun before the pod was rented.
        gone: Has the pod ended? A flow that retries in its pod begins again too.
    """
    if run.state_type == StateType.PENDING:
        return run.run_count > attempt
    return gone and run.run_count > attempt + 1


class Missing:
    """A run that Prefect does not know (any more)."""


async def run_of(client: PrefectClient, flow_run_id: UUID) -> FlowRun | Missing | None:
    """The run as it is; None while Prefect does not answer."""
    try:
        return await client.read_flow_run(flow_run_id)
    except ObjectNotFound:
        return Missing()
    except httpx.HTTPError as away:
        logger.warning("Prefect does not tell how run %s is (%s)", flow_run_id, type(away).__name__)
        return None


async def _is_gone(api: RunPodApi, pod: Pod) -> bool:
    """Has the pod ended? While RunPod is away, no."""
    try:
        seen = await api.pod(pod.id)
    except RunPodError as trouble:
        logger.warning("how pod %s is, is not known: %s", pod.id, trouble)
        return False
    return seen is None or seen.ended
