"""The secret of the Prefect server that `up` starts: made once, private, and only for that server."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from panelworks.errors import Misconfigured
from service.prefect_server import CLIENT_AUTH, ServerAccess, supply_auth_string

LOCAL = "http://127.0.0.1:4200/api"


def test_it_is_made_once_and_readable_by_its_owner_only(tmp_path: Path) -> None:
    access = ServerAccess(tmp_path / "cache")
    assert access.read() is None
    secret, made = access.create()
    assert made and access.create() == (secret, False)
    assert len(secret.partition(":")[2]) >= 40
    assert access.path.stat().st_mode & 0o777 == 0o600
    assert ServerAccess(tmp_path / "other").create()[0] != secret


@pytest.mark.parametrize(("mode", "text"), [(0o644, "panelworks:x"), (0o600, "no colon"), (0o600, "")])
def test_a_file_that_others_can_read_or_that_is_damaged_is_not_used(
    tmp_path: Path, mode: int, text: str
) -> None:
    access = ServerAccess(tmp_path)
    access.create()
    access.path.write_text(text)
    access.path.chmod(mode)
    with pytest.raises(Misconfigured, match="auth-string"):
        access.read()


@pytest.mark.parametrize(
    ("url", "known"),
    [
        (LOCAL, True),
        ("http://localhost:4200/api/", True),
        ("http://[::1]:4200/api", True),
        ("http://127.0.0.1:4201/api", False),
        ("https://127.0.0.1:4200/api", False),
        ("http://prefect.example:4200/api", False),
        ("http://127.0.0.1:port/api", False),
    ],
)
def test_only_the_server_that_demands_it_gets_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str, known: bool
) -> None:
    monkeypatch.delenv(CLIENT_AUTH, raising=False)
    access = ServerAccess(tmp_path)
    secret, _ = access.create()
    access.add_url(LOCAL)
    assert access.secret_for(url) == (secret if known else None)


def test_what_the_user_chose_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CLIENT_AUTH, "mine:own")
    access = ServerAccess(tmp_path)
    access.create()
    access.add_url(LOCAL)
    supply_auth_string(tmp_path, LOCAL)
    assert os.environ[CLIENT_AUTH] == "mine:own"


def test_commands_find_it(tmp_path: Path) -> None:
    """In a process of its own, before and after Prefect was imported."""
    access = ServerAccess(tmp_path)
    secret, _ = access.create()
    access.add_url(LOCAL)
    code = (
        "import sys\n"
        "if sys.argv[1] == 'late': import prefect.context\n"
        "from service.prefect_server import require_server\n"
        "require_server()\n"
        "from prefect.settings import PREFECT_API_AUTH_STRING\n"
        "print(PREFECT_API_AUTH_STRING.value())\n"
    )
    for moment in ("early", "late"):
        environment = {
            "PREFECT_API_URL": LOCAL, "PREFECT_HOME": str(tmp_path), "HOME": str(tmp_path),
            "PANELWORKS_CACHE_DIR": str(tmp_path),
        }  # fmt: skip
        done = subprocess.run(
            [sys.executable, "-c", code, moment],
            cwd=Path(__file__).parents[2], env=environment, capture_output=True, text=True, check=True,
        )  # fmt: skip
        assert done.stdout.strip() == secret


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.1"])  # noqa: S104 - it is to be refused
def test_a_server_for_other_machines_needs_a_chosen_auth_string(host: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "panelworks", "server", "--host", host],
        cwd=Path(__file__).parents[2], env={"HOME": str(tmp_path)}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 2
    assert "PREFECT_SERVER_API_AUTH_STRING" in done.stderr
    assert list(tmp_path.iterdir()) == []
