"""The slot that a flow holds while a network runs: as many at once as the device bears."""

import logging
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any

import httpx

from panelworks.errors import Misconfigured, PanelworksError, Transient
from panelworks.settings import get_settings

logger = logging.getLogger(__name__)


@contextmanager
def gpu_slot() -> Iterator[None]:
    """Hold a slot of PANELWORKS_GPU_LIMIT for a block; without the setting nothing is limited.

    The sync form renews its lease from a thread of its own, also while a network keeps the event loop.
    A lease that cannot be renewed does not end the page: one page too many at once is only slower.

    Raises:
        Transient: `prefect_away`, the server went away while a slot was waited for.
        Misconfigured: `no_gpu_limit`, it does not know the limit.
    """
    name = get_settings().gpu_limit
    if name is None:
        yield
        return
    from prefect.concurrency.asyncio import ConcurrencySlotAcquisitionError
    from prefect.concurrency.sync import concurrency

    slot = concurrency(name, occupy=1, lease_duration=60, strict=True, raise_on_lease_renewal_failure=False)
    try:
        slot.__enter__()
    except ConcurrencySlotAcquisitionError as error:
        raise _explained(name, error) from error
    with ExitStack() as held:
        held.push(lambda *raised: _released(slot, name, *raised))
        yield


def _released(slot: AbstractContextManager[None], name: str, *raised: Any) -> bool | None:
    """Give the slot back. A server that is away gets it back when the lease runs out; the page is drawn by then."""
    try:
        return slot.__exit__(*raised)
    except httpx.HTTPError as away:
        logger.warning(
            "the slot of '%s' was not given back (%s); its lease ends it", name, type(away).__name__
        )
        return None


def _explained(name: str, error: Exception) -> PanelworksError:
    """Prefect has one exception for a server that is away and for a limit that it does not know."""
    cause = error.__cause__
    refused = isinstance(cause, httpx.HTTPStatusError) and cause.response.status_code < 500
    if cause is None or refused:
        return Misconfigured(
            "no_gpu_limit", f"The Prefect server has no limit '{name}'; run 'panelworks provision'."
        )
    return Transient("prefect_away", "The Prefect server went away while a slot of the GPU was waited for.")
