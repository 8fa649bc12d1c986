"""The app of a Prefect server is found once, as the clients of its automations ask for it."""

import pytest
from prefect.server.api import server
from prefect.server.api.clients import OrchestrationClient
from prefect.settings import Settings

from deployments.server_app import remember_server_app


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[None]:
    """As often as the settings were hashed, which is what takes the time."""
    count: list[None] = []
    original = Settings.hash_key

    def hash_key(settings: Settings) -> str:
        count.append(None)
        return original(settings)

    monkeypatch.setattr(Settings, "hash_key", hash_key)
    monkeypatch.setattr(server, "create_app", server.create_app)
    return count


def test_prefect_looks_for_its_app_each_time(hashed: list[None]) -> None:
    """When it does not any more, ours can go."""
    OrchestrationClient()
    before = len(hashed)
    OrchestrationClient()
    assert len(hashed) > before


def test_a_server_that_remembers_does_not(hashed: list[None]) -> None:
    remember_server_app()
    OrchestrationClient()
    before = len(hashed)
    assert OrchestrationClient()._http_client is not OrchestrationClient()._http_client
    assert len(hashed) == before
    assert server.create_app() is server.create_app()


def test_another_app_is_still_to_be_had(hashed: list[None]) -> None:
    remember_server_app()
    assert server.create_app(ephemeral=True, ignore_cache=True) is not server.create_app()
