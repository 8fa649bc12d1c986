import hashlib
import time
from pathlib import Path

import pytest

from panelworks.domain.request import PageRequest
from panelworks.page.direct import enhance_directly
from panelworks.page.engine import Engine
from panelworks.settings import Settings
from panelworks.storage.cache import EmbeddedValues, RedisValues, ResultCache, open_cache
from tests.outcomes import outcome
from tests.pages import write_page


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
    assert caplog.text.count("result cache is unavailable") == 1, "no request follows at once"
    assert cache.outages == 1


def test_a_record_of_another_shape_counts_as_unknown(settings: Settings) -> None:
    values = EmbeddedValues(settings.cache_dir / "results.sqlite", 100, 999)
    text = b'{"route": "somewhere"}'
    values.put("outcome:old", hashlib.sha256(text).digest()[:16] + text)
    assert ResultCache(values).get("old") is None


@pytest.mark.parametrize("kind", ["no database", "overwritten", "truncated"])
def test_a_damaged_database_is_rebuilt_once(
    kind: str, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    path = settings.cache_dir / "results.sqlite"
    for number in range(200):
        open_cache(settings).put_file(f"old {number}", b"x" * 3000)
    data = path.read_bytes()
    path.write_bytes(
        {
            "no database": b"this is no database" * 100,
            "overwritten": data[:100] + bytes(len(data) - 100),
            "truncated": data[: len(data) // 2],
        }[kind]
    )
    for _ in range(2):
        cache = open_cache(settings)
        cache.put_file("key", b"value")
        assert cache.get_file("key") == b"value"
        assert cache.outages == 0
    assert caplog.text.count("is damaged and is rebuilt") == 1
    assert (path.parent / "damaged-results.sqlite").exists()


def test_a_flipped_bit_in_a_cached_result_is_noticed(
    engine: Engine, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    page = write_page(tmp_path / "page.png")
    request = PageRequest(source=str(page), out=str(tmp_path / "out"), job_id="1")
    key = enhance_directly(request, engine).content_key
    assert key is not None
    values = EmbeddedValues(engine.settings.cache_dir / "results.sqlite", 100, 10**9)
    value = values.get(f"outcome:{key}")
    assert value is not None
    values.put(f"outcome:{key}", value.replace(b'"upscaled"', b'"upscalee"').replace(b"0.", b"1.", 1))
    assert open_cache(engine.settings).get(key) is None
    assert "is damaged: the page is computed" in caplog.text


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
    assert "result cache is unavailable" in caplog.text
