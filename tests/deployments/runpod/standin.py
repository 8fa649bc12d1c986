"""A stand-in of RunPod on loopback: its published API, with a real local process as each pod.

Bodies are checked against the published descriptions (published.json), those that come in and those that go out.
As RunPod does, it starts a container that exits again, and tells no exit code.
"""

import json
import os
import shlex
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self
from uuid import uuid4

from jsonschema import Draft202012Validator

PUBLISHED: dict[str, Any] = json.loads((Path(__file__).parent / "published.json").read_text())
KEY = "rpa_of_the_account"
_GRACE = 5.0


def complaints(part: str, body: Any) -> list[str]:
    """The violations of the published description in a body."""
    return [error.message for error in Draft202012Validator(PUBLISHED[part]).iter_errors(body)]


@dataclass
class Container:
    """The process of a pod, restarted whenever it exits."""

    command: list[str]
    env: dict[str, str]
    folder: Path
    starts: int = 0
    process: subprocess.Popen[bytes] | None = None
    stopped: threading.Event = field(default_factory=threading.Event)

    def keep(self) -> None:
        while not self.stopped.is_set():
            with (self.folder / "log").open("ab") as log:
                self.process = subprocess.Popen(
                    self.command, env=self.env, stdout=log, stderr=log, start_new_session=True
                )
            self.starts += 1
            self.process.wait()
            self.stopped.wait(0.5)

    def kill(self) -> None:
        """Kill all its processes at once, as when it runs out of memory."""
        if self.process and self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)

    def stop(self) -> None:
        """Send SIGTERM to its first process, and SIGKILL to all after RunPod's five seconds."""
        self.stopped.set()
        if self.process and self.process.poll() is None:
            self.process.terminate()
        deadline = time.monotonic() + _GRACE
        while self.process and self.process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        self.kill()


class StandIn:
    """The account: its pods, the free GPUs, and the behaviour of the API."""

    def __init__(self, environment: dict[str, str]) -> None:
        self.environment = environment
        """Environment of every pod's process, besides the requested variables."""
        self.pods: dict[str, tuple[dict[str, Any], Container]] = {}
        self.created: list[dict[str, Any]] = []
        self.requests: list[str] = []
        self.refused: list[str] = []
        self.free: dict[str, float] = {"NVIDIA L4": 0.43}
        """Types that can be rented, with their prices."""
        self.promised: dict[str, float] = {}
        """Prices of the catalogue, if they differ."""
        self.away = threading.Event()
        self.silent_creates = 0
        """Number of pods that are rented without an answer."""
        self.busy_answers = 0
        """Number of requests that are answered with 429."""
        self.pods_may_end_themselves = False
        self.spot_retired = False
        self._folder = Path(tempfile.mkdtemp(prefix="runpod-"))
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *raised: object) -> None:
        for pod_id in list(self.pods):
            self.terminate(pod_id)
        self._server.shutdown()
        self._server.server_close()
        shutil.rmtree(self._folder)

    def of_run(self, run_id: str) -> tuple[dict[str, Any], Container] | None:
        return next((one for one in self.pods.values() if one[0]["name"].endswith(run_id)), None)

    def terminate(self, pod_id: str) -> bool:
        found = self.pods.pop(pod_id, None)
        if found:
            found[1].stop()
        return found is not None

    def preempt(self, pod_id: str) -> None:
        """Take a spot pod back like RunPod: SIGTERM, five seconds, then the pod counts as exited."""
        pod, container = self.pods[pod_id]
        container.stop()
        pod.update(status="EXITED", cost=0.0, runtime=None)

    def rent(
        self, name: str, image: str, env: dict[str, str], cloud: str, gpu: str, command: list[str]
    ) -> Any:
        pod_id = uuid4().hex[:14]
        folder = self._folder / pod_id
        folder.mkdir()
        own = {
            "RUNPOD_POD_ID": pod_id,
            "RUNPOD_API_KEY": f"pod_{pod_id}",
            "PANELWORKS_RUNPOD_URL": f"{self.url}/v2",
            "TMPDIR": str(folder),
        }
        container = Container(command, {**self.environment, **env, **own}, folder)
        pod = {
            "id": pod_id, "name": name, "status": "RUNNING", "actions": ["stop", "restart", "terminate"],
            "image": image, "env": env, "cloud": cloud, "cost": self.free[gpu], "runtime": None,
            "createdAt": datetime.now(UTC).isoformat(), "startedAt": None, "globalNetworking": False,
        }  # fmt: skip
        self.pods[pod_id] = (pod, container)
        threading.Thread(target=container.keep, daemon=True).start()
        return pod

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        account = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, format: str, *arguments: Any) -> None:
                account.requests.append(f"{self.command} {self.path}")

            def handle_one_request(self) -> None:
                if account.away.is_set():
                    self.close_connection = True
                    return
                super().handle_one_request()

            def do_GET(self) -> None:
                if not self._admitted():
                    return
                if self.path == "/v2/pods":
                    self._answer(200, {"pods": [pod for pod, _ in account.pods.values()]})
                elif self.path == "/v2/catalog/gpus":
                    prices = {**account.free, **account.promised}
                    self._answer(
                        200, {"gpus": [{"id": k, "price": {"secure": v}} for k, v in prices.items()]}
                    )
                elif found := account.pods.get(self.path.removeprefix("/v2/pods/")):
                    assert complaints("v2_pod", found[0]) == []
                    self._answer(200, found[0])
                else:
                    self._problem(404, "pod not found")

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                if not self._admitted():
                    return
                version = self.path.split("/")[1]
                wrong = complaints(f"{version}_create", body)
                if wrong:
                    account.refused.extend(wrong)
                    self._problem(422, "unprocessable", wrong)
                elif version == "v1" and account.spot_retired:
                    self._answer(410, {"error": "gone"})
                else:
                    self._rent(version, body)

            def _rent(self, version: str, body: dict[str, Any]) -> None:
                gpu = body["gpuTypeIds"][0] if version == "v1" else body["gpu"]["id"]
                if gpu not in account.free:
                    said = "create pod: There are no instances currently available"
                    self._answer(500, {"error": said, "status": 500})
                    return
                account.created.append(body)
                command = body["dockerStartCmd"] if version == "v1" else shlex.split(body["args"])
                pod = account.rent(
                    body["name"], body.get("image") or body["imageName"], body["env"],
                    body.get("cloud", "SECURE"), gpu, command,
                )  # fmt: skip
                if account.silent_creates:
                    account.silent_creates -= 1
                    self.close_connection = True
                elif version == "v1":
                    spot = {
                        "id": pod["id"],
                        "name": pod["name"],
                        "desiredStatus": "RUNNING",
                        "costPerHr": pod["cost"],
                    }
                    assert complaints("v1_pod", spot) == []
                    self._answer(201, spot)
                else:
                    self._answer(201, pod)

            def do_DELETE(self) -> None:
                pod_id = self.path.removeprefix("/v2/pods/")
                if not self._admitted(pod_id):
                    return
                if account.terminate(pod_id):
                    self.send_response(204)
                    self.end_headers()
                else:
                    self._problem(404, "pod not found")

            def _admitted(self, pod_id: str | None = None) -> bool:
                if account.busy_answers:
                    account.busy_answers -= 1
                    self._problem(429, "too many requests", retry_after=1)
                    return False
                key = self.headers.get("Authorization", "").removeprefix("Bearer ")
                own = account.pods_may_end_themselves and pod_id is not None and key == f"pod_{pod_id}"
                if key == KEY or own:
                    return True
                self._problem(403 if key.startswith("pod_") else 401, "this key may not")
                return False

            def _problem(
                self, status: int, title: str, errors: list[str] | None = None, retry_after: int = 0
            ) -> None:
                body = {"title": title, "status": status, "detail": title, "errors": errors or []}
                self._answer(status, body, retry_after)

            def _answer(self, status: int, body: Any, retry_after: int = 0) -> None:
                data = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                if retry_after:
                    self.send_header("Retry-After", str(retry_after))
                self.end_headers()
                self.wfile.write(data)

        return Handler
