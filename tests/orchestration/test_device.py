"""Slots of the device: the queue of the machine, leases that outlive their holder, and a server that is unavailable."""

import contextvars
import logging
import os
import threading
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from uuid import uuid4

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import GlobalConcurrencyLimitCreate
from prefect.settings import PREFECT_API_URL, temporary_settings

from orchestration import device
from orchestration.device import LEASE_SECONDS, Place, SlotLease, gpu_slot
from panelworks.errors import Misconfigured, Transient
from panelworks.settings import get_settings
from tests.servers import free_port, request_api


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A machine of its own, which knows nothing of the limits."""
    monkeypatch.setattr(device, "_slots", {})
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    caplog.set_level(logging.INFO, "httpx")


def use_limit(monkeypatch: pytest.MonkeyPatch, name: str, slots: int = 1, *, shared: bool = True) -> None:
    """Create a limit and use it in this test."""
    monkeypatch.setenv("PANELWORKS_GPU_LIMIT", name)
    monkeypatch.setenv("PANELWORKS_GPU_LIMIT_SHARED", str(shared))
    get_settings.cache_clear()
    with get_client(sync_client=True) as client:
        client.create_global_concurrency_limit(GlobalConcurrencyLimitCreate(name=name, limit=slots))


def active_slots(name: str) -> int:
    return int(request_api("GET", f"/v2/concurrency_limits/{name}")["active_slots"])


def requests(caplog: pytest.LogCaptureFixture) -> Counter[str]:
    """Requests about slots that were sent so far, with the status of their answers."""
    lines = [one for one in caplog.messages if "concurrency_limits" in one and "HTTP/1.1" in one]
    ends = {"increment-with-lease": "acquire", "decrement-with-lease": "release", "/renew": "renew"}
    return Counter(
        f"{meaning} {line.split('HTTP/1.1 ')[1][:3]}"
        for line in lines
        for end, meaning in ends.items()
        if end in line
    )


def only_record(tmp_path: Path) -> Path:
    (record,) = tmp_path.glob("panelworks-device-*/*.json")
    return record


@pytest.mark.parametrize("slots", [1, 2])
@pytest.mark.parametrize("shared", [True, False])
def test_pages_of_a_machine_queue_without_being_refused(
    slots: int, shared: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    name = f"gpu:queue-{slots}-{shared}"
    use_limit(monkeypatch, name, slots, shared=shared)
    inside, most, lock = 0, 0, threading.Lock()

    def work() -> None:
        nonlocal inside, most
        with gpu_slot():
            with lock:
                inside += 1
                most = max(most, inside)
            time.sleep(0.4)
            with lock:
                inside -= 1

    threads = [threading.Thread(target=contextvars.copy_context().run, args=(work,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == slots
    expected = {"acquire 200": 4, "release 204": 4} if shared else {"acquire 200": slots}
    assert requests(caplog) == expected, "the server never refused a slot"
    assert active_slots(name) == (0 if shared else slots)


def test_the_slot_of_a_killed_process_is_continued(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    use_limit(monkeypatch, "gpu:killed", shared=False)
    with gpu_slot():
        pass  # the record stays, as that of a process that was killed
    before = only_record(tmp_path).read_text()
    with gpu_slot():
        assert active_slots("gpu:killed") == 1
    assert requests(caplog) == {"acquire 200": 1}
    assert only_record(tmp_path).read_text() == before


@pytest.mark.parametrize(
    "record",
    ["", "no JSON", SlotLease(id=uuid4(), expires_at=time.time() - 5).model_dump_json()],
    ids=["empty", "damaged", "expired"],
)
def test_a_lease_that_has_ended_is_replaced(
    record: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:
    name = f"gpu:{request.node.name}"
    use_limit(monkeypatch, name, shared=False)
    with gpu_slot():
        pass
    only_record(tmp_path).write_text(record)
    request_api("PATCH", f"/v2/concurrency_limits/{name}", {"active_slots": 0})
    caplog.clear()
    with gpu_slot():
        assert active_slots(name) == 1
    assert requests(caplog)["acquire 200"] == 1


def test_a_lease_is_renewed_while_its_network_runs(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    use_limit(monkeypatch, "gpu:renewed", shared=False)
    monkeypatch.setattr(device, "RENEWAL_SECONDS", LEASE_SECONDS - 0.3)
    with gpu_slot():
        first = SlotLease.model_validate_json(only_record(tmp_path).read_bytes())
        deadline = time.monotonic() + 30
        while not requests(caplog)["renew 204"]:
            assert time.monotonic() < deadline
            time.sleep(0.05)
    last = SlotLease.model_validate_json(only_record(tmp_path).read_bytes())
    assert (last.id, last.expires_at > first.expires_at) == (first.id, True)


def test_a_slot_of_another_machine_is_waited_for(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    use_limit(monkeypatch, "gpu:elsewhere")
    monkeypatch.setattr(device, "MAX_REFUSAL_SECONDS", 0.2)
    with get_client(sync_client=True) as client:
        lease = client.increment_concurrency_slots_with_lease(["gpu:elsewhere"], 1, "concurrency", 60).json()
        timer = threading.Timer(
            1,
            contextvars.copy_context().run,
            (client.release_concurrency_slots_with_lease, lease["lease_id"]),
        )
        timer.start()
        with gpu_slot():
            assert not timer.is_alive()
        timer.join()
    assert requests(caplog)["acquire 423"] >= 1
    assert active_slots("gpu:elsewhere") == 0


@pytest.mark.parametrize("slots", [1, 2])
def test_a_slot_that_the_server_lost_is_released(
    slots: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A server that is killed after it took a slot, and before it stored the lease, leaves a slot without a holder."""
    name = f"gpu:lost-{slots}"
    use_limit(monkeypatch, name, slots, shared=False)
    monkeypatch.setattr(device, "MAX_REFUSAL_SECONDS", 0.2)
    monkeypatch.setattr(device, "LOST_SLOT_SECONDS", 1)
    with get_client(sync_client=True) as client:
        client.increment_concurrency_slots([name], slots=1, mode="concurrency")
    with ExitStack() as held:
        for _ in range(slots):
            held.enter_context(gpu_slot())
        assert active_slots(name) == slots
    assert caplog.text.count("no process of this machine holds it") == 1


def test_a_slot_that_a_page_of_this_machine_holds_is_not_released(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    """An operator has lowered a limit: its only slot is held in a place that a page no longer looks at."""
    use_limit(monkeypatch, "gpu:lowered", 2, shared=False)
    monkeypatch.setattr(device, "MAX_REFUSAL_SECONDS", 0.2)
    monkeypatch.setattr(device, "LOST_SLOT_SECONDS", 0.5)
    with gpu_slot():
        record = only_record(tmp_path)
        record.rename(record.with_name(record.name.replace("-0", "-1")))
    request_api("PATCH", "/v2/concurrency_limits/gpu:lowered", {"limit": 1})
    thread = threading.Thread(target=contextvars.copy_context().run, args=(_enter_and_leave,))
    thread.start()
    time.sleep(2)
    assert (active_slots("gpu:lowered"), thread.is_alive()) == (1, True)
    request_api("PATCH", "/v2/concurrency_limits/gpu:lowered", {"active_slots": 0})
    thread.join()
    assert "no process of this machine" not in caplog.text


def _enter_and_leave() -> None:
    with gpu_slot():
        pass


def test_a_folder_that_somebody_else_made_is_not_used(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (tmp_path / f"panelworks-device-{os.getuid()}").symlink_to(elsewhere)
    use_limit(monkeypatch, "gpu:foreign", shared=False)
    with gpu_slot():
        pass
    assert list(elsewhere.iterdir()) == []
    assert list(get_settings().cache_dir.glob("device/*.json"))


def test_an_unknown_limit_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PANELWORKS_GPU_LIMIT", "gpu:unknown")
    get_settings.cache_clear()
    with pytest.raises(Misconfigured, match="no limit 'gpu:unknown'"), gpu_slot():
        pytest.fail("there is no slot")


def test_a_record_that_cannot_be_written_costs_no_page(
    caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    (tmp_path / "place.json").mkdir()
    Place(tmp_path, "place").write(SlotLease(id=uuid4(), expires_at=time.time()))
    assert "not recorded" in caplog.text


def test_a_computed_page_survives_a_server_that_cannot_release_the_slot(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    use_limit(monkeypatch, "gpu:left", 1)
    with ExitStack() as outage:
        with gpu_slot():
            nowhere = {PREFECT_API_URL: f"http://127.0.0.1:{free_port()}/api"}
            outage.enter_context(temporary_settings(nowhere))
        assert "its lease ends it" in caplog.text


def test_an_unavailable_server_is_a_transient_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PANELWORKS_GPU_LIMIT", "gpu:test")
    get_settings.cache_clear()
    unavailable = temporary_settings({PREFECT_API_URL: f"http://127.0.0.1:{free_port()}/api"})
    with unavailable, pytest.raises(Transient), gpu_slot():
        pytest.fail("there is no slot")


def test_what_fails_while_the_slot_is_not_limited_passes_through() -> None:
    with pytest.raises(ZeroDivisionError), gpu_slot():
        raise ZeroDivisionError
