"""One computes, the others wait; a dead holder is waited for no longer than its lease."""

import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from panelworks.domain.options import EnhanceOptions
from panelworks.domain.request import Origin, PageRequest
from panelworks.page.direct import enhance_directly
from panelworks.page.engine import Engine
from panelworks.settings import Settings
from panelworks.storage.lease import Leases, open_leases
from tests.pages import write_page


@pytest.fixture(params=["files", "redis"])
def sharing(request: pytest.FixtureRequest, settings: Settings) -> Settings:
    """Settings of workers that share leases; a lease of a dead worker lasts two seconds."""
    update: dict[str, object] = {"lease_seconds": 2.0}
    if request.param == "redis":
        update["redis_url"] = request.getfixturevalue("redis_url")
    return settings.model_copy(update=update)


def _key() -> str:
    return f"{time.monotonic_ns():064x}"[::-1]


def test_one_at_a_time_and_the_next_one_knows(sharing: Settings) -> None:
    key, inside, waits = _key(), [], []

    def work() -> None:
        with open_leases(sharing).holding(key) as waited:
            inside.append(1)
            waits.append(waited)
            assert len(inside) == 1
            time.sleep(0.1)
            inside.pop()

    threads = [threading.Thread(target=work) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(waits) == [False, True, True, True, True]


def test_a_lease_is_renewed_while_its_holder_lives(sharing: Settings) -> None:
    key, order = _key(), []

    def wait() -> None:
        with open_leases(sharing).holding(key) as waited:
            order.append(f"second, waited {waited}")

    with open_leases(sharing).holding(key):
        thread = threading.Thread(target=wait)
        thread.start()
        time.sleep(3)  # longer than the lease
        order.append("first")
    thread.join()
    assert order == ["first", "second, waited True"]


def test_a_dead_holder_is_not_waited_for_ever(sharing: Settings) -> None:
    key = _key()
    script = (
        "import sys, time\n"
        "from panelworks.storage.lease import open_leases\n"
        "from panelworks.settings import Settings\n"
        "with open_leases(Settings.model_validate_json(sys.argv[1])).holding(sys.argv[2]):\n"
        "    print('held', flush=True); time.sleep(60)\n"
    )
    chosen = sharing.model_dump_json(include={"lease_seconds", "redis_url", "cache_dir"})
    holder = subprocess.Popen([sys.executable, "-c", script, chosen, key], stdout=subprocess.PIPE, text=True)
    assert holder.stdout
    assert holder.stdout.readline() == "held\n"
    holder.kill()
    holder.wait()
    holder.stdout.close()
    with open_leases(sharing.model_copy(update={"lease_patience_seconds": 10.0})).holding(key):
        pass
    began = time.monotonic()
    with open_leases(sharing).holding(key) as waited:
        assert not waited
    assert time.monotonic() - began < 60


def test_patience_ends_without_a_lease(sharing: Settings, caplog: pytest.LogCaptureFixture) -> None:
    key = _key()
    impatient = sharing.model_copy(update={"lease_patience_seconds": 0.3})
    with open_leases(sharing).holding(key), open_leases(impatient).holding(key) as waited:
        assert waited
    assert "without a lease" in caplog.text


def test_an_absent_redis_costs_a_warning(settings: Settings, caplog: pytest.LogCaptureFixture) -> None:
    leases: Leases = open_leases(settings.model_copy(update={"redis_url": "redis://127.0.0.1:9/0"}))
    with leases.holding("key") as waited:
        assert not waited
    assert "Redis is unavailable" in caplog.text


def test_ten_identical_requests_compute_once(
    sharing: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page, computed = write_page(tmp_path / "page.png", seed=int(time.monotonic_ns() % 10**6)), []
    enhance = Engine.enhance

    def counted(*arguments: object, **options: object) -> object:
        computed.append(1)
        return enhance(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Engine, "enhance", counted)
    results = []

    def ask(number: int) -> None:
        request = PageRequest(
            source=str(page), out=str(tmp_path / "out"), job_id=f"job-{number}",
            options=EnhanceOptions(), origin=Origin(tool="test"),
        )  # fmt: skip
        results.append(enhance_directly(request, Engine(sharing)))

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [result.status for result in results] == ["success"] * 10
    assert len(computed) == 1
    assert sum(not result.cached for result in results) == 1
