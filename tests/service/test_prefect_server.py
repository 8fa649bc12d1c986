"""Every command finds the Prefect server where Prefect itself finds it."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import free_port
from tests.flows.test_deployment import ROOT

ASK = "from service.prefect_server import server_url; print(server_url())"


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
    asked = run(tmp_path, "-c", f"{ASK}; import sys; print('prefect' in sys.modules)")
    assert asked.stdout.split() == ["None", "False"]


@pytest.mark.parametrize(
    "command",
    [
        ("emit", "https://example.com/p.png"),
        ("up", "--check"),
        ("enhance", "missing.png"),
        ("schedule", "backfill", "--list"),
    ],
)
def test_commands_use_the_server_of_the_profile(tmp_path: Path, command: tuple[str, ...]) -> None:
    port = (
        free_port()
    )  # nothing listens there: the command says that the server of the profile does not answer
    profile(tmp_path, f"http://127.0.0.1:{port}/api")
    done = run(tmp_path, "-m", "service.cli", *command, PREFECT_CLIENT_MAX_RETRIES="0")
    assert done.returncode != 0
    assert "no_server" not in done.stderr and "No Prefect server" not in done.stderr
    output = done.stdout + done.stderr
    assert str(port) in output or "ConnectError" in output or "connect" in output.lower(), output
