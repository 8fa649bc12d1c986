"""SIGKILL at every kind of step of a book: the next run continues, and leaves nothing of the killed one."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from panelworks.accounting.ledger import Ledger
from panelworks.books.backfill import request_of
from panelworks.domain.books import BookOptions, BookRequest
from panelworks.settings import Settings
from panelworks.storage.local import LocalFolder
from tests.books import write_book

_KILLS = 20
_MAX_UNKILLED = 2
_PAGES = 2
_LAST_STEPS = 8
"""Writing and renaming the book, its ledger file and its register entry, and what goes just before."""
_ROOT = Path(__file__).parents[3]


class Runner:
    """Runs of one book in processes that may be killed."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def run(
        self, request: BookRequest, cache: Path, kill_at: int | None = None, *, after: bool = False
    ) -> tuple[int, int]:
        """The exit code of a run and the number of its steps; killed at a step, before or after it is taken."""
        assert self._process.stdin
        assert self._process.stdout
        order = {"request": request.model_dump(mode="json"), "cache": str(cache)}
        self._process.stdin.write(json.dumps(order | {"kill_at": kill_at, "after": after}) + "\n")
        self._process.stdin.flush()
        code, steps = self._process.stdout.readline().split()
        return int(code), int(steps)


@contextmanager
def runner() -> Iterator[Runner]:
    environment = dict(os.environ) | {"LOG_LEVEL": "ERROR"}
    command = [sys.executable, "-m", "tests.panelworks.books.forking"]
    with subprocess.Popen(
        command, env=environment, cwd=_ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        yield Runner(process)
        assert process.stdin
        process.stdin.close()


def _kill_points(steps: int) -> list[tuple[int, bool]]:
    """(step, after it): the last steps both ways, and as many of the others as are left, evenly spread."""
    last = [(step, after) for step in range(steps - _LAST_STEPS + 1, steps + 1) for after in (False, True)]
    others = _KILLS - len(last) + 1  # nothing follows the last step
    spread = [(1 + (steps - _LAST_STEPS - 1) * n // (others - 1), n % 2 == 1) for n in range(others)]
    return spread + last[:-1]


def test_a_book_killed_at_twenty_steps_leaves_nothing_behind(tmp_path: Path, settings: Settings) -> None:
    source = write_book(tmp_path / "book.cbz", _PAGES, extras={"ComicInfo.xml": b"<ComicInfo/>"})

    def request(name: str) -> BookRequest:
        out = tmp_path / name / "book.cbz"
        return request_of(str(source), str(out), BookOptions(), settings, "run", force=False)

    with runner() as runs:
        code, steps = runs.run(request("whole"), tmp_path / "cache")
        assert code == 0
        whole = (tmp_path / "whole" / "book.cbz").read_bytes()
        points = _kill_points(steps)
        assert len(set(points)) == _KILLS
        unkilled = 0
        for number, (step, after) in enumerate(points):
            cache, name = tmp_path / f"cache-{number}", f"out-{number}"
            code, taken = runs.run(request(name), cache, kill_at=step, after=after)
            if code == 0 and taken <= step:  # threads can save a step: then nothing follows the last one
                unkilled += 1
            else:
                assert code == -signal.SIGKILL, (step, after, steps, taken)
            code, _ = runs.run(request(name), cache)
            assert code == 0
            assert [path.name for path in (tmp_path / name).iterdir()] == ["book.cbz"]
            assert (tmp_path / name / "book.cbz").read_bytes() == whole
            rows = Ledger(LocalFolder(cache / "ledger")).read()
            assert rows["page_number"].tolist() == list(range(_PAGES))
            left = [path for path in cache.rglob(".panelworks-*") if path.parent.name != "spool"]
            assert not left, (step, after)
        assert unkilled <= _MAX_UNKILLED
