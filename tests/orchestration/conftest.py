"""All flow tests have the server."""

import pytest


@pytest.fixture(scope="session", autouse=True)
def with_server(prefect_server: None) -> None:
    """Flows ask it."""
