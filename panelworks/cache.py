"""The result cache: what was computed for a content key. An outage is a slower day, never an error."""

import logging
import sqlite3
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

from pydantic import ValidationError

from panelworks.records import Outcome
from panelworks.settings import Settings
from panelworks.version import ENGINE_VERSION

if TYPE_CHECKING:
    from redis import Redis

logger = logging.getLogger(__name__)

_REDIS_TIMEOUT: Final = 2.0
"""Seconds after which a slow Redis counts as away."""


class KeyValue(Protocol):
    """Text by key, forgotten after a time to live."""

    def get(self, key: str) -> str | None: ...

    def put(self, key: str, value: str) -> None: ...


class ResultCache:
    """Outcomes by content key, over any `KeyValue`."""

    def __init__(self, values: KeyValue) -> None:
        self._values = values

    def get(self, content_key: str) -> Outcome | None:
        """What is known of the key; None also when the cache is away or holds something unreadable."""
        try:
            text = self._values.get(content_key)
            return Outcome.model_validate_json(text) if text else None
        except ValidationError:
            return None
        except Exception as error:  # noqa: BLE001 - whatever the client raises, the page goes on
            logger.warning("the result cache is away (%s): computing", type(error).__name__)
            return None

    def put(self, content_key: str, outcome: Outcome) -> None:
        """Remember an outcome, if the cache is there."""
        try:
            self._values.put(content_key, outcome.model_dump_json())
        except Exception as error:  # noqa: BLE001 - whatever the client raises, the page is done
            logger.warning("the result cache is away (%s): not remembered", type(error).__name__)


class RedisValues:
    """Values in Redis, under keys that name the engine version."""

    def __init__(self, client: "Redis", ttl_seconds: int) -> None:
        self._client = client
        self._ttl = ttl_seconds

    def get(self, key: str) -> str | None:
        value = self._client.get(_named(key))
        return value.decode() if isinstance(value, bytes) else None

    def put(self, key: str, value: str) -> None:
        self._client.set(_named(key), value, ex=self._ttl)


class EmbeddedValues:
    """Values in a SQLite file, shared by the processes of one machine."""

    def __init__(self, path: Path, ttl_seconds: int) -> None:
        self._path = path
        self._ttl = ttl_seconds

    def get(self, key: str) -> str | None:
        if not self._path.exists():
            return None
        with self._connected() as connection:
            row = connection.execute(
                "SELECT value FROM results WHERE key = ? AND expires > ?", (_named(key), time.time())
            ).fetchone()
        return str(row[0]) if row else None

    def put(self, key: str, value: str) -> None:
        with self._connected() as connection:
            now = time.time()
            connection.execute("DELETE FROM results WHERE expires <= ?", (now,))
            connection.execute(
                "INSERT OR REPLACE INTO results VALUES (?, ?, ?)", (_named(key), value, now + self._ttl)
            )

    def _connected(self) -> "_Connection":
        self._path.parent.mkdir(parents=True, exist_ok=True)
        return _Connection(self._path)


class _Connection:
    """A SQLite connection that commits and closes at the end of a `with` block."""

    def __init__(self, path: Path) -> None:
        self._connection = sqlite3.connect(path, timeout=10)
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute(
            "CREATE TABLE IF NOT EXISTS results (key TEXT PRIMARY KEY, value TEXT, expires REAL)"
        )

    def __enter__(self) -> sqlite3.Connection:
        return self._connection

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        if error is None:
            self._connection.commit()
        self._connection.close()


def open_cache(settings: Settings) -> ResultCache:
    """The shared cache when REDIS_URL is set, else the one of this machine."""
    if settings.redis_url is None:
        return ResultCache(EmbeddedValues(settings.cache_dir / "results.sqlite", settings.cache_ttl_seconds))
    from redis import Redis

    client = Redis.from_url(
        settings.redis_url, socket_timeout=_REDIS_TIMEOUT, socket_connect_timeout=_REDIS_TIMEOUT
    )
    return ResultCache(RedisValues(client, settings.cache_ttl_seconds))


def _named(key: str) -> str:
    return f"panelworks:{ENGINE_VERSION}:result:{key}"
