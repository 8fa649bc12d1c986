"""All tests of this folder have a Prefect server."""

import pytest


@pytest.fixture(scope="session", autouse=True)
def with_server(prefect_server: None) -> None:
    """Flows need it."""
