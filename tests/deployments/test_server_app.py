"""Prefect's server as this package starts it."""

import os
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from prefect import settings as prefect_settings
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import GlobalConcurrencyLimitCreate
from prefect.server.api import server
from prefect.server.api.clients import OrchestrationClient
from prefect.settings import PREFECT_API_URL, Settings, get_current_settings, temporary_settings

from deployments.server_app import ServerSettings, check_shared_state, server_settings
from panelworks.errors import Misconfigured
from service.cli.processes import serve_prefect_api
from tests.servers import ROOT, prefect_server


@pytest.fixture
def conversions(monkeypatch: pytest.MonkeyPatch) -> list[Settings]:
    """The settings objects that were converted to environment variables, which is what takes the time."""
    converted: list[Settings] = []
    original = Settings.to_environment_variables

    def to_environment_variables(settings: Settings, *arguments: bool, **named: bool) -> dict[str, str]:
        converted.append(settings)
        return original(settings, *arguments, **named)

    monkeypatch.setattr(Settings, "to_environment_variables", to_environment_variables)
    return converted


@pytest.fixture
def in_server() -> Iterator[None]:
    with server_settings():
        yield


def test_prefect_converts_its_settings_for_each_client(conversions: list[Settings]) -> None:
    """If this fails, Prefect has become faster and `ServerSettings` can be removed."""
    OrchestrationClient()
    before = len(conversions)
    OrchestrationClient()
    assert len(conversions) > before


@pytest.mark.usefixtures("in_server")
def test_a_server_converts_them_once(conversions: list[Settings]) -> None:
    OrchestrationClient()
    before = len(conversions)
    OrchestrationClient()
    assert len(conversions) == before
    assert server.create_app() is server.create_app()


def test_the_app_is_the_same_with_either_kind_of_settings() -> None:
    app = server.create_app()
    with server_settings():
        assert server.create_app() is app


def test_the_settings_are_those_of_the_process() -> None:
    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}):
        settings = get_current_settings()
        with server_settings():
            ours = get_current_settings()
            assert isinstance(ours, ServerSettings)
            assert ours.api.url == "http://127.0.0.1:9/api"
            for flag in (False, True):
                expected = settings.to_environment_variables(exclude_unset=flag)
                assert ours.to_environment_variables(exclude_unset=flag) == expected


@pytest.mark.usefixtures("in_server")
def test_a_changed_setting_is_not_taken_from_the_earlier_conversion() -> None:
    get_current_settings().to_environment_variables()
    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:8/api"}):
        assert (
            get_current_settings().to_environment_variables()["PREFECT_API_URL"] == "http://127.0.0.1:8/api"
        )


@pytest.mark.usefixtures("in_server")
def test_a_caller_may_change_its_copy() -> None:
    get_current_settings().to_environment_variables().clear()
    assert get_current_settings().to_environment_variables()


def test_several_processes_need_what_they_can_share() -> None:
    redis = {"PREFECT_SERVER_EVENTS_MESSAGING_BROKER": "prefect_redis.messaging",
             "PREFECT_SERVER_EVENTS_MESSAGING_CACHE": "prefect_redis.messaging",
             "PREFECT_SERVER_EVENTS_CAUSAL_ORDERING": "prefect_redis.ordering",
             "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect_redis.lease_storage"}  # fmt: skip
    chosen = {getattr(prefect_settings, name): value for name, value in redis.items()}
    with temporary_settings(chosen), pytest.raises(Misconfigured, match="Postgres and Redis") as refused:
        check_shared_state()
    assert "DATABASE_CONNECTION_URL, PREFECT_SERVER_DOCKET_URL" in str(refused.value)
    assert "MESSAGING" not in str(refused.value)


def test_several_processes_do_not_each_run_the_services() -> None:
    with pytest.raises(Misconfigured, match="--no-services") as refused:
        serve_prefect_api("127.0.0.1", 4200, services=True, workers=2)
    assert refused.value.code == "services_apart"


def test_a_server_releases_slots_that_nobody_holds_when_it_starts(tmp_path: Path) -> None:
    """A server that is killed after it took a slot, and before it stored the lease, leaves a slot without one."""
    stored = "prefect.server.concurrency.lease_storage.filesystem"
    started = partial(prefect_server, tmp_path, PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE=stored)
    with started(), get_client(sync_client=True) as client:
        for name in ("gpu:a", "gpu:b", "other"):
            client.create_global_concurrency_limit(GlobalConcurrencyLimitCreate(name=name, limit=5))
        for name in ("gpu:a", "gpu:a", "other"):
            client.increment_concurrency_slots([name], slots=1, mode="concurrency")
        client.increment_concurrency_slots_with_lease(["gpu:a", "gpu:b"], 1, "concurrency", 600)
    with started(), get_client(sync_client=True) as client:
        active = {
            name: client.read_global_concurrency_limit_by_name(name).active_slots
            for name in ("gpu:a", "gpu:b", "other")
        }
    assert active == {"gpu:a": 1, "gpu:b": 1, "other": 1}
    assert "2 slots of concurrency limit" in (tmp_path / "server.log").read_text()


@pytest.mark.parametrize(("content", "level"), [(None, "DEBUG"), (b"not a database" * 100, "WARNING")])
def test_only_a_new_database_is_no_reason_to_warn_of_slots(
    content: bytes | None, level: str, tmp_path: Path
) -> None:
    file = tmp_path / "prefect.db"
    if content is not None:
        file.write_bytes(content)
    program = (
        "import asyncio, logging; from deployments import server_app as app; logging.basicConfig(level='DEBUG');"
        " app.logger.setLevel('DEBUG'); asyncio.run(app.release_lost_slots())"
    )
    environment = {**os.environ, "PREFECT_API_DATABASE_CONNECTION_URL": f"sqlite+aiosqlite:///{file}"}
    ended = subprocess.run(
        [sys.executable, "-c", program], env=environment, cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert f"{level}:deployments.server_app:slots without a lease not looked for" in ended.stderr
