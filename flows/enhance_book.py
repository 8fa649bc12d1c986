"""One book, from its archive to the finished CBZ."""

from typing import Annotated, Any

from prefect import flow, runtime
from prefect.task_runners import ThreadPoolTaskRunner
from pydantic import Field

from orchestration.artifacts import show_book
from orchestration.book_pages import TaskPages
from orchestration.events import emit_book_end
from orchestration.s3_blocks import begin_run
from panelworks.books import pipeline
from panelworks.books.backfill import request_of
from panelworks.domain.books import BookOptions, BookRequest, BookResult
from panelworks.errors import PanelworksError
from panelworks.page.direct import new_job_id
from panelworks.page.engine import get_engine
from tasks.enhance_book_page import enhance_book_page


def name_run() -> str:
    """The name of a run in the UI: the book."""
    parameters: dict[str, Any] = runtime.flow_run.parameters
    return str(parameters["source"]).rstrip("/").rpartition("/")[2]


@flow(
    name="enhance-book",
    flow_run_name=name_run,
    description="Enhance the pages of a book and bind it again as a CBZ.",
    task_runner=ThreadPoolTaskRunner(),  # type: ignore[arg-type] # TaskPages limits how many pages run
    result_serializer="json",
)
def enhance_book(
    source: Annotated[str, Field(min_length=1)],
    out: Annotated[str, Field(min_length=1)],
    options: BookOptions = BookOptions(),  # noqa: B008 - frozen, and the UI's form shows it
    run_id: str | None = None,
    force: bool = False,
) -> BookResult:
    """Enhance one book. Pages that were finished before are not computed again.

    Args:
        source: Path or s3:// address of an archive, or of a folder of pages.
        out: The finished CBZ, or the folder or s3://bucket/prefix that receives it.
        options: What to do with the pages, and how to write them.
        run_id: Identity of the run in the ledger; empty takes the id of the flow run.
        force: Process it again even when it is done.
    """
    begin_run(out)
    engine = get_engine()
    run = run_id or runtime.flow_run.id or new_job_id()
    request = BookRequest(source=source, out=out, options=options, run_id=run, force=force)
    try:
        request = request_of(source, out, options, engine.settings, run, force=force)
        with TaskPages(name_run(), enhance_book_page) as pages:
            result = pipeline.enhance_book(request, engine, pages)
    except PanelworksError as error:
        pipeline.failed(request, error, engine)
        raise type(error)(error.code, f"{error.message} [{error.code}]") from error
    except Exception as error:
        pipeline.failed(request, error, engine)
        raise
    emit_book_end(request, result)
    show_book(result)
    return result
