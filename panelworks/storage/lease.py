"""Leases: the right to compute a page, held by one worker at a time.

A lease is a help, never a need: when it cannot be had (Redis away, patience over), the work is done
without it. Two who compute the same page write the same bytes under the same names.
"""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

from panelworks.settings import Settings
from panelworks.version import ENGINE_VERSION

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from redis import Redis
    from redis.lock import Lock

logger = logging.getLogger(__name__)

_POLL_SECONDS: Final = 0.1
_REDIS_TIMEOUT: Final = 2.0


class Leases(Protocol):
    """Leases by content key."""

    def holding(self, key: str) -> "AbstractContextManager[bool]":
        """Hold the lease of `key` for a block; gives whether another one held it before."""
        ...


class FileLeases:
    """Leases among the processes of one machine: the system frees what a dead process held."""

    def __init__(self, folder: Path, patience_seconds: float) -> None:
        self._folder = folder
        self._patience = patience_seconds

    @contextmanager
    def holding(self, key: str) -> Iterator[bool]:
        from filelock import FileLock, Timeout

        lock, waited, held = None, False, False
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            # Few names for many keys: files are not removed, and a shared name only makes one wait.
            lock = FileLock(self._folder / _lock_name(key), thread_local=False)
            try:
                lock.acquire(timeout=0)
            except Timeout:
                waited = True
                lock.acquire(timeout=self._patience, poll_interval=_POLL_SECONDS)
            held = True
        except (OSError, Timeout) as error:
            logger.warning("computing without a lease (%s)", type(error).__name__)
        try:
            yield waited
        finally:
            if lock is not None and held:
                lock.release()


def _lock_name(key: str) -> str:
    """Books and pages never share a lock: who holds a book's waits for pages."""
    kind, _, digest = key.rpartition("-")
    return f"{kind}-{digest[:5]}.lock" if kind else f"{digest[:3]}.lock"


class RedisLeases:
    """Leases among machines: each lasts `seconds` and is renewed while its holder lives."""

    def __init__(self, client: "Redis", seconds: float, patience_seconds: float) -> None:
        self._client = client
        self._seconds = seconds
        self._patience = patience_seconds

    @contextmanager
    def holding(self, key: str) -> Iterator[bool]:
        lock, waited = self._acquire(f"panelworks:{ENGINE_VERSION}:lease:{key}")
        if lock is None:
            yield waited
            return
        done = threading.Event()
        renewal = threading.Thread(target=self._renew, args=(lock, done), daemon=True)
        renewal.start()
        try:
            yield waited
        finally:
            done.set()
            renewal.join(timeout=_REDIS_TIMEOUT)
            _release(lock)

    def _acquire(self, name: str) -> "tuple[Lock | None, bool]":
        """The lock, or None when it cannot be had, and whether another one held it."""
        from redis.exceptions import RedisError

        # Not thread-local: the renewing thread needs the token too.
        lock = self._client.lock(name, timeout=self._seconds, sleep=_POLL_SECONDS, thread_local=False)
        try:
            if lock.acquire(blocking=False):
                return lock, False
            if lock.acquire(blocking_timeout=self._patience):
                return lock, True
        except RedisError as error:
            logger.warning("computing without a lease: Redis is away (%s)", type(error).__name__)
            return None, False
        logger.warning("computing without a lease: another one held it for %.0f seconds", self._patience)
        return None, True

    def _renew(self, lock: "Lock", done: threading.Event) -> None:
        from redis.exceptions import LockError, RedisError

        while not done.wait(self._seconds / 3):
            try:
                lock.reacquire()
            except LockError:
                logger.warning("the lease was lost; another one may compute the same page")
                return
            except RedisError as error:
                logger.warning("the lease is not renewed: Redis is away (%s)", type(error).__name__)


def _release(lock: "Lock") -> None:
    from redis.exceptions import RedisError

    try:
        lock.release()
    except RedisError as error:  # LockError, of a lease that was lost, is one of them
        logger.debug("the lease ends by itself (%s)", type(error).__name__)


def open_leases(settings: Settings) -> Leases:
    """Leases in Redis when REDIS_URL is set, else among the processes of this machine."""
    if settings.redis_url is None:
        return FileLeases(settings.cache_dir / "leases", settings.lease_patience_seconds)
    from redis import Redis

    client = Redis.from_url(
        settings.redis_url, socket_timeout=_REDIS_TIMEOUT, socket_connect_timeout=_REDIS_TIMEOUT
    )
    return RedisLeases(client, settings.lease_seconds, settings.lease_patience_seconds)
