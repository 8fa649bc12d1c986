"""Options of the tasks, and the GPU slot while the server is unavailable."""

import importlib
from contextlib import ExitStack

import pytest
from prefect.cache_policies import NO_CACHE
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import GlobalConcurrencyLimitCreate
from prefect.settings import PREFECT_API_URL, temporary_settings

from orchestration.stage_tasks import RETRY_DELAYS_SECONDS, gpu_slot, is_transient
from panelworks.errors import Transient
from panelworks.settings import get_settings
from tests.servers import free_port

CACHED = {"assess", "enhance", "validate", "make_variants"}
ALL = CACHED | {"ingest", "publish", "record"}


@pytest.mark.parametrize("name", sorted(ALL))
def test_every_stage_is_retried_and_timed(name: str) -> None:
    stage = getattr(importlib.import_module(f"tasks.{name}"), name)
    assert stage.name == name.replace("_", "-")
    assert stage.retries == len(RETRY_DELAYS_SECONDS)
    assert stage.retry_condition_fn is is_transient
    assert stage.retry_jitter_factor > 0
    assert stage.timeout_seconds > 0
    assert not stage.tags, "each run of a tagged task asks the server for its limits"
    assert (stage.cache_policy != NO_CACHE) == (name in CACHED)


def test_a_computed_page_survives_a_server_that_cannot_release_the_slot(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("PANELWORKS_GPU_LIMIT", "gpu:left")
    get_settings.cache_clear()
    with get_client(sync_client=True) as client:
        client.create_global_concurrency_limit(GlobalConcurrencyLimitCreate(name="gpu:left", limit=1))
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
