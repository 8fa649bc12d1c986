"""Backups: what they contain, in which order it is copied, and what happens to incomplete ones."""

import json
import sqlite3
import tarfile
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import prefect
import pytest
from prefect.settings import PREFECT_API_DATABASE_CONNECTION_URL, temporary_settings

from panelworks.domain.request import JobKey, Origin, PageRequest
from panelworks.domain.result import PageResult
from panelworks.domain.treatment import Treatment
from panelworks.errors import Misconfigured
from panelworks.page.admission import AcceptedJob
from panelworks.page.engine import Engine
from panelworks.page.series import SeriesRule
from panelworks.settings import Settings
from panelworks.sources.stored import stored_source
from panelworks.version import __version__
from service.prefect_server import ServerAccess
from service.stack.database import Database
from service.state import backup_file
from service.state.backup import Backup, write_backup
from service.state.backup_file import read_members
from service.state.databases import SQLiteDatabase, open_source
from service.state.restore import check_backup, restore_backup
from tests.servers import copy_prepared_database

KEY = "PREFECT_SERVER_ENCRYPTION_KEY"
CALLBACK = "https://example.com/hook"


class FakeDatabase:
    """A database of one row whose copy can be interrupted."""

    kind: Database = "sqlite"

    def __init__(self, meanwhile: Callable[[], None] = lambda: None) -> None:
        self._meanwhile = meanwhile
        self.loaded: bytes | None = None

    def save(self, path: Path) -> None:
        path.write_bytes(b"rows")
        self._meanwhile()

    def read_revision(self) -> str:
        return "27d8f4e1a6c9"

    def check_empty(self) -> None: ...

    def load(self, path: Path) -> None: ...


def silent(line: str) -> None: ...


def back_up(folder: Path, settings: Settings, *, pictures: bool = False) -> Backup:
    return write_backup(folder / "backups", FakeDatabase(), settings, silent, pictures=pictures)


def moved(settings: Settings, folder: Path) -> Settings:
    """The settings of another installation."""
    return settings.model_copy(update={"cache_dir": folder / "cache"})


def accept(engine: Engine, job_id: str, content: bytes = b"") -> PageRequest:
    """Accept a job, with an upload if it has content."""
    source = "https://example.com/page.png"
    if content:
        source = stored_source(engine.store.put(content, "image/png", (1, 1)).sha256, "png", f"{job_id}.png")
    request = PageRequest(source=source, out="out", job_id=job_id, origin=Origin(callback=CALLBACK))
    engine.accepted.accept(AcceptedJob(request=request, queue="events", accepted_at=datetime.now(UTC)))
    return request


def finish(engine: Engine, request: PageRequest) -> str:
    """Do what a run does at its end; returns the id of the callback."""
    result = PageResult(job_id=request.job_id, status="success")
    callback = engine.callbacks.record(request, result, "run")
    engine.jobs.store(request, result)
    engine.ledger.append(request, result)
    assert callback
    return callback


def use_database(path: Path) -> Any:
    """Make a file the database of Prefect's settings during a block."""
    return temporary_settings({PREFECT_API_DATABASE_CONNECTION_URL: f"sqlite+aiosqlite:///{path}"})


def ask(path: Path, question: str) -> Any:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(question).fetchall()


def test_all_that_was_backed_up_is_restored(engine: Engine, settings: Settings, tmp_path: Path) -> None:
    home, target = tmp_path / "home", tmp_path / "elsewhere" / "prefect.db"
    copy_prepared_database(home)
    with closing(sqlite3.connect(home / "prefect.db")) as connection:
        connection.execute(
            'INSERT INTO concurrency_limit_v2 (id, name, "limit", active_slots, active, slot_decay_per_second,'
            " denied_slots, avg_slot_occupancy_seconds) VALUES ('1', 'gpu', 1, 1, 1, 0, 0, 2)"
        )
        connection.commit()
    finish(engine, accept(engine, "done", b"done"))
    accept(engine, "waiting", b"waiting")
    (settings.cache_dir / "ledger" / "_books").mkdir()
    (settings.cache_dir / "ledger" / "_books" / "book.json").write_text("{}")
    decision = Path("store") / "reviews" / "decided" / "decision.json"
    (settings.cache_dir / decision).parent.mkdir(parents=True)
    (settings.cache_dir / decision).write_text("{}")
    rule = SeriesRule(owner="studio", series="akira", treatment=Treatment(scale=3), set_by="editor")
    engine.series.store(rule)
    secret, _ = ServerAccess(settings.cache_dir).create()
    with use_database(home / "prefect.db"), open_source(settings, None) as database:
        backup = write_backup(tmp_path / "backups", database, settings, silent)
    assert backup.path.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in (tmp_path / "backups").iterdir()] == [backup.path.name]

    other = moved(settings, tmp_path / "other")
    with use_database(target):
        check_backup(backup.path, other, silent)
        assert not other.cache_dir.exists(), "a check writes nothing"
        restored = restore_backup(backup.path, other, silent)
    assert restored.kept == 0
    assert target.stat().st_mode & 0o777 == 0o600
    assert ask(target, "SELECT name, active_slots FROM concurrency_limit_v2") == [("gpu", 0)]
    assert ServerAccess(other.cache_dir).read() == secret
    restored_engine = Engine(other)
    assert restored_engine.ledger.read().equals(engine.ledger.read())
    assert (other.cache_dir / "ledger" / "_books" / "book.json").exists()
    assert (other.cache_dir / decision).exists(), "who decided on a page"
    assert restored_engine.series.all_rules() == [rule]
    assert restored_engine.jobs.job(JobKey(None, "done")) == engine.jobs.job(JobKey(None, "done"))
    assert list(restored_engine.callbacks.pending()) == list(engine.callbacks.pending()) != []
    assert {job.request.job_id for job in restored_engine.accepted.pending()} == {"waiting", "done"}
    pictures = [path.read_bytes() for path in (other.cache_dir / "store" / "objects").rglob("*.png")]
    assert pictures == [b"waiting"], "only the uploads of unfinished jobs are in the backup"


def test_all_pictures_are_included_on_request(engine: Engine, settings: Settings, tmp_path: Path) -> None:
    finish(engine, accept(engine, "done", b"done"))
    backup = back_up(tmp_path, settings, pictures=True)
    assert backup.manifest.count("store/objects/") == 1


def test_a_job_that_begins_or_ends_during_the_backup_is_not_lost(
    engine: Engine, settings: Settings, tmp_path: Path
) -> None:
    """A run of the copy must have what it recorded at its end; a job must not have a run that the copy lacks."""
    ends = accept(engine, "ends")
    engine.accepted.claim(ends.key, "run")
    callbacks: list[str] = []

    def change() -> None:
        later = accept(engine, "begins")
        engine.accepted.settle(engine.accepted.find(later.key), "later run")  # type: ignore[arg-type] # it exists
        engine.accepted.claim(later.key, "later run")
        callbacks.append(finish(engine, ends))

    backup = write_backup(tmp_path / "backups", FakeDatabase(change), settings, silent)
    jobs = [
        json.loads(file.read())["request"]["job_id"]
        for name, file in read_members(backup.path)
        if name.startswith("store/accepted/")
    ]
    assert jobs == ["ends"]
    assert backup.manifest.count("store/claims/") == 1
    assert f"store/callbacks/pending/{callbacks[0]}.json" in backup.manifest.members
    assert backup.manifest.count("store/jobs/") == backup.manifest.count("ledger/day=") == 1


def test_an_interrupted_backup_leaves_nothing(engine: Engine, settings: Settings, tmp_path: Path) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_backup(tmp_path / "backups", FakeDatabase(interrupt), settings, silent)
    assert list((tmp_path / "backups").iterdir()) == []


@pytest.mark.parametrize("damage", ["cut", "cut at a member", "changed", "no backup"])
def test_a_damaged_file_is_refused(engine: Engine, settings: Settings, tmp_path: Path, damage: str) -> None:
    accept(engine, "waiting")
    path = back_up(tmp_path, settings).path
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-100])
    elif damage == "no backup":
        path.write_bytes(b"no backup")
    else:
        _rewrite(path, without="manifest.json" if damage == "cut at a member" else "", changed="database")
    with pytest.raises(Misconfigured, match=r"manifest|damaged") as error:
        restore_backup(path, moved(settings, tmp_path / "other"), silent)
    assert error.value.code == "bad_backup"
    assert not (tmp_path / "other").exists()


def _rewrite(path: Path, without: str, changed: str) -> None:
    members = {name: file.read() for name, file in read_members(path) if name != without}
    members[changed] = b"rowz"
    with backup_file.writing_backup(path.with_suffix(".new")) as writer:
        for name, data in members.items():
            writer.add(name, data)
    path.with_suffix(".new").replace(path)


def test_a_database_with_contents_is_not_replaced(engine: Engine, settings: Settings, tmp_path: Path) -> None:
    accept(engine, "waiting")
    path = back_up(tmp_path, settings).path
    database, other = tmp_path / "prefect.db", moved(settings, tmp_path / "other")
    database.write_bytes(b"in use")
    with use_database(database), pytest.raises(Misconfigured, match="empty database") as error:
        restore_backup(path, other, silent)
    assert error.value.code == "database_not_empty"
    assert database.read_bytes() == b"in use"
    assert not (other.cache_dir / "store").exists()


def test_a_leftover_log_of_another_database_is_not_applied(tmp_path: Path) -> None:
    (tmp_path / "prefect.db-wal").write_bytes(b"changes of another database")
    with pytest.raises(Misconfigured, match=r"prefect\.db-wal"):
        SQLiteDatabase(tmp_path / "prefect.db").check_empty()


def test_an_interrupted_restore_can_be_repeated(
    engine: Engine, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy_prepared_database(tmp_path / "home")
    accept(engine, "waiting")
    database, target = SQLiteDatabase(tmp_path / "home" / "prefect.db"), tmp_path / "prefect.db"
    path = write_backup(tmp_path / "backups", database, settings, silent).path
    other = moved(settings, tmp_path / "other")

    def interrupt(self: SQLiteDatabase, path: Path) -> None:
        raise KeyboardInterrupt

    with use_database(target):
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(SQLiteDatabase, "load", interrupt)
            restore_backup(path, other, silent)
        assert not target.exists()
        restored = restore_backup(path, other, silent)
    assert (restored.written, restored.kept) == (0, 1)
    assert target.exists()
    assert [path.name for path in other.cache_dir.iterdir() if path.name.startswith(".")] == []


@pytest.mark.parametrize(
    ("fields", "code", "message"),
    [
        ({"format": 99, "panelworks": "9.0", "new": 1}, "newer_backup", "9.0"),
        ({"schema_revision": "0123456789ab", "prefect": "9.0"}, "newer_database", "Prefect 9.0"),
        ({"key_digest": "0123456789abcdef"}, "other_key", f"set {KEY}"),
        ({"database": "postgres", "schema_revision": "91e2b8f3d6a4"}, "other_database", "is of postgres"),
    ],
)
def test_a_backup_that_does_not_fit_is_explained(
    engine: Engine,
    settings: Settings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    fields: dict[str, Any],
    code: str,
    message: str,
) -> None:
    original = backup_file.Manifest.model_dump_json
    backup = back_up(tmp_path, settings)
    changed = json.dumps(json.loads(original(backup.manifest)) | fields).encode()
    members = {name: file.read() for name, file in read_members(backup.path)} | {"manifest.json": changed}
    with tarfile.open(backup.path, "w:gz") as tar:
        writer = backup_file.BackupWriter(tar)
        for name, data in members.items():
            writer.add(name, data)
    monkeypatch.setenv("PREFECT_SERVER_DATABASE_CONNECTION_URL", f"sqlite+aiosqlite:///{tmp_path}/prefect.db")
    with use_database(tmp_path / "prefect.db"), pytest.raises(Misconfigured, match=message) as error:
        check_backup(backup.path, moved(settings, tmp_path / "other"), silent)
    assert error.value.code == code


def test_the_key_of_the_environment_is_named(
    engine: Engine, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = back_up(tmp_path, settings).path
    monkeypatch.setenv(KEY, "a key")
    with use_database(tmp_path / "prefect.db"), pytest.raises(Misconfigured, match=f"unset {KEY}"):
        check_backup(path, settings, silent)
    backup = write_backup(tmp_path / "with-key", FakeDatabase(), settings, silent)
    assert b"a key" not in backup.path.read_bytes()
    with use_database(tmp_path / "prefect.db"):
        manifest = check_backup(backup.path, settings, silent)
    assert (manifest.panelworks, manifest.prefect) == (__version__, prefect.__version__)


def test_a_missing_database_is_no_empty_backup(settings: Settings, tmp_path: Path) -> None:
    with (
        use_database(tmp_path / "none.db"),
        pytest.raises(Misconfigured, match="no database"),
        open_source(settings, None),
    ):
        raise AssertionError
