"""The table of permissions in docs/how-to/live.md, row by row, on a running gateway with a real Prefect server."""

import base64
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from service.gateway.access import hash_of
from tests.books import page_file
from tests.servers import until
from tests.service.gateway.conftest import Open

KEYS = ("studio", "reader", "root")


@dataclass(frozen=True)
class World:
    """A gateway with three keys, and what the key `studio` did there."""

    client: httpx.Client
    finished: str
    stored: str

    def ask(self, key: str | None, method: str, path: str, body: Any = None) -> httpx.Response:
        headers = {"X-API-Key": key} if key else {}
        return self.client.request(method, path, headers=headers, json=body)

    def post_event(self, key: str, job_id: str, **more: Any) -> httpx.Response:
        event = {"source": _data_uri(9), "job_id": job_id, **more}
        return self.ask(key, "POST", "/api/generation/events", event)


def _data_uri(seed: int) -> str:
    return "data:image/png;base64," + base64.b64encode(page_file(seed)).decode()


@pytest.fixture
def world(gateway_with_prefect: Open) -> World:
    entries = tuple(f"{key}:{hash_of(key)}{':admin' if key == 'root' else ''}" for key in KEYS)
    client = gateway_with_prefect(api_keys=entries)
    studio = {"X-API-Key": "studio"}
    assert client.post("/api/pages", files={"image": ("p.png", page_file(1))}, headers=studio).is_success
    known = client.post("/api/enhancement/process", files={"file": ("p.png", page_file(1))}, headers=studio)
    assert known.status_code == 200, known.text
    job = known.json()
    sha256 = job["result"]["source"]["sha256"]
    return World(client, job["job_id"], f"stored:{sha256}.png/p.png")


def _bare(answer: httpx.Response) -> Any:
    return answer.json() | {"request_id": None}


def test_jobs_are_for_their_key_and_for_admins(world: World) -> None:
    """Every route of a job: the owner and an admin key get it, another key gets the answer for unknown jobs."""
    jobs = "/api/enhancement"
    for job_id in ("waits", "waits-too"):
        assert world.post_event("studio", job_id).status_code == 202
    rows = [
        ("GET", f"{jobs}/status/{{}}", world.finished, None, 200, 200),
        ("GET", f"{jobs}/status/{{}}", "waits", None, 200, 200),
        ("GET", f"{jobs}/{{}}/variants/high", world.finished, None, 200, 200),
        ("POST", f"{jobs}/{{}}/re-enhance", world.finished, {"force": True}, 202, 202),
        ("GET", "/api/results/{}/thumbnail", world.finished, None, 200, 200),
        ("GET", "/api/results/{}/tiles/master/0/0/0", world.finished, None, 200, 200),
        ("GET", "/api/results/{}/preview/master", world.finished, None, 200, 200),
        ("POST", "/api/results/{}/approve", world.finished, {}, 409, 409),
        ("POST", "/api/results/{}/reject", world.finished, {}, 409, 409),
        ("DELETE", f"{jobs}/{{}}", "waits", None, 202, 409),
        ("DELETE", f"{jobs}/{{}}", "waits-too", None, 202, 409),
    ]
    for method, path, job_id, body, by_owner, by_admin in rows:
        unknown = world.ask("reader", method, path.format("no-such-job"), body)
        foreign = world.ask("reader", method, path.format(job_id), body)
        named = world.ask("reader", method, path.format(job_id) + "?owner=studio", body)
        assert (foreign.status_code, _bare(foreign)) == (404, _bare(unknown)), path
        assert (named.status_code, _bare(named)) == (404, _bare(unknown)), path
        assert world.ask(None, method, path.format(job_id), body).status_code == 401, path
        assert world.ask("studio", method, path.format(job_id), body).status_code == by_owner, path
        assert world.ask("root", method, path.format(job_id), body).status_code == by_admin, path
    assert world.post_event("studio", "for-admin").status_code == 202
    assert world.ask("root", "DELETE", f"{jobs}/for-admin?owner=studio").status_code == 202


def test_lists_show_the_jobs_of_the_key(world: World) -> None:
    for key in KEYS:
        assert world.post_event(key, f"listed-{key}", tool=f"owner:{KEYS[0]}").status_code == 202

    def listed(key: str, more: str = "") -> set[str]:
        jobs = world.ask(key, "GET", f"/api/enhancement?limit=200{more}").json()["jobs"]
        return {job["job_id"] for job in jobs if job["job_id"].startswith("listed-")}

    for more in ("", "&status=queued", f"&tool=owner:{KEYS[0]}"):
        until(lambda more=more: listed("root", more) == {f"listed-{key}" for key in KEYS})  # type: ignore[misc]
        assert listed("studio", more) == {"listed-studio"}, "a tool's name does not forge an owner"
        assert listed("reader", more) == {"listed-reader"}
    assert listed("root", "&tool=other") == set()


def test_one_job_id_of_two_keys_is_two_jobs(world: World) -> None:
    assert [world.post_event(key, "same", tool=key).status_code for key in ("studio", "reader")] == [202] * 2

    def run_of(key: str, more: str = "") -> str | None:
        found: str | None = world.ask(key, "GET", f"/api/enhancement/status/same{more}").json()["flow_run_id"]
        return found

    until(lambda: None not in (run_of("studio"), run_of("reader")))
    assert run_of("studio") != run_of("reader")
    assert run_of("root", "?owner=studio") == run_of("studio")
    assert run_of("root", "?owner=reader") == run_of("reader")


def test_uploads_are_named_by_their_key_and_by_admins(world: World) -> None:
    process, event = "/api/enhancement/process", "/api/generation/events"
    missing = world.ask("reader", "POST", process, {"source": f"stored:{'0' * 64}.png/p.png"})
    for path in (process, event):
        foreign = world.ask("reader", "POST", path, {"source": world.stored})
        assert (foreign.status_code, _bare(foreign)) == (404, _bare(missing)), path
        for key in ("studio", "root"):
            assert world.ask(key, "POST", path, {"source": world.stored}).is_success, (path, key)


def test_the_same_content_shares_the_computation_but_not_the_job(world: World) -> None:
    reader = {"X-API-Key": "reader"}
    files = {"file": ("p.png", page_file(1))}
    job = world.client.post("/api/enhancement/process", files=files, headers=reader).json()
    assert job["result"]["cached"]
    assert job["job_id"] != world.finished
    assert world.ask("reader", "GET", job["status_url"]).status_code == 200
    assert world.ask("studio", "GET", job["status_url"]).status_code == 404


def test_a_client_cannot_choose_the_owner(world: World) -> None:
    for body in ({"owner": "studio"}, {"origin": {"owner": "studio"}}):
        answer = world.ask("reader", "POST", "/api/generation/events", {"source": _data_uri(2), **body})
        assert answer.status_code == 422


@pytest.mark.parametrize(("key", "status"), [("studio", 403), ("root", 200), (None, 401)])
def test_metrics_are_for_admins(world: World, key: str | None, status: int) -> None:
    assert world.ask(key, "GET", "/metrics").status_code == status
    assert world.ask(key, "GET", "/api/health").status_code == 200


def test_progress_is_for_the_key_and_for_admins(world: World) -> None:
    assert world.post_event("studio", "followed").status_code == 202
    assert world.ask("studio", "DELETE", "/api/enhancement/followed").status_code == 202
    address = f"ws://127.0.0.1:{world.client.base_url.port}/api/enhancement/progress/followed"
    for key in ("studio", "root"):
        with connect(address, additional_headers={"X-API-Key": key}) as socket:
            assert '"cancelled"' in [str(message) for message in socket][-1]
    with connect(address, additional_headers={"X-API-Key": "reader"}) as socket:
        assert "unknown_job" in str(socket.recv())
        with pytest.raises(ConnectionClosed):
            socket.recv()
