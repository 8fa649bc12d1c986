"""The GPU's slot while the server is away."""

import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings

from panelworks.errors import Transient
from panelworks.settings import get_settings
from tasks.gpu_slot import gpu_slot
from tests.conftest import free_port


def test_a_server_that_is_away_is_waited_for_by_the_tasks_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PANELWORKS_GPU_LIMIT", "gpu:test")
    get_settings.cache_clear()
    away = temporary_settings({PREFECT_API_URL: f"http://127.0.0.1:{free_port()}/api"})
    with away, pytest.raises(Transient), gpu_slot():
        pytest.fail("there is no slot")


def test_what_fails_while_the_slot_is_not_limited_passes_through() -> None:
    with pytest.raises(ZeroDivisionError), gpu_slot():
        raise ZeroDivisionError
