"""Every book of an archive that is not done yet."""

from datetime import datetime
from typing import Annotated, Any

from prefect import flow, get_run_logger, runtime
from prefect.client.schemas.objects import FlowRun, State
from prefect.flows import Flow
from pydantic import Field

from flows.enhance_book import enhance_book
from orchestration.artifacts import show_backfill
from orchestration.book_runs import BookRuns, cancel_waiting
from orchestration.s3_blocks import begin_run
from panelworks.accounting.budget import Budget
from panelworks.books.backfill import (
    Backfill,
    Limits,
    Window,
    check_free_space,
    done_before,
    requests_of,
    skipped_entries_of,
)
from panelworks.domain.books import BackfillSummary, BookOptions, BookRequest
from panelworks.page.direct import new_job_id
from panelworks.page.engine import get_engine
from panelworks.settings import get_settings
from panelworks.storage import check_places
from panelworks.text import to_printable


def name_run() -> str:
    """The name of a run in the UI: the archive."""
    parameters: dict[str, Any] = runtime.flow_run.parameters
    return str(parameters["archive"])


def cancel_books(flow: Flow[Any, Any], flow_run: FlowRun, state: State[Any]) -> None:
    """State hook: cancel the books that have not begun; books that run are finished."""
    cancel_waiting(str(flow_run.id))


@flow(
    name="backfill",
    flow_run_name=name_run,
    description="Enhance every book of an archive that is not done yet.",
    result_serializer="json",
    on_cancellation=[cancel_books],
    on_crashed=[cancel_books],
)
def backfill(
    archive: Annotated[str, Field(min_length=1)],
    out: Annotated[str, Field(min_length=1)],
    options: BookOptions = BookOptions(),  # noqa: B008 - frozen, and the UI's form shows it
    at_most_waiting: Annotated[int, Field(ge=1, le=100)] = 20,
    until: str | None = None,
    budget: Annotated[float | None, Field(gt=0)] = None,
    force: bool = False,
    here: bool = False,
) -> BackfillSummary:
    """Enhance an archive of books. Finished books are skipped: a run can be stopped and started again at any time.

    Args:
        archive: Folder or s3://bucket/prefix with books in it, at any depth.
        out: Folder or s3://bucket/prefix for the finished CBZ files; the tree is mirrored.
        options: What to do with the pages, and how to write them.
        at_most_waiting: Limit of books that are submitted and not done; more urgent runs have precedence in any case.
        until: Time of day, as 06:00, after which no further book is started.
        budget: US dollars; no further book is started when the books of this run have cost as much.
        force: Process books and pages again even when they are done.
        here: Process the books in this run, one after the other, without workers.
    """
    begin_run(out)
    settings, run_id = get_settings(), runtime.flow_run.id or new_job_id()
    request = Backfill(archive=archive, out=out, options=options, force=force)
    requests = requests_of(request, settings, run_id)
    refused = skipped_entries_of(request)
    for one in refused:
        get_run_logger().warning("%s is skipped: %s", to_printable(one.name), one.message)
    known = done_before(requests, settings)
    todo = [book for book in requests if book.out not in known]
    check_places((out, settings.store_location), settings)
    check_free_space(todo, out, settings)
    get_engine().tidy(out)
    get_run_logger().info("%d books, %d of them to do", len(requests), len(todo))
    limits = Limits(_end(until), Budget(settings, get_engine().ledger, run_id=run_id, run_limit=budget))
    runs = BookRuns(run_id, at_most_waiting, limits, _run_here if here else None)
    runs.process(todo)
    summary = runs.summary(books=len(requests), done_before=list(known.values()), refused=refused)
    show_backfill(run_id, archive, summary)
    summary.raise_if_nothing_worked()
    return summary


def _run_here(request: BookRequest) -> State[Any]:
    """Process a book in this process, as a subflow."""
    return enhance_book(**request.to_parameters(), return_state=True)


def _end(until: str | None) -> datetime | None:
    """When the window ends: counted from the scheduled start, also if the run began late."""
    if not until:
        return None
    scheduled: datetime | None = runtime.flow_run.scheduled_start_time
    begin = scheduled or datetime.now().astimezone()
    return Window.model_validate({"until": until}).end(begin.astimezone())
