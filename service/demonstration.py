"""`panelworks demo`: the main job on two sample pages, with a report to look at."""

import asyncio
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.table import Table

from panelworks.domain.options import EnhanceOptions
from panelworks.domain.request import Origin
from panelworks.domain.result import PageResult
from panelworks.errors import Misconfigured
from panelworks.page.direct import new_job_id
from service.prefect_defaults import apply_prefect_defaults
from service.report import write_report

_WIDTH: Final = 132
"""Columns that the table needs to show a page on two lines."""
SAMPLES: Final = Path(__file__).parent.parent / "examples" / "pages"


def demonstrate(out: Path) -> int:
    """Run the flow on the sample pages; returns the exit code."""
    apply_prefect_defaults()
    from flows.enhance_page import enhance_page

    pages = sorted(SAMPLES.glob("*.png"))
    if not pages:
        raise Misconfigured(
            "no_samples", f"The sample pages are not in {SAMPLES}: run the demo in a checkout."
        )
    results: list[PageResult] = []
    for page in pages:
        print(f"{page.name} ...", flush=True)
        run = enhance_page(str(page), str(out), EnhanceOptions(), False, new_job_id(), Origin(tool="demo"))
        results.append(asyncio.run(run))
    console = Console()
    Console(width=max(console.width, _WIDTH)).print(_table(pages, results))
    report = write_report(out / "report.html", results)
    print(f"\nReport with the pictures side by side: {report}")
    return 0 if all(result.status == "success" for result in results) else 1


def _table(pages: list[Path], results: list[PageResult]) -> Table:
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
