"""The gateway against its own openapi.json: whatever the schema allows, and much that it does not, gives no 5xx."""

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given
from hypothesis import settings as hypothesis_settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode

from service.gateway.access import new_key
from tests.books import page_file
from tests.servers import until
from tests.service.gateway.conftest import Open

EXAMPLES_PER_OPERATION = {"a key": 12, "no keys": 4}
"""Access control comes first: behind it, both gateways do the same."""
_BRIEF = hypothesis_settings(
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)


def operations_of(client: httpx.Client) -> Iterator[Any]:
    """The operations of the gateway's own openapi.json."""
    document = client.get("/openapi.json").json()
    results: Iterator[Any] = schemathesis.openapi.from_dict(document).get_all_operations()
    for result in results:
        yield result.ok()  # an operation whose schema does not resolve raises here


def statuses_of(operation: Any, client: httpx.Client, mode: GenerationMode, examples: int) -> dict[int, Any]:
    """Status codes that an operation answers to generated requests, each with an example."""
    found: dict[int, Any] = {}
    names = {parameter.name for parameter in operation.query}
    # No worker serves the jobs that wait.
    usable = {"wait": 0} if "wait" in names else {}

    @hypothesis_settings(_BRIEF, max_examples=examples)
    @given(case=operation.as_strategy(generation_mode=mode))
    def send(case: Any) -> None:
        if usable:
            case.query = {**(case.query or {}), **usable}
        if _is_short((case.query or {}).get("deadline")):
            case.query = {**case.query, "deadline": 60}
        response = case.call(base_url=str(client.base_url), headers=dict(client.headers), timeout=60)
        found.setdefault(response.status_code, case.as_curl_command())

    with suppress(Unsatisfiable):  # an operation without parameters has no invalid request
        send()
    return found


def _is_short(deadline: Any) -> bool:
    """Is a deadline valid? A page that misses a short one is answered 503, as documented."""
    try:
        return 0 < float(deadline) < 60
    except (TypeError, ValueError):
        return False


def process_first_pages(client: httpx.Client) -> None:
    """Have a page enhanced and a job started, so that the gateway has loaded all that it needs for them.

    NumPy's and Prefect's modules parse source meanwhile, in threads of the gateway. If Hypothesis parses at the same time, its
    hook on the garbage collector lets the threads alternate, and CPython 3.11 raises SystemError.
    """
    assert client.post("/api/pages", files={"image": ("page.png", page_file(1))}).is_success
    job = client.post("/api/enhancement/process", files={"file": ("page.png", page_file(2))}).json()
    until(lambda: client.get(job["status_url"]).json()["flow_run_id"] is not None)


@pytest.mark.parametrize("mode", list(GenerationMode))
@pytest.mark.parametrize("access", EXAMPLES_PER_OPERATION)
def test_no_request_gives_a_server_error(
    gateway_with_prefect: Open, mode: GenerationMode, access: str
) -> None:
    key, digest = new_key()
    client = gateway_with_prefect(
        api_keys=(f"studio:{digest}",) if access == "a key" else (), rate_limit="1000000/minute"
    )
    if access == "a key":
        client.headers["x-api-key"] = key
    process_first_pages(client)
    operations = list(operations_of(client))
    assert len(operations) >= 12
    answered = {
        operation.label: statuses_of(operation, client, mode, EXAMPLES_PER_OPERATION[access])
        for operation in operations
    }
    errors = {
        label: {status: case for status, case in found.items() if status >= 500}
        for label, found in answered.items()
    }
    assert not {label: found for label, found in errors.items() if found}
    assert client.get("/api/enhancement", params={"limit": 100}).status_code < 500, "listings still work"
