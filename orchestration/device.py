"""The slots of the device: how many networks run at the same time. They are a concurrency limit of Prefect's server.

The processes of a machine queue for as many places as the limit has slots. The record of a place holds the lease of its
slot at the server, which the next holder continues: after a process that was killed, and after each page if no other
machine uses the limit.
"""

import contextvars
import logging
import os
import stat
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final
from uuid import UUID

import httpx
from filelock import FileLock, Timeout
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.exceptions import PrefectException
from prefect.settings import PREFECT_API_URL

from panelworks.domain.fields import Frozen, digest_of
from panelworks.errors import Misconfigured, PanelworksError, Transient
from panelworks.settings import get_settings

logger = logging.getLogger(__name__)

LEASE_SECONDS: Final = 60
"""The shortest lease that Prefect's server accepts."""
RENEWAL_SECONDS: Final = 20.0
"""A lease with less time left is renewed."""
RENEWAL_PAUSE_SECONDS: Final = 5.0
"""Before a renewal that failed is repeated."""
QUEUE_POLL_SECONDS: Final = 0.05
"""Between two attempts to lock a place of the machine."""
MAX_REFUSAL_SECONDS: Final = 2.0
"""Before the server is asked again for a slot that another machine holds. Its own answer grows with its refusals."""
LOST_SLOT_SECONDS: Final = 1.5 * LEASE_SECONDS
"""A refusal that lasts longer than a lease, and than the server needs to end it, has no holder that could release the slot."""
SLOTS_AGE_SECONDS: Final = 60.0
"""Age at which the number of slots is read from the server again."""

_slots: dict[str, tuple[float, int]] = {}
"""Of each limit: when its slots were read, in monotonic seconds, and their number."""


class SlotLease(Frozen):
    """A slot of a limit, held until a time."""

    id: UUID
    expires_at: float
    """In seconds since 1970."""

    @property
    def seconds_left(self) -> float:
        return self.expires_at - time.time()


class Place:
    """A place of the machine: a lock that the system releases when its holder ends, and the lease of its slot."""

    def __init__(self, folder: Path, name: str) -> None:
        self.lock = FileLock(folder / f"{name}.lock", thread_local=False)
        self._record = folder / f"{name}.json"

    @property
    def is_leased(self) -> bool:
        """Whether the lease of its slot has not ended."""
        lease = self.read()
        return lease is not None and lease.seconds_left > 0

    def read(self) -> SlotLease | None:
        """The lease that the last holder left; None if there is none."""
        try:
            return SlotLease.model_validate_json(self._record.read_bytes())
        except (OSError, ValueError):
            return None

    def write(self, lease: SlotLease | None) -> None:
        """Record the lease for the next holder; None: it was released."""
        try:
            if lease is None:
                self._record.unlink(missing_ok=True)
            else:
                self._record.write_text(lease.model_dump_json())
        except OSError as error:
            logger.warning("lease of a GPU slot not recorded: %s", error)


@contextmanager
def gpu_slot() -> Iterator[None]:
    """Hold a slot of the concurrency limit PANELWORKS_GPU_LIMIT for a block; without the setting there is no limit.

    A thread renews the lease, also while a network blocks the event loop. A lease that cannot be renewed does not stop
    the page: one page too many at once is only slower.

    Raises:
        Transient: `prefect_away`, the server became unavailable while this waited for a slot.
        Misconfigured: `no_gpu_limit`, the server does not know the limit.
    """
    settings = get_settings()
    name = settings.gpu_limit
    if name is None:
        yield
        return
    with _hold_place(name) as place:
        lease = _continue_lease(place) or _acquire_lease(name, exclusive=not settings.gpu_limit_shared)
        place.write(lease)
        try:
            with _renewing(lease, place):
                yield
        finally:
            if settings.gpu_limit_shared:
                _release_lease(place, name)


@contextmanager
def _hold_place(name: str) -> Iterator[Place]:
    """Wait for one of the machine's places for a limit, of which there are as many as slots."""
    folder, stem = _folder_of_places(), _stem_of_places(name)
    place = _lock_one([Place(folder, f"{stem}-{number}") for number in range(_count_slots(name))])
    try:
        yield place
    finally:
        place.lock.release()


def _stem_of_places(name: str) -> str:
    """The beginning of the names of a limit's files."""
    return digest_of([name, str(PREFECT_API_URL.value())])[:16]


def _folder_of_places() -> Path:
    """A folder that all processes of this user share, whatever their cache folder is."""
    shared = Path(tempfile.gettempdir()) / f"panelworks-device-{os.getuid()}"
    with suppress(FileExistsError):
        shared.mkdir(mode=0o700, parents=True)
    found = shared.lstat()
    if stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid():
        return shared
    # Another user made it, and could place links there to files that we would overwrite.
    private = get_settings().cache_dir / "device"
    private.mkdir(mode=0o700, parents=True, exist_ok=True)
    return private


def _lock_one(places: list[Place]) -> Place:
    while True:
        for place in places:
            with suppress(Timeout):
                place.lock.acquire(timeout=0)
                return place
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


def _continue_lease(place: Place) -> SlotLease | None:
    """The lease of the last holder, renewed where it needs to be; None if it has ended."""
    lease = place.read()
    if lease is None or lease.seconds_left >= RENEWAL_SECONDS:
        return lease
    try:
        return _renew_lease(lease)
    except (httpx.HTTPError, PrefectException):
        return None


def _acquire_lease(name: str, *, exclusive: bool) -> SlotLease:
    """Acquire a slot, waiting for its holder. If no other machine uses the limit (`exclusive`), a slot without a holder is
    released.

    Raises:
        Transient, Misconfigured: as `gpu_slot`.
    """
    refused_at = time.monotonic()
    with get_client(sync_client=True) as client:
        while True:
            expires_at = time.time() + LEASE_SECONDS
            try:
                answer = client.increment_concurrency_slots_with_lease(
                    [name], slots=1, mode="concurrency", lease_duration=LEASE_SECONDS
                ).json()
            except httpx.HTTPStatusError as error:
                if error.response.status_code != httpx.codes.LOCKED:
                    raise _explain_refusal(name, error) from error
                time.sleep(min(MAX_REFUSAL_SECONDS, float(error.response.headers.get("Retry-After", 1))))
            except httpx.HTTPError as error:
                raise _explain_refusal(name, error) from error
            else:
                if not answer["limits"]:
                    raise _explain_refusal(name, None)
                return SlotLease(id=answer["lease_id"], expires_at=expires_at)
            if exclusive and time.monotonic() - refused_at > LOST_SLOT_SECONDS:
                _release_lost_slot(client, name)
                refused_at = time.monotonic()


def _release_lost_slot(client: SyncPrefectClient, name: str) -> None:
    """Release a slot that is taken at the server and that no process of this machine holds, if there is one.

    A server first takes a slot, then stores its lease. One that is killed in between leaves a slot that nothing releases.
    """
    with suppress(httpx.HTTPError, PrefectException):  # the next attempt to acquire a slot reports it
        limit = client.read_global_concurrency_limit_by_name(name)
        folder = _folder_of_places()
        records = folder.glob(f"{_stem_of_places(name)}-*.json")
        held = sum(Place(folder, record.stem).is_leased for record in records)
        if limit.active_slots > held:
            client.release_concurrency_slots([name], slots=1, occupancy_seconds=1)
            logger.warning("slot of '%s' released: no process of this machine holds it", name)


def _explain_refusal(name: str, error: httpx.HTTPError | None) -> PanelworksError:
    refused = isinstance(error, httpx.HTTPStatusError) and error.response.status_code < 500
    if error is None or refused:
        return Misconfigured(
            "no_gpu_limit", f"The Prefect server has no limit '{name}'; run 'panelworks provision'."
        )
    return Transient("prefect_away", "The Prefect server became unavailable during the wait for a GPU slot.")


def _renew_lease(lease: SlotLease) -> SlotLease:
    expires_at = time.time() + LEASE_SECONDS
    with get_client(sync_client=True) as client:
        client.renew_concurrency_lease(lease.id, lease_duration=LEASE_SECONDS)
    return lease.model_copy(update={"expires_at": expires_at})


def _release_lease(place: Place, name: str) -> None:
    """Release the slot. If the server is unavailable, the slot is free when its lease expires."""
    lease = place.read()
    if lease is None:
        return
    try:
        with get_client(sync_client=True) as client:
            client.release_concurrency_slots_with_lease(lease.id)
    except (httpx.HTTPError, PrefectException) as error:
        logger.warning("the slot of '%s' was not released: %s; its lease ends it", name, type(error).__name__)
    place.write(None)


@contextmanager
def _renewing(lease: SlotLease, place: Place) -> Iterator[None]:
    """Renew a lease during a block, in a thread."""
    ended = threading.Event()

    def renew() -> None:
        current = lease
        pause = max(0.0, current.seconds_left - RENEWAL_SECONDS)
        while not ended.wait(pause):
            try:
                current = _renew_lease(current)
                place.write(current)
                pause = current.seconds_left - RENEWAL_SECONDS
            except Exception as error:  # noqa: BLE001 - whatever the cause, the next attempt may succeed
                logger.warning("lease of a GPU slot not renewed: %s", type(error).__name__)
                pause = RENEWAL_PAUSE_SECONDS

    thread = threading.Thread(target=contextvars.copy_context().run, args=(renew,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
