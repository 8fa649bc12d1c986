import sqlite3
import time
from pathlib import Path

import pytest

from panelworks.cache import EmbeddedValues, RedisValues, ResultCache, open_cache
from panelworks.settings import Settings
from tests.outcomes import outcome


@pytest.fixture(params=["embedded", "redis"])
def cache(request: pytest.FixtureRequest, settings: Settings) -> ResultCache:
    if request.param == "embedded":
        return open_cache(settings)
    return open_cache(settings.model_copy(update={"redis_url": request.getfixturevalue("redis_url")}))


def test_what_is_put_is_found(cache: ResultCache) -> None:
    key = f"key-{time.monotonic_ns()}"
    assert cache.get(key) is None
    cache.put(key, outcome())
    assert cache.get(key) == outcome()
    cache.put(key, outcome(width=20))
    found = cache.get(key)
    assert found is not None
    assert found.master.width == 20


def test_results_are_forgotten_after_their_time(redis_url: str, tmp_path: Path) -> None:
    from redis import Redis

    with Redis.from_url(redis_url) as client:
        for values in (EmbeddedValues(tmp_path / "c.sqlite", 1, 999), RedisValues(client, 1, 999)):
            values.put("short", b"text")
            assert values.get("short") == b"text"
            time.sleep(1.2)
            assert values.get("short") is None


def test_an_outage_is_a_warning_not_an_error(settings: Settings, caplog: pytest.LogCaptureFixture) -> None:
    cache = open_cache(settings.model_copy(update={"redis_url": "redis://127.0.0.1:9/0"}))
    assert cache.get("key") is None
    cache.put("key", outcome())
    assert caplog.text.count("the result cache is away") == 1, "who is away is not asked again at once"
    assert cache.outages == 1


def test_a_record_of_another_shape_counts_as_unknown(settings: Settings) -> None:
    values = EmbeddedValues(settings.cache_dir / "results.sqlite", 100, 999)
    values.put("result:old", b'{"route": "somewhere"}')
    assert ResultCache(values).get("old") is None


def test_a_damaged_file_is_an_outage(settings: Settings, caplog: pytest.LogCaptureFixture) -> None:
    path = settings.cache_dir / "results.sqlite"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"this is no database" * 100)
    assert open_cache(settings).get("key") is None
    assert sqlite3.DatabaseError.__name__ in caplog.text


@pytest.mark.parametrize("kind", ["embedded", "redis"])
def test_the_oldest_entries_make_room(kind: str, redis_url: str, tmp_path: Path) -> None:
    from redis import Redis

    with Redis.from_url(redis_url) as client:
        client.flushdb()
        values = (
            EmbeddedValues(tmp_path / "c.sqlite", 60, 1000)
            if kind == "embedded"
            else RedisValues(client, 60, 1000)
        )
        for number in range(5):
            values.put(f"entry-{number}", bytes([number]) * 300)
            time.sleep(0.01)
        values.put("entry-4", b"again" * 60)
        found = [values.get(f"entry-{number}") is not None for number in range(5)]
        assert found == [False, False, True, True, True]
        client.flushdb()


def test_a_full_redis_is_an_outage(
    settings: Settings, caplog: pytest.LogCaptureFixture, redis_url: str
) -> None:
    from redis import Redis

    cache = open_cache(settings.model_copy(update={"redis_url": redis_url}))
    with Redis.from_url(redis_url) as client:
        client.config_set("maxmemory", "1mb")
        try:
            cache.put_file("a" * 64, bytes(2_000_000))
            cache.put_file("b" * 64, bytes(2_000_000))
        finally:
            client.config_set("maxmemory", "0")
            client.flushdb()
    assert cache.outages == 1
    assert "the result cache is away" in caplog.text
