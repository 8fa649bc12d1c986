"""The GPU's slot against a real server."""

from contextlib import ExitStack

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import GlobalConcurrencyLimitCreate
from prefect.settings import PREFECT_API_URL, temporary_settings

from panelworks.settings import get_settings
from tasks.gpu_slot import gpu_slot
from tests.conftest import free_port


def test_a_drawn_page_outlives_a_server_that_cannot_take_the_slot_back(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("PANELWORKS_GPU_LIMIT", "gpu:left")
    get_settings.cache_clear()
    with get_client(sync_client=True) as client:
        client.create_global_concurrency_limit(GlobalConcurrencyLimitCreate(name="gpu:left", limit=1))
    with ExitStack() as server_gone:
        with gpu_slot():
            nowhere = {PREFECT_API_URL: f"http://127.0.0.1:{free_port()}/api"}
            server_gone.enter_context(temporary_settings(nowhere))
        assert "its lease ends it" in caplog.text
