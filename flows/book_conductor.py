"""The Prefect conductor of a book: a task a page, one progress for all, turns at the device."""

import logging
import time
from contextlib import ExitStack
from types import TracebackType
from typing import Final, Self
from uuid import UUID

import httpx
from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.exceptions import PrefectException

from panelworks.books.pipeline import PendingPage
from panelworks.domain.books import PageDone, PageToDo
from panelworks.errors import Transient
from panelworks.settings import get_settings
from panelworks.text import escape_markdown
from tasks.enhance_book_page import enhance_book_page
from tasks.gpu_slot import gpu_slot
from tasks.stage import RETRY_DELAYS

logger = logging.getLogger(__name__)

_SERVER_AWAY: Final = (httpx.HTTPError, PrefectException)
_TURN_SECONDS: Final = 20.0
"""How long a book keeps the device from a page that is more urgent."""
_LEAST_SECONDS: Final = 1.0
"""Between two updates of the progress: each is a request to the server."""


class TaskConductor:
    """Pages as task runs of the flow that is running, a few at a time."""

    def __init__(self, name: str) -> None:
        """`name` of the book, for people."""
        settings = get_settings()
        self.window = settings.book_threads + 1
        self._limited = settings.gpu_limit is not None
        self._name = name
        self._turn, self._has_turn = ExitStack(), False
        self._turn_began = self._shown = time.monotonic()
        self._began = time.monotonic()
        self._artifact: UUID | None = None
        self._done = self._fresh = self._count = 0

    def submit(self, todo: PageToDo, *, force: bool) -> PendingPage:
        if not self._has_turn:
            self._take_turn()
        return enhance_book_page.submit(todo, force)

    def _take_turn(self) -> None:
        """Wait for the device; the retries are those that tasks have, since here is the flow itself."""
        for pause in (*RETRY_DELAYS, None):
            try:
                self._turn.enter_context(gpu_slot())
                break
            except Transient as error:
                if pause is None:
                    raise
                logger.warning("%s Asked again in %.0f s.", error.message, pause)
                time.sleep(pause)
        self._turn_began, self._has_turn = time.monotonic(), True

    def pages_found(self, count: int) -> None:
        self._count = count
        try:
            artifact = create_progress_artifact(0.0, key="pages", description=self._description())
            self._artifact = artifact if isinstance(artifact, UUID) else None
        except _SERVER_AWAY as error:
            logger.warning("no progress is shown (%s)", type(error).__name__)

    def page_ended(self, page: PageDone) -> None:
        self._done += 1
        self._fresh += not page.cached
        now = time.monotonic()
        if self._artifact is None or (self._done < self._count and now - self._shown < _LEAST_SECONDS):
            return
        self._shown = now
        share = min(100.0, round(100 * self._done / max(1, self._count), 1))
        try:
            update_progress_artifact(self._artifact, progress=share, description=self._description())
        except _SERVER_AWAY as error:
            logger.warning("progress is not shown (%s)", type(error).__name__)

    def _description(self) -> str:
        rate = self._fresh / max(1e-3, time.monotonic() - self._began)
        progress = f"{escape_markdown(self._name)}: {self._done} of {self._count} pages"
        if not self._fresh:
            return progress
        left = max(0, self._count - self._done) / rate
        return f"{progress}, {rate:.2f} pages/s, {left / 60:.0f} min {left % 60:.0f} s left"

    def stop_for_others(self) -> bool:
        return self._limited and self._has_turn and time.monotonic() - self._turn_began > _TURN_SECONDS

    def release(self) -> None:
        """Give the device back; the next page queues for it anew."""
        self._turn.close()
        self._has_turn = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._turn.close()
