"""What a run tells the world: the events `comic.panel.progress`, `.enhanced` and `.failed`.

The job is announced by whoever conducts it; stages find it in the context, so that they need not pass
it on. Outside of an announced job nothing is told.
"""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final

from prefect import runtime
from prefect.events import emit_event

from panelworks.domain.request import PageRequest
from panelworks.domain.result import PageResult
from panelworks.progress import Progress, StageName, ignore_progress, page_percent

logger = logging.getLogger(__name__)

PROGRESS: Final = "comic.panel.progress"
ENHANCED: Final = "comic.panel.enhanced"
FAILED: Final = "comic.panel.failed"
CALLBACK_ID: Final = "callback_id"
"""Field of an event that says which callback the gateway is to deliver."""
_LEAST_SECONDS: Final = 0.2
"""Between two reports of tiles: each is an event that the server keeps."""

_job: ContextVar[PageRequest | None] = ContextVar("announced_job", default=None)


@contextmanager
def announcing(request: PageRequest) -> Iterator[None]:
    """For a block, what stages report is told under this job."""
    token = _job.set(request)
    try:
        yield
    finally:
        _job.reset(token)


@contextmanager
def announced(stage: StageName) -> Iterator[Progress]:
    """Tell that a stage begins and ends; gives the progress to report in between."""
    report = _reporter(stage)
    report(0.0)
    yield report
    report(1.0)


def announce_end(
    request: PageRequest, result: PageResult, *, callback_id: str | None = None, **more: Any
) -> None:
    """Emit how a job ended, with its whole result; `callback_id` names the callback that was recorded for it."""
    _emit(
        request,
        ENHANCED if result.status == "success" else FAILED,
        {
            "comic_id": request.origin.comic_id,
            "panel_id": request.origin.panel_id,
            "tool": request.origin.tool,
            "metadata": request.origin.metadata,
            "result": result.model_dump(mode="json"),
            **({} if callback_id is None else {CALLBACK_ID: callback_id}),
            **more,
        },
    )


def _reporter(stage: StageName) -> Progress:
    request = _job.get()
    if request is None:
        return ignore_progress
    told = -1.0

    def report(share: float) -> None:
        nonlocal told
        now = time.monotonic()
        if 0 < share < 1 and now - told < _LEAST_SECONDS:
            return
        told = now
        _emit(
            request,
            PROGRESS,
            {"stage": stage, "stage_percent": round(100 * share, 1), "percent": page_percent(stage, share)},
        )

    return report


def _emit(request: PageRequest, event: str, payload: dict[str, Any]) -> None:
    """Queue an event; the page goes on whether it can be told or not."""
    run = runtime.flow_run.root_flow_run_id or runtime.flow_run.id
    try:
        emit_event(
            event,
            resource={
                "prefect.resource.id": f"comic.job.{request.job_id}",
                "comic.job-id": request.job_id,
                "comic.flow-run-id": str(run),
            },
            payload={
                "job_id": request.job_id,
                "owner": request.origin.owner,
                "flow_run_id": str(run),
                **payload,
            },
        )
    except Exception as error:  # noqa: BLE001 - an event that cannot be told must not cost the page
        logger.warning(
            "the event %s of job %s was not sent (%s)", event, request.job_id, type(error).__name__
        )
