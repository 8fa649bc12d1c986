"""Atomic writes: what a dead writer leaves is found by its name, and nothing else is removed."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from panelworks.page.engine import Engine
from panelworks.settings import Settings, get_settings
from panelworks.storage import atomic

HOUR = 3600


def name_of(pid: int, start: str | None = None, host: str | None = None, machine: str | None = None) -> str:
    parts = atomic.temporary_name().removeprefix(atomic.TEMPORARY_PREFIX).split("~")
    parts[2] = str(pid)
    given = {0: host, 1: machine, 3: start}
    parts = [given.get(index) or part for index, part in enumerate(parts)]
    return atomic.TEMPORARY_PREFIX + "~".join(parts)


def dead_pid() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


@pytest.mark.parametrize(
    ("name", "hours", "stays"),
    [
        (name_of(os.getpid()), 0, True),
        (name_of(os.getpid()), 48, True),  # a living writer may be slow
        (name_of(dead_pid()), 0, False),
        (name_of(os.getpid(), start="1"), 0, False),  # another process has its number now
        (name_of(dead_pid(), host="other"), 0, True),  # nobody can see from here whether it lives
        (name_of(dead_pid(), host="other"), 25, False),
        (name_of(os.getpid(), machine="00000000"), 0, True),  # a container with the same host name
        (name_of(os.getpid(), machine="00000000"), 25, False),
        (f".panelworks-host~{dead_pid()}~0123", 0, True),  # as an earlier version named them
        (f".panelworks-host~{dead_pid()}~0123", 25, False),
        (atomic.resumable_name("network.pth"), 1, True),
        (atomic.resumable_name("network.pth"), 25, False),
        ("page.png", 1000, True),
    ],
)
@pytest.mark.parametrize("kind", ["file", "folder"])
def test_a_sweep_removes_what_dead_writers_left(
    name: str, hours: int, stays: bool, kind: str, tmp_path: Path
) -> None:
    path = tmp_path / "deep" / name
    path.parent.mkdir()
    if kind == "file":
        path.write_bytes(b"half")
    else:
        path.mkdir()
    os.utime(path, (time.time() - hours * HOUR,) * 2)
    assert atomic.sweep(tmp_path, deep=False) == 0
    assert atomic.sweep(tmp_path) == (0 if stays else 1)
    assert path.exists() == stays


def test_a_zombie_is_dead(tmp_path: Path) -> None:
    script = "from panelworks.storage.atomic import temporary_name as t; print(t(), flush=True); import time; time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        path = tmp_path / process.stdout.readline().strip()
        path.write_bytes(b"half")
        assert atomic.sweep(tmp_path) == 0
        process.send_signal(signal.SIGKILL)
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert atomic.sweep(tmp_path) == 1


@pytest.mark.parametrize("error", [None, RuntimeError("stopped"), KeyboardInterrupt()])
def test_a_file_appears_whole_or_not_at_all(error: BaseException | None, tmp_path: Path) -> None:
    path = tmp_path / "new" / "file"
    try:
        with atomic.writing(path) as temporary:
            temporary.write_bytes(b"half")
            assert not path.exists()
            if error is not None:
                raise error
    except (RuntimeError, KeyboardInterrupt):
        pass
    assert [one.name for one in path.parent.iterdir()] == ([] if error else ["file"])


@pytest.mark.parametrize(
    "place",
    [
        "cache", "cache/models", "cache/openvino", "cache/spool", "store/objects/ab", "store/jobs", "out/upscaled",
        "ledger/_books", "ledger/day=2026-11-25", "elsewhere/shelf",
    ],
)  # fmt: skip
def test_tidying_reaches_every_place(place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("STORE", "LEDGER", "OUT"):
        monkeypatch.setenv(f"PANELWORKS_{variable}", str(tmp_path / variable.lower()))
    get_settings.cache_clear()
    left = tmp_path / place / name_of(dead_pid())
    left.parent.mkdir(parents=True)
    left.write_bytes(b"half")
    Engine(get_settings()).tidy(str(tmp_path / "elsewhere"))
    assert list(left.parent.iterdir()) == []


def test_places_in_a_bucket_are_left_alone(settings: Settings) -> None:
    Engine(settings).tidy("s3://bucket/prefix")
