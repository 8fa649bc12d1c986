"""`panelworks demo`: enhance two sample pages and write a report."""

import os
from pathlib import Path
from typing import Annotated, Any, Final
from urllib.parse import quote, unquote, urlsplit

import typer
from jinja2 import Environment, PackageLoader
from rich.console import Console
from rich.table import Table

from panelworks.cli.pipeline import find_pipeline
from panelworks.domain.request import Origin, PageRequest
from panelworks.domain.result import PageResult
from panelworks.errors import Misconfigured
from panelworks.page.direct import enhance_directly, new_job_id

_MIN_TABLE_COLUMNS: Final = 132
"""Width that the table needs to show a page on two lines."""
_SAMPLE_FOLDERS: Final = (Path(__file__).with_name("pages"), Path(__file__).parents[2] / "examples" / "pages")
"""Folders of the sample pages: in an installed package and in a checkout."""


def demo(
    out: Annotated[Path, typer.Option(help="Folder for the results.")] = Path("demo-out"),
) -> None:
    """Enhance two sample pages and write a report with the pictures side by side. In a checkout, pages are runs of the
    pipeline."""
    raise typer.Exit(run_demo(out))


def run_demo(out: Path) -> int:
    """Process the sample pages. Return the exit code."""
    pages = sorted(page for place in _SAMPLE_FOLDERS for page in place.glob("*.png"))
    if not pages:
        raise Misconfigured("no_samples", "The sample pages are missing in this installation.")
    pipeline = find_pipeline()
    process = enhance_directly if pipeline is None else pipeline.enhance
    results: list[PageResult] = []
    for page in pages:
        print(f"{page.name} ...", flush=True)
        request = PageRequest(source=str(page), out=str(out), job_id=new_job_id(), origin=Origin(tool="demo"))
        results.append(process(request))
    console = Console()
    Console(width=max(console.width, _MIN_TABLE_COLUMNS)).print(_make_table(pages, results))
    report = write_report(out / "report.html", results)
    print(f"\nReport with the pictures side by side: {report}")
    return 0 if all(result.status == "success" for result in results) else 1


def _make_table(pages: list[Path], results: list[PageResult]) -> Table:
    table = Table("page", "route", "score", "size", "variants", "seconds", "cached")
    for page, result in zip(pages, results, strict=True):
        source, master, quality = result.source, result.master, result.quality
        if source is None or master is None or quality is None:
            table.add_row(page.name, "error", "", "", "", "", "")
            continue
        table.add_row(
            page.name,
            result.route,
            f"{quality.before.overall:.2f} -> {quality.after.overall:.2f}",
            f"{source.width}x{source.height} -> {master.width}x{master.height}",
            "\n".join(
                f"{v.name} {v.width}x{v.height} {v.format} {v.bytes / 1024:.0f} KiB" for v in result.variants
            ),
            f"{result.seconds.get('total', 0):.1f}",
            "yes" if result.cached else "no",
        )
    return table


def write_report(path: Path, results: list[PageResult]) -> Path:
    """Write the report of results in local folders. Return its absolute path.

    Links to pictures are relative, so that the folder can be moved.
    """
    path = path.absolute()
    path.parent.mkdir(parents=True, exist_ok=True)
    template = Environment(loader=PackageLoader("panelworks.cli", "."), autoescape=True).get_template(
        "demo.html"
    )
    pages = [_report_page(path.parent, result) for result in results if result.status == "success"]
    path.write_text(template.render(pages=pages), encoding="utf-8")
    return path


def _report_page(folder: Path, result: PageResult) -> dict[str, Any]:
    source, master, quality = result.source, result.master, result.quality
    if source is None or master is None or quality is None:
        raise ValueError("only a delivered page can be reported")
    rows: list[tuple[str, float, float | None]] = [("overall", quality.before.overall, quality.after.overall)]
    rows += [("resolution", quality.before.resolution, quality.after.resolution)]
    rows += [
        (name, value, quality.after.shown_components.get(name))
        for name, value in quality.before.shown_components.items()
    ]
    return {
        "result": result,
        "source": source,
        "master": master,
        "source_link": _relative_link(folder, source.uri),
        "master_link": _relative_link(folder, master.uri),
        "scores": rows,
        "variants": [(variant, _relative_link(folder, variant.uri)) for variant in result.variants],
    }


def _relative_link(folder: Path, uri: str) -> str:
    """A relative link from the report's folder to a local file. Other addresses are unchanged."""
    parts = urlsplit(uri)
    return quote(os.path.relpath(unquote(parts.path), folder)) if parts.scheme == "file" else uri
