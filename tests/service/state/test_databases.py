"""Copies of a Postgres, with the real programs."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from prefect.settings import PREFECT_API_DATABASE_CONNECTION_URL, temporary_settings
from sqlalchemy.engine import make_url

from panelworks.errors import Misconfigured
from panelworks.settings import Settings
from service.stack.database import Cluster, cluster_folder, find_programs
from service.stack.parts import Part
from service.state.databases import PostgresDatabase, open_source, open_target
from tests.servers import until

TABLES = """
CREATE TABLE alembic_version (version_num text);
INSERT INTO alembic_version VALUES ('abc');
CREATE TABLE concurrency_limit_v2 (name text, active_slots int);
INSERT INTO concurrency_limit_v2 VALUES ('gpu', 1);
CREATE TABLE concurrency_limit (active_slots json);
"""
SLOTS = "SELECT sum(active_slots) FROM concurrency_limit_v2"


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Settings]:
    """An installation without a named database; the clusters of root are not in its folder."""
    settings = Settings(cache_dir=tmp_path / "cache")
    with temporary_settings(
        {PREFECT_API_DATABASE_CONNECTION_URL: f"sqlite+aiosqlite:///{tmp_path}/prefect.db"}
    ):
        yield settings
    shutil.rmtree(cluster_folder(settings.cache_dir), ignore_errors=True)


def other(settings: Settings, name: str) -> Settings:
    return settings.model_copy(update={"cache_dir": settings.cache_dir / name})


def run(database: object, statement: str) -> str:
    assert isinstance(database, PostgresDatabase)
    return database._ask(statement)


def test_the_own_postgres_is_saved_and_loaded(place: Settings, tmp_path: Path) -> None:
    copy, target = tmp_path / "copy.sql", other(place, "restored")
    cluster = Cluster(cluster_folder(place.cache_dir))
    cluster.create()
    part = Part("postgres", cluster.command, {}, tmp_path / "logs", cluster.user)
    part.start()
    try:
        until(cluster.answers, 60)
        (tmp_path / "prefect.db").write_bytes(b"of an earlier installation")
        with open_source(place, None) as database:  # it runs, so it is the one in use
            run(database, TABLES)
            assert database.read_revision() == "abc"
            database.save(copy)
        assert part.running
    finally:
        part.stop()
        cluster.remove_socket_folder()
    with pytest.raises(Misconfigured, match="--database"), open_source(place, None):
        raise AssertionError
    (tmp_path / "prefect.db").unlink()
    with open_source(place, None) as database:
        assert run(database, SLOTS) == "1", "a stopped Postgres is started for the copy"
    try:
        with open_target(target, "postgres", create=False) as nothing:
            assert nothing is None
        assert not cluster_folder(target.cache_dir).exists()
        with open_target(target, "postgres", create=True) as restored:
            assert restored is not None
            restored.check_empty()
            damaged = tmp_path / "damaged.sql"
            damaged.write_text(copy.read_text() + "\nSELECT nonsense;\n")
            with pytest.raises(Misconfigured, match="nonsense"):
                restored.load(damaged)
            restored.check_empty()
            restored.load(copy)
            assert run(restored, SLOTS) == "0"
            with pytest.raises(Misconfigured, match="empty database"):
                restored.check_empty()
    finally:
        shutil.rmtree(cluster_folder(target.cache_dir), ignore_errors=True)


def test_an_error_shows_no_password() -> None:
    url = make_url("postgresql+asyncpg://user:hidden-word@127.0.0.1:9/none")
    with pytest.raises(Misconfigured, match="psql failed") as error:
        PostgresDatabase(url, find_programs()).read_revision()
    assert "hidden-word" not in error.value.message
