"""A page of HTML with pictures before and after, side by side."""

import os
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from jinja2 import Environment, PackageLoader

from panelworks.domain.result import PageResult


def write_report(path: Path, results: list[PageResult]) -> Path:
    """Write the report of results that were delivered to local folders; returns its absolute path.

    Pictures are linked relatively, so the folder may be moved as a whole.
    """
    path = path.absolute()
    path.parent.mkdir(parents=True, exist_ok=True)
    template = Environment(loader=PackageLoader("service", "."), autoescape=True).get_template("report.html")
    pages = [_page(path.parent, result) for result in results if result.status == "success"]
    path.write_text(template.render(pages=pages), encoding="utf-8")
    return path


def _page(folder: Path, result: PageResult) -> dict[str, Any]:
    source, master, quality = result.source, result.master, result.quality
    if source is None or master is None or quality is None:
        raise ValueError("only a delivered page can be reported")
    rows: list[tuple[str, float, float | None]] = [("overall", quality.before.overall, quality.after.overall)]
    rows += [("resolution", quality.before.resolution, quality.after.resolution)]
    rows += [
        (name, value, quality.after.components.get(name)) for name, value in quality.before.components.items()
    ]
    return {
        "result": result,
        "source": source,
        "master": master,
        "source_link": _link(folder, source.uri),
        "master_link": _link(folder, master.uri),
        "scores": rows,
        "variants": [(variant, _link(folder, variant.uri)) for variant in result.variants],
    }


def _link(folder: Path, uri: str) -> str:
    """A link from the report's folder to a local file; any other address as it is."""
    parts = urlsplit(uri)
    return quote(os.path.relpath(unquote(parts.path), folder)) if parts.scheme == "file" else uri
