"""The flow of a book with a stand-in for the processing of pages. The remaining work is that of Prefect and of the
book.

On one machine, processing pixels would slow down the server. In a real fleet it does not.
"""

import threading
import time
from typing import Final

from benchmarks.fleet.network import enhance_book
from panelworks.books import pages
from panelworks.domain.books import PageDone, PageToDo
from panelworks.page.engine import Engine
from tasks import enhance_book_page as task

__all__ = ["enhance_book"]

_DEVICE: Final = threading.Lock()
_COMPUTED: Final[list[PageDone]] = []
"""The first page of a process, which is computed. The others copy its record."""


def compute(engine: Engine, todo: PageToDo, *, force: bool = False) -> PageDone:
    """Take the seconds of the network."""
    with _DEVICE:
        if not _COMPUTED:
            _COMPUTED.append(pages.compute(engine, todo, force=force))
        upscale = next(step for step in todo.page.plan.steps if step.action == "upscale")
        time.sleep(float(upscale.config["seconds"]))
    own = {"index": todo.index, "name": todo.name, "source_sha256": todo.page.source.sha256}
    return _COMPUTED[0].model_copy(update=own | {"content_key": todo.page.content_key})


task.compute = compute  # type: ignore[attr-defined] # the name that the task calls
