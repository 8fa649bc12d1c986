"""Two gateways on one store and one Prefect server: what one accepted, the other lists, follows and cancels."""

import asyncio
import json
import time
from uuid import UUID

import httpx
import pytest
from websockets.sync.client import connect

from panelworks.page.admission import AcceptedJob
from service.gateway import enhancement
from service.gateway.jobs import Jobs
from tests.servers import until
from tests.service.gateway.conftest import Open
from tests.service.gateway.test_outbox import event, runs_of


def status(client: httpx.Client, job_id: str) -> dict[str, object]:
    found: dict[str, object] = client.get(f"/api/enhancement/status/{job_id}").json()
    return found


def listed(client: httpx.Client, tool: str) -> list[tuple[str, str]]:
    jobs = client.get("/api/enhancement", params={"tool": tool}).json()["jobs"]
    return [(job["job_id"], job["status"]) for job in jobs]


@pytest.fixture
def slow_submission(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs are created after two seconds."""
    submit = Jobs.submit

    async def slowly(self: Jobs, job: AcceptedJob) -> UUID:
        await asyncio.sleep(2)
        return await submit(self, job)

    monkeypatch.setattr(Jobs, "submit", slowly)
    monkeypatch.setattr(enhancement, "_RUN_SECONDS", 0.2)


@pytest.mark.usefixtures("slow_submission")
def test_a_job_without_a_run_is_listed_and_cancelled_at_the_other_gateway(gateway_with_prefect: Open) -> None:
    """Before, the other gateway did not list it, and answered 503 to its cancellation."""
    first, second = gateway_with_prefect(), gateway_with_prefect()
    first.post("/api/generation/events", json={**event("elsewhere"), "tool": "flux"})
    assert listed(second, "flux") == listed(first, "flux") == [("elsewhere", "queued")]
    answer = second.delete("/api/enhancement/elsewhere")
    assert (answer.status_code, answer.json()["status"]) == (202, "queued")
    until(
        lambda: status(first, "elsewhere")["status"] == status(second, "elsewhere")["status"] == "cancelled"
    )
    assert len(runs_of("elsewhere")) == 1


def test_a_job_that_one_gateway_accepts_again_runs_again_at_the_other(gateway_with_prefect: Open) -> None:
    """Before, the other gateway reported the end of the first attempt, and accepted a third one."""
    first, second = gateway_with_prefect(), gateway_with_prefect()
    post = event("twice")
    first.post("/api/generation/events", json=post)
    until(lambda: status(second, "twice")["flow_run_id"] is not None)
    cancelled = status(second, "twice")["flow_run_id"]
    assert second.delete("/api/enhancement/twice").status_code == 202
    for client in (first, second):
        address = str(client.base_url).replace("http", "ws") + "/api/enhancement/progress/twice"
        with connect(address) as socket:
            assert [json.loads(message) for message in socket][-1]["status"] == "cancelled"

    assert first.post("/api/generation/events", json=post).status_code == 202
    until(lambda: status(first, "twice")["flow_run_id"] not in (None, cancelled))
    assert second.post("/api/generation/events", json=post).status_code == 202
    time.sleep(0.5)
    assert status(first, "twice") == status(second, "twice")
    assert status(second, "twice")["status"] == "queued"
    address = str(second.base_url).replace("http", "ws") + "/api/enhancement/progress/twice"
    with connect(address) as socket, pytest.raises(TimeoutError):
        socket.recv(timeout=1)  # the end of the first attempt is not sent again
    assert len(runs_of("twice")) == 2
