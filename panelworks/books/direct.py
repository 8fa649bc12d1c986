"""Books without a server: threads of this process compute the pages."""

import logging
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Self

from panelworks.books import pipeline
from panelworks.books.pages import compute
from panelworks.domain.books import BookRequest, BookResult, PageDone, PageToDo
from panelworks.errors import as_known_error
from panelworks.page.engine import Engine

logger = logging.getLogger(__name__)

Watcher = Callable[[int, int], None]
"""Called with the number of finished pages and the number of all pages."""


class ThreadPages:
    """Computes pages in a few threads: while the network runs, the next page is decoded and the previous one encoded."""

    def __init__(self, engine: Engine, watcher: Watcher = lambda done, count: None) -> None:
        self.window = 2 * engine.settings.book_threads
        self._engine, self._watcher = engine, watcher
        self._threads = ThreadPoolExecutor(engine.settings.book_threads, thread_name_prefix="page")
        self._done = self._count = 0

    def submit(self, todo: PageToDo, *, force: bool) -> "Future[PageDone]":
        return self._threads.submit(compute, self._engine, todo, force=force)

    def pages_found(self, count: int) -> None:
        self._done, self._count = 0, count
        self._watcher(0, count)

    def page_ended(self, page: PageDone) -> None:
        self._done += 1
        self._watcher(self._done, max(self._done, self._count))

    def must_release_device(self) -> bool:
        return False

    def release_device(self) -> None:
        """The device is not shared."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Cancel the pages that have not started, and wait for the others."""
        self._threads.shutdown(cancel_futures=True)


def enhance_book_directly(
    request: BookRequest, engine: Engine, watcher: Watcher = lambda done, count: None
) -> BookResult:
    """Process one book. Every failure becomes a result with an error."""
    try:
        with ThreadPages(engine, watcher) as pages:
            return pipeline.enhance_book(request, engine, pages)
    except Exception as error:
        if as_known_error(error) is None:
            logger.exception("book %s failed unexpectedly", request.source)
        return pipeline.failed(request, error, engine)
