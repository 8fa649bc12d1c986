"""Two gateways of one stack: whatever one accepted, the other follows, reads and cancels."""

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from websockets.sync.client import connect

from tests.live.stack import Message, Stack
from tests.live.test_live import page
from tests.servers import free_port, until


class Gateway:
    """What a client does with one of the two."""

    def __init__(self, address: str) -> None:
        self.address = address

    def get(self, path: str) -> Any:
        return httpx.get(f"{self.address}/api/enhancement{path}", timeout=30).json()

    def post(self, data: bytes, name: str) -> httpx.Response:
        address = f"{self.address}/api/enhancement/process"
        return httpx.post(address, files={"file": (name, data)}, timeout=60)

    def follow(self, job_id: str, after: int = 0) -> Iterator[Message]:
        address = f"{self.address.replace('http', 'ws')}/api/enhancement/progress/{job_id}?after={after}"
        with connect(address, open_timeout=30) as socket:
            for message in socket:
                yield json.loads(message)


@pytest.fixture(scope="module")
def gateways(stack: Stack) -> Iterator[tuple[Gateway, Gateway]]:
    """That of the stack, and another one beside it."""
    port = free_port()
    environment = {**stack.environment, "PREFECT_API_URL": stack.api}
    command = [sys.executable, "-m", "panelworks", "gateway", "--port", str(port)]
    with (stack.folder / "second-gateway.log").open("wb") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    second = Gateway(f"http://127.0.0.1:{port}")
    try:
        until(lambda: process.poll() is not None or _is_healthy(second))
        assert process.poll() is None, (stack.folder / "second-gateway.log").read_text()
        yield Gateway(stack.gateway), second
    finally:
        process.terminate()
        process.wait(30)


def _is_healthy(gateway: Gateway) -> bool:
    try:
        return bool(httpx.get(f"{gateway.address}/api/health", timeout=5).json()["status"] == "healthy")
    except httpx.HTTPError:
        return False


def test_a_page_is_followed_and_read_at_the_other_gateway(gateways: tuple[Gateway, Gateway]) -> None:
    first, second = gateways
    data = page(201, 500, 600)
    job_id = first.post(data, "followed.png").json()["job_id"]
    messages = list(second.follow(job_id))
    assert messages[-1]["status"] == "done"
    assert "enhance" in {message.get("stage") for message in messages}
    # A client that lost its connection continues at the other gateway, at any message.
    middle = messages[len(messages) // 2]["cursor"]
    expected = [message for message in messages if message["cursor"] > middle]
    assert list(first.follow(job_id, middle)) == list(second.follow(job_id, middle)) == expected

    status = first.get(f"/status/{job_id}")
    assert second.get(f"/status/{job_id}") == status
    for link in status["links"]:
        pictures = {httpx.get(gateway.address + link["url"]).content for gateway in gateways}
        assert len(pictures) == 1
    known = [gateway.post(data, "followed.png") for gateway in gateways]
    assert [answer.status_code for answer in known] == [200, 200]
    assert {answer.json()["job_id"] for answer in known} == {job_id}
    jobs = [gateway.get("?limit=5")["jobs"] for gateway in gateways]
    assert jobs[0] == jobs[1] and job_id in {job["job_id"] for job in jobs[0]}


def test_a_page_is_cancelled_at_the_other_gateway(gateways: tuple[Gateway, Gateway], stack: Stack) -> None:
    first, second = gateways
    job_id = first.post(page(202, 1900, 1900), "stopped.png").json()["job_id"]
    answer = None
    for message in second.follow(job_id):
        if message.get("stage") == "enhance" and message["stage_percent"] > 0 and answer is None:
            answer = httpx.delete(f"{second.address}/api/enhancement/{job_id}", timeout=30)
    assert answer is not None and answer.status_code == 202
    assert message["status"] == "cancelled"
    assert list(first.follow(job_id))[-1]["status"] == "cancelled"
    until(lambda: all(one.get(f"/status/{job_id}")["status"] == "cancelled" for one in gateways))
    assert stack.keys("/stopped-") == []
    again = second.post(page(202, 1900, 1900), "stopped.png").json()
    assert again["job_id"] != job_id
    until(lambda: first.get(f"/status/{again['job_id']}")["status"] in ("queued", "running"))
    assert httpx.delete(f"{first.address}/api/enhancement/{again['job_id']}", timeout=30).status_code == 202


def test_a_panel_reported_to_both_gateways_is_processed_once(
    gateways: tuple[Gateway, Gateway], stack: Stack
) -> None:
    source = stack.put("incoming/both.png", page(203))
    event = {"source": source, "job_id": "both", "tool": "flux"}
    answers = [httpx.post(f"{one.address}/api/generation/events", json=event, timeout=30) for one in gateways]
    assert [answer.status_code for answer in answers] == [202, 202]
    assert answers[0].json() == answers[1].json()
    assert [list(one.follow("both"))[-1]["status"] for one in gateways] == ["done", "done"]
    rows = stack.rows()
    assert rows[rows["job_id"] == "both"]["cached"].tolist() == [False]
