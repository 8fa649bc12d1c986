"""Slots of the device: the queue of the machine, and a server that is unavailable."""

import contextvars
import logging
import threading
import time
from contextlib import ExitStack

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import GlobalConcurrencyLimitCreate
from prefect.settings import PREFECT_API_URL, temporary_settings

from orchestration import device
from orchestration.device import gpu_slot
from panelworks.errors import Transient
from panelworks.settings import get_settings
from tests.servers import free_port


@pytest.fixture(autouse=True)
def unknown_slots(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "_slots", {})


def use_limit(monkeypatch: pytest.MonkeyPatch, name: str, slots: int) -> None:
    """Create a limit and use it in this test."""
    monkeypatch.setenv("PANELWORKS_GPU_LIMIT", name)
    get_settings.cache_clear()
    with get_client(sync_client=True) as client:
        client.create_global_concurrency_limit(GlobalConcurrencyLimitCreate(name=name, limit=slots))


@pytest.mark.parametrize("slots", [1, 2])
def test_pages_of_a_machine_queue_without_being_refused(
    slots: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "httpx")
    name = f"gpu:queue-{slots}"
    use_limit(monkeypatch, name, slots)
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
    assert sum("increment-with-lease" in one for one in caplog.messages) == 4
    assert not any("423 Locked" in one for one in caplog.messages), "the server never refused a slot"


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
