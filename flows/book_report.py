"""The report of a backfill: a page of HTML beside the ledger, and its figures in the UI."""

from prefect import get_run_logger
from prefect.artifacts import create_markdown_artifact, create_table_artifact

from panelworks.books.report import Statistics, report_of
from panelworks.domain.books import BackfillSummary
from panelworks.page.engine import get_engine
from panelworks.storage import open_folder
from panelworks.text import code_span, escape_markdown


def show_report(run_id: str, summary: BackfillSummary) -> None:
    """Write and show it; the books are done, whether that works or not."""
    engine = get_engine()
    try:
        rows = engine.ledger.read()
        statistics, html = report_of(
            rows[rows["run_id"] == run_id], f"Backfill {run_id[:8]}", engine.settings
        )
        folder = open_folder(engine.settings.ledger_location, engine.settings)
        uri = folder.write(f"_reports/{run_id}.html", html.encode(), "text/html")
        create_markdown_artifact(
            _text(summary, statistics, uri), key="backfill", description="What the backfill did."
        )
        create_table_artifact(list(statistics.per_book), key="books", description=f"{statistics.books} books")
        if statistics.failures:
            create_table_artifact(
                [failure.model_dump() for failure in statistics.failures],
                key="failures",
                description="What failed, and why.",
            )
    except Exception as error:  # noqa: BLE001 - whatever the server or the disk answers
        get_run_logger().warning("the backfill is not shown here (%s: %s)", type(error).__name__, error)


def _text(summary: BackfillSummary, statistics: Statistics, uri: str) -> str:
    routes = "\n".join(f"| {route} | {count} |" for route, count in statistics.routes.items())
    stages = "\n".join(
        f"| {stage.stage} | {stage.pages} | {stage.mean:.2f} | {stage.median:.2f} | {stage.p95:.2f} |"
        for stage in statistics.stages
    )
    failed = "\n".join(f"- {code_span(book)}: {escape_markdown(why)}" for book, why in summary.failed.items())
    failed += "".join(
        f"\n- {code_span(book)}: incomplete; its run names what is missing" for book in summary.incomplete
    )
    failed += "".join(
        f"\n- {code_span(name)}: left out: {escape_markdown(why)}" for name, why in summary.unlisted.items()
    )
    cost = "" if statistics.cost is None else f", cost {statistics.cost:.2f}"
    return f"""# {summary.books} books

{summary.done} done now, {summary.done_before} before, {len(summary.failed)} failed, {summary.left} left.
{statistics.pages} pages, {100 * statistics.success_rate:.1f} % processed, {statistics.cached} known before;
{statistics.bytes_before / 1e6:.1f} MB became {statistics.bytes_after / 1e6:.1f} MB; {statistics.device_seconds:.0f} s of the device{cost}.

Report with plots and pictures: {code_span(uri)}

| route | pages |
|---|---|
{routes}

| stage | pages | mean s | median s | 95 % s |
|---|---|---|---|---|
{stages}

{failed}
"""
