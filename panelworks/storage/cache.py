"""The result cache: outcomes by content key. While it is unavailable, pages are computed again; no page fails."""

import hashlib
import logging
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol, TypeVar

from filelock import FileLock
from pydantic import ValidationError

from panelworks.domain.result import Outcome
from panelworks.settings import Settings
from panelworks.version import ENGINE_VERSION

if TYPE_CHECKING:
    from redis import Redis

logger = logging.getLogger(__name__)
T = TypeVar("T")

_REDIS_TIMEOUT_SECONDS: Final = 1.0
"""A Redis that takes longer counts as unavailable."""
_PAUSE_SECONDS: Final = 15.0
"""Time without requests after the cache was unavailable: every request could take the timeout."""
_DAMAGED_CODES: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
"""Error codes of SQLite for a file with damaged content. Other codes mean that it is locked or unreadable."""
_LOCK_SECONDS: Final = 10.0
_DIGEST_BYTES: Final = 16
"""Length of the checksum in front of a cached result: neither SQLite nor Redis detects a changed bit in a value."""
_NAMESPACE: Final = f"panelworks:{ENGINE_VERSION}"


class KeyValue(Protocol):
    """Bytes by key. Values are removed after a time to live, or when they exceed the capacity."""

    def get(self, key: str) -> bytes | None: ...

    def put(self, key: str, value: bytes) -> None: ...


class ResultCache:
    """Outcomes by content key, and small files by SHA-256, in any `KeyValue`."""

    def __init__(self, values: KeyValue) -> None:
        self._values = values
        self._retry_at = 0.0
        self.outages = 0
        """Number of times that the cache was found to be unavailable."""

    def get(self, content_key: str) -> Outcome | None:
        """The outcome for a key; None also if the cache is unavailable or its value is damaged."""
        value = self._query(lambda: self._values.get(f"outcome:{content_key}"), "the page is computed")
        if value is None:
            return None
        digest, text = value[:_DIGEST_BYTES], value[_DIGEST_BYTES:]
        if hashlib.sha256(text).digest()[:_DIGEST_BYTES] != digest:
            logger.warning("cached result %s is damaged: the page is computed", content_key)
            return None
        try:
            return Outcome.model_validate_json(text)
        except ValidationError:
            return None

    def put(self, content_key: str, outcome: Outcome) -> None:
        """Store an outcome if the cache is available."""
        text = outcome.model_dump_json().encode()
        value = hashlib.sha256(text).digest()[:_DIGEST_BYTES] + text
        self._query(lambda: self._values.put(f"outcome:{content_key}", value), "the result is not stored")

    def get_file(self, sha256: str) -> bytes | None:
        """The bytes of a small file; None if the cache does not contain them."""
        return self._query(lambda: self._values.get(f"file:{sha256}"), "the store is read")

    def put_file(self, sha256: str, data: bytes) -> None:
        """Store the bytes of a small file if the cache is available."""
        self._query(lambda: self._values.put(f"file:{sha256}", data), "the file is not stored")

    def answers(self) -> bool:
        """Is the cache available now?"""
        before = self.outages
        self._retry_at = 0.0
        self._query(lambda: self._values.get("health"), "it fails its health check")
        return self.outages == before

    def _query(self, request: Callable[[], T], consequence: str) -> T | None:
        if time.monotonic() < self._retry_at:
            return None
        try:
            return request()
        except Exception as error:  # noqa: BLE001 - no error of the client may fail the page
            self.outages += 1
            self._retry_at = time.monotonic() + _PAUSE_SECONDS
            logger.warning("result cache is unavailable (%s): %s", type(error).__name__, consequence)
            return None


_PUT = """
redis.call('SET', KEYS[2], ARGV[1], 'EX', ARGV[3])
local old = redis.call('HGET', KEYS[3], KEYS[2])
redis.call('HSET', KEYS[3], KEYS[2], ARGV[4])
redis.call('ZADD', KEYS[1], ARGV[2], KEYS[2])
local total = redis.call('INCRBY', KEYS[4], ARGV[4] - (old or 0))
while total > tonumber(ARGV[5]) do
  local first = redis.call('ZPOPMIN', KEYS[1])
  if #first == 0 then break end
  local size = redis.call('HGET', KEYS[3], first[1]) or 0
  redis.call('DEL', first[1])
  redis.call('HDEL', KEYS[3], first[1])
  total = redis.call('DECRBY', KEYS[4], size)
end
"""
"""Set a value and remove the oldest until all fit. It is atomic, since many workers write at the same time."""


class RedisValues:
    """Values in Redis, under keys that contain the engine version."""

    def __init__(self, client: "Redis", ttl_seconds: int, capacity: int) -> None:
        """`capacity` in bytes, over all values."""
        self._client = client
        self._ttl = ttl_seconds
        self._capacity = capacity
        self._put = client.register_script(_PUT)

    def get(self, key: str) -> bytes | None:
        value = self._client.get(f"{_NAMESPACE}:{key}")
        return value if isinstance(value, bytes) else None

    def put(self, key: str, value: bytes) -> None:
        books = [f"{_NAMESPACE}:books:{name}" for name in ("age", "size", "total")]
        self._put(
            keys=[books[0], f"{_NAMESPACE}:{key}", *books[1:]],
            args=[value, time.time(), self._ttl, len(value), self._capacity],
        )


class EmbeddedValues:
    """Values in a SQLite file, shared by the processes of one machine."""

    def __init__(self, path: Path, ttl_seconds: int, capacity: int) -> None:
        """`capacity` in bytes, over all values."""
        self._path = path
        self._ttl = ttl_seconds
        self._capacity = capacity

    def get(self, key: str) -> bytes | None:
        if not self._path.exists():
            return None
        return self._run_with_rebuild(lambda: self._get(key))

    def put(self, key: str, value: bytes) -> None:
        self._run_with_rebuild(lambda: self._put(key, value))

    def _run_with_rebuild(self, operation: Callable[[], T]) -> T:
        """Run an operation. If the file is damaged, rename it and run the operation on a new file."""
        try:
            return operation()
        except sqlite3.DatabaseError as error:
            if getattr(error, "sqlite_errorcode", 0) & 0xFF not in _DAMAGED_CODES:
                raise
            logger.error("result cache %s is damaged and is rebuilt: %s", self._path, error)
        with FileLock(self._path.with_suffix(".lock"), timeout=_LOCK_SECONDS):
            if self._is_damaged():
                for suffix in ("", "-wal", "-shm"):
                    file = self._path.with_name(self._path.name + suffix)
                    if file.exists():
                        file.replace(file.with_name(f"damaged-{file.name}"))
        return operation()

    def _is_damaged(self) -> bool:
        """Is the file damaged? Another process may have rebuilt it."""
        try:
            with self._connect() as connection:
                return bool(connection.execute("PRAGMA quick_check(1)").fetchone()[0] != "ok")
        except sqlite3.DatabaseError:
            return True

    def _get(self, key: str) -> bytes | None:
        with self._connect() as connection:
            row = connection.execute(
                "SELECT value FROM entries WHERE key = ? AND expires > ?",
                (f"{_NAMESPACE}:{key}", time.time()),
            ).fetchone()
        return bytes(row[0]) if row else None

    def _put(self, key: str, value: bytes) -> None:
        with self._connect() as connection:
            now = time.time()
            connection.execute("DELETE FROM entries WHERE expires <= ?", (now,))
            connection.execute(
                "INSERT OR REPLACE INTO entries VALUES (?, ?, ?, ?)",
                (f"{_NAMESPACE}:{key}", value, len(value), now + self._ttl),
            )
            (total_bytes,) = connection.execute("SELECT sum(bytes) FROM entries").fetchone()
            if total_bytes > self._capacity:
                connection.execute(
                    "DELETE FROM entries WHERE key IN (SELECT key FROM (SELECT key,"
                    " sum(bytes) OVER (ORDER BY expires DESC, key) AS newer FROM entries) WHERE newer > ?)",
                    (self._capacity,),
                )

    def _connect(self) -> "_Connection":
        self._path.parent.mkdir(parents=True, exist_ok=True)
        return _Connection(self._path)


class _Connection:
    """A SQLite connection that commits and closes at the end of a `with` block."""

    def __init__(self, path: Path) -> None:
        self._connection = sqlite3.connect(path, timeout=10)
        try:
            self._connection.execute("PRAGMA journal_mode = WAL")
            self._connection.execute(
                "CREATE TABLE IF NOT EXISTS entries (key TEXT PRIMARY KEY, value BLOB, bytes INTEGER, expires REAL)"
            )
        except BaseException:
            self._connection.close()
            raise

    def __enter__(self) -> sqlite3.Connection:
        return self._connection

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        if error is None:
            self._connection.commit()
        self._connection.close()


def open_cache(settings: Settings) -> ResultCache:
    """The shared cache if REDIS_URL is set, otherwise the cache of this machine."""
    ttl, capacity = settings.cache_ttl_seconds, settings.cache_bytes
    if settings.redis_url is None:
        return ResultCache(EmbeddedValues(settings.cache_dir / "results.sqlite", ttl, capacity))
    from redis import Redis

    client = Redis.from_url(
        settings.redis_url,
        socket_timeout=_REDIS_TIMEOUT_SECONDS,
        socket_connect_timeout=_REDIS_TIMEOUT_SECONDS,
    )
    return ResultCache(RedisValues(client, ttl, capacity))
