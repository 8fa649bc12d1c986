"""The pages of a book in Prefect: a task a page, one progress bar for all, and the device in turns."""

import logging
import time
from contextlib import ExitStack
from types import TracebackType
from typing import Final, Self

from prefect import Task

from orchestration.artifacts import ProgressArtifact
from orchestration.stage_tasks import RETRY_DELAYS_SECONDS, gpu_slot
from panelworks.books.pipeline import PendingPage
from panelworks.domain.books import PageDone, PageToDo
from panelworks.errors import Transient
from panelworks.settings import get_settings
from panelworks.text import escape_markdown

logger = logging.getLogger(__name__)

TURN_SECONDS: Final = 20.0
"""How long a book may hold the device while more urgent pages wait."""


class TaskPages:
    """Pages as task runs of the flow that runs. Implements `panelworks.books.pipeline.PageRunner`."""

    def __init__(self, book: str, task: Task[[PageToDo, bool], PageDone]) -> None:
        """`book` is its name, for people; `task` computes a page."""
        settings = get_settings()
        self.window = settings.book_threads + 1
        self._limited = settings.gpu_limit is not None
        self._book, self._task = book, task
        self._turn, self._has_turn = ExitStack(), False
        self._turn_began = self._began = time.monotonic()
        self._artifact: ProgressArtifact | None = None
        self._done = self._computed = self._count = 0

    def submit(self, todo: PageToDo, *, force: bool) -> PendingPage:
        if not self._has_turn:
            self._acquire_turn()
        return self._task.submit(todo, force)

    def _acquire_turn(self) -> None:
        """Wait for the device, with the retries of a task: this is the flow, which is not retried."""
        for delay in (*RETRY_DELAYS_SECONDS, None):
            try:
                self._turn.enter_context(gpu_slot())
                break
            except Transient as error:
                if delay is None:
                    raise
                logger.warning("the GPU slot is retried in %.0f s: %s", delay, error.message)
                time.sleep(delay)
        self._turn_began, self._has_turn = time.monotonic(), True

    def pages_found(self, count: int) -> None:
        self._count = count
        self._artifact = ProgressArtifact("pages", self._description())

    def page_ended(self, page: PageDone) -> None:
        self._done += 1
        self._computed += not page.cached
        if self._artifact is not None:
            share = self._done / max(1, self._count)
            self._artifact.update(share, self._description())

    def _description(self) -> str:
        progress = f"{escape_markdown(self._book)}: {self._done} of {self._count} pages"
        if not self._computed:
            return progress
        rate = self._computed / max(1e-3, time.monotonic() - self._began)
        left = max(0, self._count - self._done) / rate
        return f"{progress}, {rate:.2f} pages/s, {left / 60:.0f} min {left % 60:.0f} s left"

    def must_release_device(self) -> bool:
        return self._limited and self._has_turn and time.monotonic() - self._turn_began > TURN_SECONDS

    def release_device(self) -> None:
        """Release the slot; the next page acquires it again."""
        self._turn.close()
        self._has_turn = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._turn.close()
