"""Every command finds the Prefect server where Prefect itself finds it."""

import json
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.books import page_file
from tests.flows.test_deployment import ROOT
from tests.servers import QuietHandler, free_port, serving, until

ASK = "from service.prefect_server import find_server_url; print(find_server_url())"


def run(folder: Path, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A process whose only settings are these."""
    given = {"PATH": "/usr/bin:/bin", "HOME": str(folder), "PYTHONPATH": str(ROOT), **environment}
    return subprocess.run(
        [sys.executable, *command], cwd=folder, env=given, capture_output=True, text=True, timeout=120, check=False
    )  # fmt: skip


def profile(folder: Path, url: str) -> None:
    """What `prefect config set PREFECT_API_URL=...` writes."""
    (folder / ".prefect").mkdir()
    text = f'active = "studio"\n[profiles.studio]\nPREFECT_API_URL = "{url}"\n'
    (folder / ".prefect" / "profiles.toml").write_text(text)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("prefect.toml", '[api]\nurl = "{url}"\n'),
        ("pyproject.toml", '[tool.prefect]\napi.url = "{url}"\n'),
        (".env", "PREFECT_API_URL={url}\n"),
    ],
)
def test_files_that_prefect_reads_name_the_server(tmp_path: Path, name: str, text: str) -> None:
    url = "http://prefect.example/api"
    (tmp_path / name).write_text(text.format(url=url))
    assert run(tmp_path, "-c", ASK).stdout.strip() == url


def test_a_profile_names_the_server_and_the_environment_precedes_it(tmp_path: Path) -> None:
    profile(tmp_path, "http://profile.example/api")
    assert run(tmp_path, "-c", ASK).stdout.strip() == "http://profile.example/api"
    environment = {"PREFECT_API_URL": "http://environment.example/api"}
    assert run(tmp_path, "-c", ASK, **environment).stdout.strip() == "http://environment.example/api"


def test_without_any_setting_prefect_is_not_even_imported(tmp_path: Path) -> None:
    done = run(tmp_path, "-c", f"{ASK}; import sys; print('prefect' in sys.modules)")
    assert done.stdout.split() == ["None", "False"]


COMMANDS = (
    ("emit", "https://example.com/p.png"),
    ("up", "--check"),
    ("provision",),
    ("schedule", "backfill", "--list"),
    ("pools", "check", "nightly"),
    ("enhance", "page.png", "--out", "out"),
    ("backfill", ".", "--out", "out"),
)
END = "--- the command ended with "
RUN_IN_TURN = f"""
import json, sys
from panelworks.cli.app import main
for arguments in json.loads(sys.argv[1]):
    sys.argv = ["panelworks", *arguments]
    try:
        main()
        code = 0
    except SystemExit as end:
        code = end.code
    for stream in (sys.stdout, sys.stderr):
        print({END!r} + str(code), file=stream, flush=True)
"""
"""Program that runs commands one after the other; on both streams a line with its exit code ends each.

A process for each would import Prefect each time, which takes most of the time of such a command.
"""


def outcomes_of(text: str) -> list[tuple[str, str]]:
    """The output of each command on a stream, and its exit code."""
    *parts, rest = re.split(rf"^{END}(.*)\n", text, flags=re.MULTILINE)
    assert rest == "", rest
    return list(zip(parts[::2], parts[1::2], strict=True))


@pytest.mark.parametrize(
    ("answer", "sentence", "commands"),
    [
        (None, "is unavailable", COMMANDS),
        (401, "refuses access (401)", (COMMANDS[0], COMMANDS[5])),
        (500, "it answered 500", (COMMANDS[3],)),
        (200, "is not the API of a Prefect server", (COMMANDS[0], COMMANDS[6])),
    ],
)
def test_a_server_that_cannot_be_used_is_one_sentence(
    tmp_path: Path, answer: int | None, sentence: str, commands: tuple[tuple[str, ...], ...]
) -> None:
    """Before, most commands ended with a traceback of httpx; `enhance` reported an unexpected error."""
    (tmp_path / "page.png").write_bytes(page_file(1))
    with _answering(answer) as port:
        profile(tmp_path, f"http://127.0.0.1:{port}/api")
        done = run(tmp_path, "-c", RUN_IN_TURN, json.dumps(commands), PREFECT_CLIENT_MAX_RETRIES="0")
    streams = outcomes_of(done.stdout), outcomes_of(done.stderr)
    for command, (printed, code), (reported, _) in zip(commands, *streams, strict=True):
        output = printed + reported
        assert code != "0" and "Traceback" not in output, output
        if command[0] != "up":  # it lists what it finds, in words of its own
            assert sentence in output and str(port) in output, output
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").rglob("*.png"))


SERVICES = (("gateway", "--port", "0"), ("supervise",), ("worker",))


def test_services_use_the_server_of_the_profile(tmp_path: Path) -> None:
    """Each service has a profile of its own, whose address has its name, and its first request goes there."""
    requested: list[str] = []

    class Recorder(QuietHandler):
        def do_GET(self) -> None:  # noqa: N802 - the name that http.server calls
            requested.append(self.path.split("/")[1])
            self.send_error(503)

        do_POST = do_PATCH = do_GET  # noqa: N815 - the names that http.server calls

    processes = []
    with serving(Recorder) as address:
        try:
            for service in SERVICES:
                folder = tmp_path / service[0]
                folder.mkdir()
                profile(folder, f"{address}/{service[0]}/api")
                environment = {"PATH": "/usr/bin:/bin", "HOME": str(folder), "PYTHONPATH": str(ROOT)}
                arguments = [free_port_text() if one == "0" else one for one in service]
                command = [sys.executable, "-m", "panelworks", *arguments]
                with (folder / "log").open("wb") as log:
                    processes.append(
                        subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log)
                    )
            until(lambda: {service[0] for service in SERVICES} <= set(requested), 120)
        finally:
            for process in processes:
                process.kill()
                process.wait()


def free_port_text() -> str:
    return str(free_port())


@contextmanager
def _answering(answer: int | None) -> Iterator[int]:
    """A server that answers every request with a page of HTML; None: a port on which nothing listens."""
    if answer is None:
        yield free_port()
        return
    status: int = answer

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("content-length") or 0))
            self.send_response(status)
            self.send_header("content-type", "text/html")
            self.send_header("content-length", "6")
            self.end_headers()
            self.wfile.write(b"<html>")

        def do_POST(self) -> None:
            self.do_GET()

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Page)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
