"""`panelworks report`: a report on books from the ledger, as HTML."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from panelworks.accounting.ledger import open_ledger
from panelworks.books.report import report_of
from panelworks.cli.options import Json
from panelworks.cli.output import print_json
from panelworks.errors import Misconfigured
from panelworks.settings import get_settings


def report(
    out: Annotated[Path, typer.Option(help="The HTML file to write.")] = Path("panelworks-report.html"),
    last: Annotated[
        bool, typer.Option("--last", help="Report the last backfill only. Default: all books.")
    ] = False,
    run: Annotated[str | None, typer.Option(help="Report the backfill with this run id only.")] = None,
    json: Json = False,
) -> None:
    """Report on books from the ledger: routes, scores, seconds, failures, cost, pages to review."""
    raise typer.Exit(write_archive_report(out, run=run, last=last, json=json))


def write_archive_report(out: Path, *, run: str | None, last: bool, json: bool) -> int:
    """Write the report and print its figures. Return the exit code."""
    settings = get_settings()
    rows = open_ledger(settings).read()
    rows = rows[rows["book"].notna()]
    if last and not rows.empty:
        run = str(rows["run_id"].iloc[-1])
    if run is not None:
        rows = rows[rows["run_id"] == run]
    if rows.empty:
        print(
            "The ledger has no books yet." if run is None else f"The ledger has no run {run}.",
            file=sys.stderr,
        )
        return 1
    title = "All books" if run is None else f"Backfill {run[:8]}"
    statistics, html = report_of(rows, title, settings)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(html, encoding="utf-8")
    except OSError as error:
        raise Misconfigured("not_writable", f"{out} cannot be written ({error.strerror}).") from error
    if json:
        print_json(statistics.model_dump(mode="json"))
        return 0
    routes = ", ".join(f"{count} {route}" for route, count in statistics.routes.items())
    cost = "" if statistics.cost is None else f", cost {statistics.cost:.2f}"
    print(
        f"{statistics.books} books, {statistics.pages} pages ({routes}), {100 * statistics.success_rate:.1f} % processed;"
        f" {statistics.device_seconds:.0f} s of the device{cost}\n{out.absolute()}"
    )
    return 0
