"""On SQLite, a writing request waits for the lock of another writer instead of failing."""

import sqlite3
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest
from prefect.settings import PREFECT_API_URL, PREFECT_HOME

from deployments.server_app import WRITERS
from tests.servers import AUTH, request_api

USER, PASSWORD = AUTH.split(":")
HOLD_SECONDS = 1.0
"""Time that the other writer holds the lock. A request without the lock reads the database within it."""


@pytest.fixture(scope="module")
def database(prefect_server: None) -> Iterator[tuple[Path, httpx.Client]]:
    """The database file of a server, and a client without retries."""
    with httpx.Client(base_url=str(PREFECT_API_URL.value()), auth=(USER, PASSWORD), timeout=60) as client:
        yield PREFECT_HOME.value() / "prefect.db", client


@pytest.fixture(scope="module")
def ids(database: tuple[Path, httpx.Client]) -> dict[str, str]:
    def create_object(path: str, **body: Any) -> str:
        return str(request_api("POST", path, body)["id"])

    flow = create_object("/flows/", name="pages")
    create_object("/variables/", name="lease", value=1)
    create_object("/v2/concurrency_limits/", name="books", limit=100)
    return {
        "flow": flow,
        "deployment": create_object("/deployments/", name="page", flow_id=flow),
        "run": create_object("/flow_runs/", flow_id=flow),
    }


Request = Callable[[httpx.Client, dict[str, str]], httpx.Response]
SLOTS = {"slots": 1, "names": ["books"]}
REQUESTS: dict[str, Request] = {
    "create_flow_run_from_deployment": lambda client, ids: client.post(
        f"/deployments/{ids['deployment']}/create_flow_run", json={}
    ),
    "create_flow_run": lambda client, ids: client.post("/flow_runs/", json={"flow_id": ids["flow"]}),
    "update_flow_run_labels": lambda client, ids: client.patch(
        f"/flow_runs/{ids['run']}/labels", json={"a": 1}
    ),
    "create_task_run": lambda client, ids: client.post(
        "/task_runs/", json={"flow_run_id": ids["run"], "task_key": "t", "dynamic_key": "1"}
    ),
    "update_variable_by_name": lambda client, _: client.patch("/variables/name/lease", json={"value": 2}),
    "bulk_increment_active_slots": lambda client, _: client.post(
        "/v2/concurrency_limits/increment", json=SLOTS
    ),
    "bulk_increment_active_slots_with_lease": lambda client, _: client.post(
        "/v2/concurrency_limits/increment-with-lease", json=SLOTS
    ),
}


def test_every_endpoint_is_tested() -> None:
    assert REQUESTS.keys() == WRITERS


@pytest.mark.parametrize("name", REQUESTS)
def test_a_request_waits_for_another_writer(
    name: str, database: tuple[Path, httpx.Client], ids: dict[str, str]
) -> None:
    """Without the lock, the server answers 503 ("database is locked"), and the client retries seconds later."""
    file, client = database
    with ThreadPoolExecutor(1) as pool, closing(sqlite3.connect(file, timeout=60)) as other:
        other.execute("BEGIN IMMEDIATE")
        other.execute("UPDATE flow SET labels = '{}'")
        answer = pool.submit(REQUESTS[name], client, ids)
        time.sleep(HOLD_SECONDS)
        other.commit()
        assert answer.result().is_success, answer.result().text
