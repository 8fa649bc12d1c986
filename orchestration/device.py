"""The slots of the device: how many networks run at the same time. They are a concurrency limit of Prefect's server."""

import logging
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from typing import Any, Final

import httpx
from filelock import FileLock, Timeout
from prefect.client.orchestration import get_client
from prefect.exceptions import PrefectException

from panelworks.domain.fields import digest_of
from panelworks.errors import Misconfigured, PanelworksError, Transient
from panelworks.settings import get_settings

logger = logging.getLogger(__name__)

SLOT_LEASE_SECONDS: Final = 60
"""The shortest lease that Prefect's server accepts."""
QUEUE_POLL_SECONDS: Final = 0.05
"""Between two attempts to lock a place in the queue of the machine."""
SLOTS_AGE_SECONDS: Final = 60.0
"""Age at which the number of slots is read from the server again."""

_slots: dict[str, tuple[float, int]] = {}
"""Of each limit: when its slots were read, in monotonic seconds, and their number."""


@contextmanager
def gpu_slot() -> Iterator[None]:
    """Hold a slot of the concurrency limit PANELWORKS_GPU_LIMIT for a block; without the setting there is no limit.

    The processes of a machine first queue for as many locks as the limit has slots. A process that asks the server
    for a slot that is taken would wait for as long as the server says, which grows with the number of refusals.

    The synchronous context manager renews its lease in a thread of its own, also while a network blocks the event
    loop. A lease that cannot be renewed does not stop the page: one page too many at once is only slower.

    Raises:
        Transient: `prefect_away`, the server became unavailable while this waited for a slot.
        Misconfigured: `no_gpu_limit`, the server does not know the limit.
    """
    name = get_settings().gpu_limit
    if name is None:
        yield
        return
    from prefect.concurrency.asyncio import ConcurrencySlotAcquisitionError
    from prefect.concurrency.sync import concurrency

    with _place_in_queue(name):
        slot = concurrency(
            name,
            occupy=1,
            lease_duration=SLOT_LEASE_SECONDS,
            strict=True,
            raise_on_lease_renewal_failure=False,
        )
        try:
            slot.__enter__()
        except ConcurrencySlotAcquisitionError as error:
            raise _explain_acquisition_error(name, error) from error
        with ExitStack() as stack:
            stack.push(lambda *raised: _release_slot(slot, name, *raised))
            yield


@contextmanager
def _place_in_queue(name: str) -> Iterator[None]:
    """Hold one of the machine's locks for a limit. The system releases those of a process that ends."""
    folder = get_settings().cache_dir / "device"
    names = [f"{digest_of([name])[:16]}-{number}.lock" for number in range(_count_slots(name))]
    with ExitStack() as stack:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            lock = _acquire_one([FileLock(folder / one, thread_local=False) for one in names])
            stack.callback(lock.release)
        except OSError as error:
            logger.warning("the queue of '%s' is not used: %s", name, type(error).__name__)
        yield


def _acquire_one(locks: list[FileLock]) -> FileLock:
    """Wait for one of the locks."""
    while True:
        for lock in locks:
            try:
                lock.acquire(timeout=0)
            except Timeout:
                continue
            return lock
        time.sleep(QUEUE_POLL_SECONDS)


def _count_slots(name: str) -> int:
    """The number of slots of a limit, at least 1; operators change it while pages are processed.

    If the server does not tell it, the last known number is used.
    """
    read_at, slots = _slots.get(name, (-SLOTS_AGE_SECONDS, 1))
    if time.monotonic() - read_at >= SLOTS_AGE_SECONDS:
        with suppress(httpx.HTTPError, PrefectException), get_client(sync_client=True) as client:
            slots = max(1, client.read_global_concurrency_limit_by_name(name).limit)
            _slots[name] = time.monotonic(), slots
    return slots


def _release_slot(slot: AbstractContextManager[None], name: str, *raised: Any) -> bool | None:
    """Release the slot. If the server is unavailable, the slot is free when its lease expires; the page is computed."""
    try:
        return slot.__exit__(*raised)
    except httpx.HTTPError as error:
        logger.warning("the slot of '%s' was not released: %s; its lease ends it", name, type(error).__name__)
        return None


def _explain_acquisition_error(name: str, error: Exception) -> PanelworksError:
    """Prefect raises one exception for an unavailable server and for an unknown limit."""
    cause = error.__cause__
    refused = isinstance(cause, httpx.HTTPStatusError) and cause.response.status_code < 500
    if cause is None or refused:
        return Misconfigured(
            "no_gpu_limit", f"The Prefect server has no limit '{name}'; run 'panelworks provision'."
        )
    return Transient("prefect_away", "The Prefect server became unavailable during the wait for a GPU slot.")
