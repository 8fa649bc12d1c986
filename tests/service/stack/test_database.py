"""The Postgres of `panelworks up --database postgres`, with the real programs."""

import asyncio
import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest

from panelworks.errors import Misconfigured
from service.stack import database
from service.stack.database import Cluster, cluster_folder, find_programs
from service.stack.parts import Part
from service.stack.plan import StackPlan
from tests.servers import until

URL = "PREFECT_SERVER_DATABASE_CONNECTION_URL"


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that another user can reach, unlike those of pytest, which each new pytest closes again."""
    with tempfile.TemporaryDirectory(prefix="panelworks-postgres-") as name:
        Path(name).chmod(0o711)
        yield Path(name)


@pytest.fixture
def cluster(folder: Path) -> Iterator[Cluster]:
    cluster = Cluster(folder / "cluster")
    cluster.create()
    yield cluster
    cluster.remove_socket_folder()


def started(cluster: Cluster, logs: Path) -> Part:
    part = Part("postgres", cluster.command, {}, logs, cluster.user)
    part.start()
    until(lambda: cluster.answers() or not part.running, 60)
    assert part.running, part.read_log_end()
    return part


async def ask(url: str, question: str, **login: str) -> object:
    connection = await asyncpg.connect(url.replace("postgresql+asyncpg", "postgresql"), **login)
    try:
        return await connection.fetchval(question)
    finally:
        await connection.close()


def test_it_keeps_its_records_and_lets_nobody_else_in(cluster: Cluster, folder: Path) -> None:
    part = started(cluster, folder / "logs")
    try:
        asyncio.run(ask(cluster.url, "CREATE TABLE kept AS SELECT 7 AS number"))
        with pytest.raises(asyncpg.InvalidPasswordError):
            asyncio.run(ask(cluster.url, "SELECT 1", password="guessed"))  # noqa: S106 - not one
        assert asyncio.run(ask(cluster.url, "SHOW listen_addresses")) == ""
        assert (folder / "cluster" / "password").stat().st_mode & 0o077 == 0
        assert (folder / "cluster").stat().st_mode & 0o077 == 0
        secret = cluster.url.split(":")[2].partition("@")[0]
        assert secret not in " ".join(cluster.command)
        if os.geteuid() == 0:
            assert Path(f"/proc/{part.pid}").owner() == "postgres"
    finally:
        part.stop()
    again = Cluster(folder / "cluster")
    again.create()
    part = started(again, folder / "logs")
    try:
        assert asyncio.run(ask(again.url, "SELECT number FROM kept")) == 7
    finally:
        part.stop()
        again.remove_socket_folder()


def test_a_cluster_whose_making_was_interrupted_is_made_again(cluster: Cluster, folder: Path) -> None:
    place = folder / "cluster"
    (place / "data").rename(place / "data.draft")
    (place / "data.draft" / "PG_VERSION").unlink()
    again = Cluster(place)
    again.create()
    again.remove_socket_folder()
    assert (place / "data" / "PG_VERSION").exists()
    assert not (place / "data.draft").exists()


def test_data_of_another_version_is_left_alone(cluster: Cluster, folder: Path) -> None:
    (folder / "cluster" / "data" / "PG_VERSION").write_text("9\n")
    with pytest.raises(Misconfigured, match="created by Postgres 9"):
        Cluster(folder / "cluster").create()


def test_missing_programs_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(database, "_PROGRAM_FOLDERS", (str(tmp_path),))
    with pytest.raises(Misconfigured, match="not installed"):
        find_programs()


def test_programs_are_found_off_the_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert subprocess.run([find_programs() / "initdb", "--version"], check=False).returncode == 0


def test_clusters_differ_by_cache_folder(tmp_path: Path) -> None:
    assert cluster_folder(tmp_path / "a") != cluster_folder(tmp_path / "b")


@pytest.mark.parametrize(
    ("chosen", "existing_api_url", "environment", "starts", "sqlite"),
    [
        ("sqlite", None, {}, False, True),
        ("postgres", None, {}, True, True),
        ("postgres", None, {URL: "postgresql+asyncpg://u:p@db/prefect"}, False, False),
        ("postgres", None, {"PREFECT_API_DATABASE_CONNECTION_URL": "sqlite+aiosqlite:///x"}, False, True),
        ("postgres", "http://prefect:4200/api", {}, False, False),
    ],
)
def test_an_address_that_the_user_named_is_respected(
    chosen: database.Database,
    existing_api_url: str | None,
    environment: dict[str, str],
    starts: bool,
    sqlite: bool,
) -> None:
    plan = StackPlan("127.0.0.1", 1, 2, 1, None, existing_api_url, database=chosen)
    assert plan.starts_postgres(environment) is starts
    assert plan.uses_sqlite(environment) is sqlite
