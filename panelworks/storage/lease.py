"""Leases: a lock for each page, so that only one worker at a time computes it.

A lease is optional: if it cannot be acquired (Redis is unavailable, or the wait takes too long), the page is computed
without it. Two workers that compute the same page write the same bytes under the same names.
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
_REDIS_TIMEOUT_SECONDS: Final = 2.0


class Leases(Protocol):
    """Leases by content key."""

    def holding(self, key: str) -> "AbstractContextManager[bool]":
        """Hold the lease of `key` during a block; yields whether another worker held it before."""
        ...


class FileLeases:
    """Leases among the processes of one machine. The system releases the locks of a process that ends."""

    def __init__(self, folder: Path, patience_seconds: float) -> None:
        self._folder = folder
        self._patience = patience_seconds

    @contextmanager
    def holding(self, key: str) -> Iterator[bool]:
        from filelock import FileLock, Timeout

        lock, waited, held = None, False, False
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            # Few names for many keys: the files remain, and two keys with one name only wait for each other.
            lock = FileLock(self._folder / _lock_name(key), thread_local=False)
            try:
                lock.acquire(timeout=0)
            except Timeout:
                waited = True
                lock.acquire(timeout=self._patience, poll_interval=_POLL_SECONDS)
            held = True
        except (OSError, Timeout) as error:
            logger.warning("page is computed without a lease: %s", type(error).__name__)
        try:
            yield waited
        finally:
            if lock is not None and held:
                lock.release()


def _lock_name(key: str) -> str:
    """Books and pages never share a lock: the holder of a book's lock waits for pages."""
    kind, _, digest = key.rpartition("-")
    return f"{kind}-{digest[:5]}.lock" if kind else f"{digest[:3]}.lock"


class RedisLeases:
    """Leases among machines. Each expires after `seconds` and is renewed while its holder runs."""

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
            renewal.join(timeout=_REDIS_TIMEOUT_SECONDS)
            _release(lock)

    def _acquire(self, name: str) -> "tuple[Lock | None, bool]":
        """The lock, or None if it cannot be acquired, and whether another worker held it."""
        from redis.exceptions import RedisError

        # Not thread-local: the renewal thread needs the token as well.
        lock = self._client.lock(name, timeout=self._seconds, sleep=_POLL_SECONDS, thread_local=False)
        try:
            if lock.acquire(blocking=False):
                return lock, False
            if lock.acquire(blocking_timeout=self._patience):
                return lock, True
        except RedisError as error:
            logger.warning(
                "page is computed without a lease: Redis is unavailable (%s)", type(error).__name__
            )
            return None, False
        logger.warning(
            "page is computed without a lease: another worker held it for %.0f seconds", self._patience
        )
        return None, True

    def _renew(self, lock: "Lock", done: threading.Event) -> None:
        from redis.exceptions import LockError, RedisError

        while not done.wait(self._seconds / 3):
            try:
                lock.reacquire()
            except LockError:
                logger.warning("lease was lost: another worker may compute the same page")
                return
            except RedisError as error:
                logger.warning("lease was not renewed: Redis is unavailable (%s)", type(error).__name__)


def _release(lock: "Lock") -> None:
    from redis.exceptions import RedisError

    try:
        lock.release()
    except RedisError as error:  # includes LockError, the error for a lost lease
        logger.debug("lease was not released and expires: %s", type(error).__name__)


def open_leases(settings: Settings) -> Leases:
    """Leases in Redis if REDIS_URL is set, otherwise among the processes of this machine."""
    if settings.redis_url is None:
        return FileLeases(settings.cache_dir / "leases", settings.lease_patience_seconds)
    from redis import Redis

    client = Redis.from_url(
        settings.redis_url,
        socket_timeout=_REDIS_TIMEOUT_SECONDS,
        socket_connect_timeout=_REDIS_TIMEOUT_SECONDS,
    )
    return RedisLeases(client, settings.lease_seconds, settings.lease_patience_seconds)
