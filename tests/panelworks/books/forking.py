"""A process that runs books in children of its own, each ready at once, so that a test can kill many of them.

For each line of standard input, an order as JSON, it forks a child that does the book, waits for it, and prints how it
ended and how many steps it took. A step is the opening of a file for writing or a rename, as Python's audit events
report them. A child may be ordered to kill itself at its n-th step: right before it, or right after it.
"""

import json
import os
import signal
import sys
import threading
from pathlib import Path

from panelworks.books.direct import enhance_book_directly
from panelworks.domain.books import BookRequest
from panelworks.page.engine import Engine
from panelworks.settings import get_settings

_WRITING = os.O_WRONLY | os.O_RDWR


class Steps:
    """Counts the steps of this process in the file `count`, and kills it at one of them."""

    def __init__(self, roots: list[str], count: Path, kill_at: int | None, *, after: bool) -> None:
        self._roots, self._count, self._kill_at, self._after = tuple(roots), count, kill_at, after
        self._lock, self._done = threading.Lock(), 0

    def __call__(self, event: str, arguments: tuple[object, ...]) -> None:
        if self._done == self._kill_at and self._after and event in ("open", "os.rename", "os.scandir"):
            os.kill(os.getpid(), signal.SIGKILL)
        if not self._is_step(event, arguments):
            return
        with self._lock:
            self._done += 1
            if self._done == self._kill_at and not self._after:
                os.kill(os.getpid(), signal.SIGKILL)

    def _is_step(self, event: str, arguments: tuple[object, ...]) -> bool:
        if event == "os.rename":
            return str(arguments[1]).startswith(self._roots)
        if event != "open" or not isinstance(arguments[2], int) or not arguments[2] & _WRITING:
            return False
        return str(arguments[0]).startswith(self._roots)

    def write(self) -> None:
        self._count.write_text(str(self._done))


def main() -> None:
    for line in sys.stdin:
        order = json.loads(line)
        count = Path(order["cache"]).with_suffix(".steps")
        child = os.fork()
        if not child:
            _work(order, count)
        _, status = os.waitpid(child, 0)
        steps = count.read_text() if count.exists() else "0"
        count.unlink(missing_ok=True)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(status)} {steps}\n")
        sys.stdout.flush()


def _work(order: dict[str, object], count: Path) -> None:
    request = BookRequest.model_validate(order["request"])
    os.environ["PANELWORKS_CACHE_DIR"] = str(order["cache"])
    kill_at = order["kill_at"]
    roots = [str(order["cache"]), str(Path(request.out).parent)]
    steps = Steps(roots, count, kill_at if isinstance(kill_at, int) else None, after=bool(order["after"]))
    engine = Engine(get_settings())
    engine.tidy(str(Path(request.out).parent))
    sys.addaudithook(steps)
    result = enhance_book_directly(request, engine)
    steps.write()
    os._exit(0 if result.status == "success" else 1)


if __name__ == "__main__":
    main()
