"""Runs the pages of a book in Prefect: one task for each page, one progress bar, and a time limit for the device."""

import logging
import time
from contextlib import ExitStack
from types import TracebackType
from typing import Final, Self

from prefect import Task

from orchestration.artifacts import ProgressArtifact
from orchestration.device import QUEUE_POLL_SECONDS, gpu_slot
from orchestration.events import BOOK_PROGRESS, emit_run_progress
from orchestration.stage_tasks import RETRY_DELAYS_SECONDS
from panelworks.books.pipeline import PendingPage
from panelworks.domain.books import PageDone, PageToDo
from panelworks.errors import Transient
from panelworks.settings import get_settings
from panelworks.text import escape_markdown

logger = logging.getLogger(__name__)

DEVICE_HOLD_SECONDS: Final = 20.0
"""Time after which a book releases the device, so that waiting pages can acquire it."""


class TaskPages:
    """Runs pages as task runs of the current flow. Implements `panelworks.books.pipeline.PageRunner`."""

    def __init__(self, book: str, task: Task[[PageToDo, bool], PageDone]) -> None:
        """`book` is the book's name for display; `task` computes a page."""
        settings = get_settings()
        self.window = settings.book_threads + 1
        self._limited = settings.gpu_limit is not None
        self._book, self._task = book, task
        self._slot, self._has_slot = ExitStack(), False
        self._slot_acquired_at = self._began = time.monotonic()
        self._artifact: ProgressArtifact | None = None
        self._done = self._computed = self._count = 0

    def submit(self, todo: PageToDo, *, force: bool) -> PendingPage:
        if not self._has_slot:
            self._acquire_device()
        return self._task.submit(todo, force)

    def _acquire_device(self) -> None:
        """Acquire the GPU slot. It retries with the delays of a task, because the flow itself is not retried."""
        for delay in (*RETRY_DELAYS_SECONDS, None):
            try:
                self._slot.enter_context(gpu_slot())
                break
            except Transient as error:
                if delay is None:
                    raise
                logger.warning("GPU slot not acquired, retry in %.0f s: %s", delay, error.message)
                time.sleep(delay)
        self._slot_acquired_at, self._has_slot = time.monotonic(), True

    def pages_found(self, count: int) -> None:
        self._count = count
        self._artifact = ProgressArtifact("pages", self._description())

    def page_ended(self, page: PageDone) -> None:
        self._done += 1
        self._computed += not page.cached
        if self._artifact is not None:
            share, text = self._done / max(1, self._count), self._description()
            if self._artifact.show(share, text):
                emit_run_progress(BOOK_PROGRESS, share, text)

    def _description(self) -> str:
        progress = f"{escape_markdown(self._book)}: {self._done} of {self._count} pages"
        if not self._computed:
            return progress
        rate = self._computed / max(1e-3, time.monotonic() - self._began)
        left = max(0, self._count - self._done) / rate
        return f"{progress}, {rate:.2f} pages/s, {left / 60:.0f} min {left % 60:.0f} s left"

    def must_release_device(self) -> bool:
        return (
            self._limited
            and self._has_slot
            and time.monotonic() - self._slot_acquired_at > DEVICE_HOLD_SECONDS
        )

    def release_device(self) -> None:
        """Release the slot; the next page acquires it again, after those that wait."""
        self._slot.close()
        if self._limited and self._has_slot:
            time.sleep(2 * QUEUE_POLL_SECONDS)
        self._has_slot = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._slot.close()
