"""Renting a pod: the first type of GPU that is free and cheap enough, and never two for one run."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import anyio

from deployments.runpod.api import Away, NoCapacity, Refused, RunPodApi
from deployments.runpod.pods import Pod, PodRequest

_PAUSE: Final = 15.0
"""Seconds before all types are asked for again."""


class TooExpensive(Refused):
    """Nothing that was asked for is as cheap as was asked for."""

    def __init__(self, limit: float) -> None:
        super().__init__(402, f"none of the GPUs costs at most {limit:.2f} USD an hour")


async def rent(
    api: RunPodApi,
    request: PodRequest,
    gpu_types: Sequence[str],
    *,
    max_price: float | None,
    patience: float,
    wanted: Callable[[], Awaitable[bool]],
    pause: float = _PAUSE,
) -> Pod | None:
    """Rent a pod of the first type that is free; types are in the order of preference.

    Args:
        api: The account.
        request: The pod; its type of GPU is replaced.
        gpu_types: Types that will do, the best first.
        max_price: US dollars an hour that the whole pod may cost; None for any price.
        patience: Seconds to go on asking while nothing is free.
        wanted: Is the pod still wanted? Asked before each round.
        pause: Seconds between rounds.

    Returns:
        The pod, which may be one that was rented for this name before; None when it is not wanted any more.

    Raises:
        NoCapacity: nothing was free for all that time.
        TooExpensive: nothing is cheap enough.
        Refused, Away: RunPod does not take the request, or is away.
    """
    deadline = anyio.current_time() + patience
    while await wanted():
        if there := await _found(api, request.name):
            return there
        affordable = await _affordable(api, request, gpu_types, max_price)
        for gpu_type in affordable:
            pod = await _try(api, request.model_copy(update={"gpu_type": gpu_type}))
            if pod is None:
                continue
            if max_price is None or pod.cost_per_hour <= max_price:
                return pod
            await api.delete(pod.id)  # the catalogue had promised less
            affordable = [one for one in affordable if one != gpu_type]
        if not affordable and max_price is not None:
            raise TooExpensive(max_price)
        if anyio.current_time() + pause > deadline:
            raise NoCapacity(f"RunPod had none of {', '.join(gpu_types)} for {patience / 60:.0f} minutes.")
        await anyio.sleep(pause)
    return None


async def _affordable(
    api: RunPodApi, request: PodRequest, gpu_types: Sequence[str], max_price: float | None
) -> list[str]:
    """The types that are not known to cost too much. Spot prices are in no catalogue, but below the others."""
    if max_price is None or request.spot:
        return list(gpu_types)
    prices = await api.prices(request.cloud)
    return [one for one in gpu_types if prices.get(one, 0) * request.gpu_count <= max_price]


async def _try(api: RunPodApi, request: PodRequest) -> Pod | None:
    """Rent, or None when nothing is free; after silence, the pod that may have been rented is looked for."""
    try:
        return await api.create(request)
    except NoCapacity:
        return None
    except Away:
        return await _found(api, request.name)


async def _found(api: RunPodApi, name: str) -> Pod | None:
    return next((pod for pod in await api.pods() if pod.name == name and not pod.ended), None)
