"""One Prefect server for all flow tests."""

from collections.abc import Iterator

import pytest
from prefect.settings import PREFECT_HOME, PREFECT_LOCAL_STORAGE_PATH, temporary_settings
from prefect.testing.utilities import prefect_test_harness


@pytest.fixture(scope="session", autouse=True)
def prefect_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A real server on a database of its own; results are kept apart from the machine's."""
    home = tmp_path_factory.mktemp("prefect")
    apart = temporary_settings({PREFECT_HOME: home, PREFECT_LOCAL_STORAGE_PATH: home / "storage"})
    with apart, prefect_test_harness(server_startup_timeout=90):
        yield
