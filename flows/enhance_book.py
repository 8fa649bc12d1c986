"""One book, from its archive to the finished CBZ."""

from typing import Annotated, Any

from prefect import flow, get_run_logger, runtime
from prefect.artifacts import create_markdown_artifact
from prefect.task_runners import ThreadPoolTaskRunner
from pydantic import Field

from flows.book_conductor import TaskConductor
from panelworks.books import pipeline
from panelworks.books.backfill import request_of
from panelworks.domain.books import BookOptions, BookRequest, BookResult
from panelworks.errors import PanelworksError
from panelworks.page.direct import new_job_id
from panelworks.page.engine import get_engine
from panelworks.text import code_span, escape_markdown
from tasks.announce_book import announce_book


def name_run() -> str:
    """The name of a run in the UI: the book."""
    parameters: dict[str, Any] = runtime.flow_run.parameters
    return str(parameters["source"]).rstrip("/").rpartition("/")[2]


@flow(
    name="enhance-book",
    flow_run_name=name_run,
    description="Enhance the pages of a book and bind it again as a CBZ.",
    task_runner=ThreadPoolTaskRunner(),  # type: ignore[arg-type] # how many run is the conductor's affair
    result_serializer="json",
)
def enhance_book(
    source: Annotated[str, Field(min_length=1)],
    out: Annotated[str, Field(min_length=1)],
    options: BookOptions = BookOptions(),  # noqa: B008 - frozen, and the UI's form shows it
    run_id: str | None = None,
    force: bool = False,
) -> BookResult:
    """Enhance one book. What was done of it before is not done again.

    Args:
        source: Path or s3:// address of an archive, or of a folder of pages.
        out: The finished CBZ, or the folder or s3://bucket/prefix that receives it.
        options: What to do with the pages, and how to write them.
        run_id: Who runs it, for the ledger; empty takes the id of the flow run.
        force: Process it again even when it is done.
    """
    engine = get_engine()
    run = run_id or runtime.flow_run.id or new_job_id()
    request = BookRequest(source=source, out=out, options=options, run_id=run, force=force)
    try:
        request = request_of(source, out, options, engine.settings, run, force=force)
        with TaskConductor(name_run()) as conductor:
            result = pipeline.enhance_book(request, engine, conductor)
    except PanelworksError as error:
        pipeline.failed(request, error, engine)
        raise type(error)(error.code, f"{error.message} [{error.code}]") from error
    except Exception as error:
        pipeline.failed(request, error, engine)
        raise
    announce_book(request, result)
    _show(result)
    return result


def _show(result: BookResult) -> None:
    """The book's figures in the UI; it is done, whether they can be shown or not."""
    states = "\n".join(f"| {state} | {count} |" for state, count in result.states.items())
    notes = "\n".join(f"- {escape_markdown(note)}" for note in result.notes)
    refused = "\n".join(
        f"- {code_span(one.name)}: {escape_markdown(f'{one.message} [{one.code}]')}" for one in result.refused
    )
    known = (
        "Done before; nothing was opened." if result.skipped else f"{result.cached} pages were known before."
    )
    text = (
        f"# {result.pages} pages, {result.status}\n\n{code_span(result.out)}\n\n{result.bytes_before / 1e6:.1f} MB ->"
        f" {result.bytes_after / 1e6:.1f} MB in {result.seconds:.1f} s. {known}\n\n"
        f"| pages | |\n|---|---|\n{states}\n\n{notes}\n{refused}\n"
    )
    try:
        create_markdown_artifact(text, key="book", description=escape_markdown(result.source))
    except Exception as error:  # noqa: BLE001 - whatever the server answers
        get_run_logger().warning("the book is done, but not shown here (%s)", type(error).__name__)
