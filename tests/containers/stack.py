"""The stack of compose.yaml with secrets of its own, and requests of tests to it."""

import io
import json
import os
import re
import signal
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Self

import boto3
import httpx
from botocore.exceptions import ClientError
from PIL import Image
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings

from tests.containers.engine import Compose, Engine
from tests.pages import drawn, file_of
from tests.servers import free_port, request_api, until

OURS: Final = ("server", "worker-cpu", "supervisor", "gateway")
"""Services in containers of our image that run until they are stopped."""
BUCKET: Final = "pages"


class Stack:
    """The services, their addresses, and who may call them."""

    def __init__(self, engine: Engine, folder: Path, variables: dict[str, str], key: str) -> None:
        self.engine = engine
        self.compose = Compose(engine, folder, variables)
        self.secrets = {value for name, value in variables.items() if re.search("PASSWORD|AUTH|SECRET", name)}
        self._variables, self._key = variables, key
        self.s3: Any = boto3.client(
            "s3",
            endpoint_url=f"http://127.0.0.1:{variables['OBJECTS_PORT']}",
            region_name="us-east-1",
            aws_access_key_id="panelworks",
            aws_secret_access_key=variables["OBJECTS_PASSWORD"],
        )

    @classmethod
    def with_new_secrets(cls, engine: Engine, image: str, folder: Path) -> Self:
        """A stack with secrets made as compose.env.example describes; it is not started."""
        printed = engine.docker("run", "--rm", image, "panelworks", "keys", "new", "tests")
        key, entry = re.search(r"\bpw_\S+", printed), re.search(r"tests:[0-9a-f]{64}", printed)
        assert key and entry, printed
        variables = {
            "POSTGRES_PASSWORD": os.urandom(12).hex(),
            "OBJECTS_PASSWORD": os.urandom(12).hex(),
            "PREFECT_AUTH_STRING": f"panelworks:{os.urandom(12).hex()}",
            "PANELWORKS_CALLBACK_SECRET": os.urandom(12).hex(),
            "PANELWORKS_API_KEYS": entry[0],
            **{name: str(free_port()) for name in ("SERVER_PORT", "GATEWAY_PORT", "OBJECTS_PORT")},
        }
        return cls(engine, folder, variables, key[0])

    def start(self) -> None:
        """Start all services."""
        self.compose("up", "--detach", "--no-build")
        self.wait_until_healthy()

    def wait_until_healthy(self) -> None:
        """Wait until the health check of each service succeeds."""
        until(lambda: all(self._health(name) == "healthy" for name in OURS))

    def _health(self, service: str) -> str:
        return self.compose.inspect(service, "{{.State.Health.Status}}")

    @contextmanager
    def prefect(self) -> Iterator[None]:
        """Let the Prefect client of this process call the stack's server for a block."""
        url = f"http://127.0.0.1:{self._variables['SERVER_PORT']}/api"
        auth = self._variables["PREFECT_AUTH_STRING"]
        with temporary_settings({PREFECT_API_URL: url, PREFECT_API_AUTH_STRING: auth}):
            yield

    def request(self, method: str, path: str, **arguments: Any) -> Any:
        """Call the gateway; returns the body."""
        answer = httpx.request(
            method,
            f"http://127.0.0.1:{self._variables['GATEWAY_PORT']}{path}",
            headers={"X-API-Key": self._key},
            timeout=90,
            **arguments,
        )
        assert answer.is_success, answer.text
        return answer.json()

    def count_events(self, name: str, text: str) -> int:
        """How many events of a name mention a text."""
        with self.prefect():
            found = request_api(
                "POST", "/events/filter", {"filter": {"event": {"name": [name]}}, "limit": 50}
            )
        return sum(text in json.dumps(one) for one in found["events"])

    def count_book_events(self, key: str) -> int:
        """How many events report the end of a book; waits for the first, which the server stores in a batch."""
        name = "comic.book.enhanced"
        until(lambda: self.count_events(name, key) > 0)
        return self.count_events(name, key)

    def upload_book(self, key: str, seeds: range) -> None:
        """Store a book with a page for each seed."""
        book = io.BytesIO()
        with zipfile.ZipFile(book, "w") as archive:
            for seed in seeds:
                archive.writestr(f"{seed:03}.png", page_bytes(seed))
        self.s3.put_object(Bucket=BUCKET, Key=key, Body=book.getvalue())

    def start_book(self, name: str, seeds: range) -> str:
        """Upload a book and start its run; returns the run's id."""
        self.upload_book(f"in/{name}.cbz", seeds)
        with self.prefect():
            deployment = request_api("GET", "/deployments/name/enhance-book/enhance-book")["id"]
            parameters = {"source": f"s3://{BUCKET}/in/{name}.cbz", "out": f"s3://{BUCKET}/out/{name}.cbz"}
            run = request_api(
                "POST", f"/deployments/{deployment}/create_flow_run", {"parameters": parameters}
            )
        return str(run["id"])

    def state_of(self, run: str) -> str:
        with self.prefect():
            return str(request_api("GET", f"/flow_runs/{run}")["state"]["name"])

    def count_finished_tasks(self, run: str) -> int:
        wanted = {
            "flow_runs": {"id": {"any_": [run]}},
            "task_runs": {"state": {"type": {"any_": ["COMPLETED"]}}},
        }
        with self.prefect():
            return int(request_api("POST", "/task_runs/count", wanted))

    def keys(self, prefix: str) -> list[str]:
        """The objects of the bucket below a prefix."""
        found = self.s3.list_objects_v2(Bucket=BUCKET, Prefix=prefix).get("Contents", ())
        return [one["Key"] for one in found]

    def pages_of(self, key: str) -> int:
        """The number of pages of a finished book; 0 if there is none."""
        try:
            body = self.s3.get_object(Bucket=BUCKET, Key=key)["Body"].read()
        except ClientError:
            return 0
        with zipfile.ZipFile(io.BytesIO(body)) as archive:
            return sum(not name.endswith((".xml", ".json")) for name in archive.namelist())

    def kill(self, service: str) -> None:
        """Kill the first process of a container, as the kernel does when memory is exhausted."""
        os.kill(int(self.compose.inspect(service, "{{.State.Pid}}")), signal.SIGKILL)


def page_bytes(seed: int) -> bytes:
    """A page as PNG; each seed gives another drawing, and so another content key."""
    return file_of(Image.fromarray(drawn(400, 560, seed=seed).pixels))
