"""SIGKILL at random moments of a book: the next run goes on, and nothing tells that it ever happened."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from random import Random

from panelworks.books.backfill import request_of
from panelworks.books.options import BookOptions
from panelworks.books.records import BookRequest
from panelworks.ledger import Ledger
from panelworks.settings import Settings
from panelworks.store.local import LocalFolder
from tests.books import write_book

_KILLS = 20
_ROOT = Path(__file__).parents[3]


class Runner:
    """Runs of one book in processes that may be killed."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def run(self, request: BookRequest, cache: Path, kill_after: float | None = None) -> tuple[int, float]:
        """The exit code of a run and the seconds it took; killed after a time, unless it was faster."""
        assert self._process.stdin
        assert self._process.stdout
        order = {"request": request.model_dump(mode="json"), "cache": str(cache)}
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        child, began = int(self._process.stdout.readline()), time.monotonic()
        if kill_after is not None:
            time.sleep(kill_after)
            with suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        return int(self._process.stdout.readline()), time.monotonic() - began


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


def test_a_book_killed_at_twenty_moments_is_as_if_it_never_was(tmp_path: Path, settings: Settings) -> None:
    random = Random(20261121)
    source = write_book(tmp_path / "book.cbz", 8, extras={"ComicInfo.xml": b"<ComicInfo/>"})

    def request(name: str) -> BookRequest:
        out = tmp_path / name / "book.cbz"
        return request_of(str(source), str(out), BookOptions(), settings, "run", force=False)

    killed = 0
    with runner() as runs:
        code, seconds = runs.run(request("whole"), tmp_path / "cache")
        assert code == 0
        whole = (tmp_path / "whole" / "book.cbz").read_bytes()
        for number in range(_KILLS):
            cache, name = tmp_path / f"cache-{number}", f"out-{number}"
            code, _ = runs.run(request(name), cache, kill_after=random.uniform(0.0, seconds))
            killed += code == -signal.SIGKILL
            code, _ = runs.run(request(name), cache)
            assert code == 0
            assert [path.name for path in (tmp_path / name).iterdir()] == ["book.cbz"]
            assert (tmp_path / name / "book.cbz").read_bytes() == whole
            rows = Ledger(LocalFolder(cache / "ledger")).read()
            assert rows["page_number"].tolist() == list(range(8))
            assert not [path for path in cache.rglob(".panelworks-*") if path.is_file()]
    assert killed >= _KILLS // 2, f"only {killed} runs were killed before they ended"
