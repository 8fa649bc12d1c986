"""The report of a backfill as one page of HTML: figures, plots, and thumbnails of the pages to look at."""

import base64
import json
import zipfile
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from jinja2 import Environment, PackageLoader

from panelworks import pictures
from panelworks.books.provenance import SIDECAR
from panelworks.books.statistics import ListedPage, Statistics, statistics_of
from panelworks.cost import price_per_hour
from panelworks.errors import PanelworksError
from panelworks.names import local_path
from panelworks.settings import Settings

if TYPE_CHECKING:
    import pandas as pd

_THUMBNAIL: Final = (180, 260)
_QUALITY: Final = 78


def report_of(rows: "pd.DataFrame", title: str, settings: Settings) -> tuple[Statistics, str]:
    """The figures and the HTML of the ledger's rows."""
    statistics = statistics_of(rows, price_per_hour(settings))
    template = Environment(loader=PackageLoader("panelworks.books", "."), autoescape=True).get_template(
        "report.html"
    )
    html = template.render(
        title=title,
        s=statistics,
        plots=[("before", statistics.scores_before), ("after", statistics.scores_after)],
        highest=max((*statistics.scores_before, *statistics.scores_after, 1)),
        longest=max((stage.mean for stage in statistics.stages if stage.stage != "total"), default=1.0)
        or 1.0,
        lists=[
            ("Lowest scores", _with_thumbnails(statistics.worst, settings)),
            ("Slowest pages", _with_thumbnails(statistics.slowest, settings)),
        ],
    )
    return statistics, html


def _with_thumbnails(pages: Sequence[ListedPage], settings: Settings) -> list[dict[str, Any]]:
    return [{"page": page, "thumbnail": _thumbnail(page, settings)} for page in pages]


def _thumbnail(page: ListedPage, settings: Settings) -> str | None:
    """The page as it is in the finished book; None when that does not lie on this machine any more."""
    if page.out.startswith("s3://"):
        return None
    try:
        with zipfile.ZipFile(local_path(page.out)) as book:
            entries = json.loads(book.read(SIDECAR))["pages"][page.number]["files"]
            picture = pictures.decode(book.read(entries[0]), settings).picture
    except (OSError, zipfile.BadZipFile, KeyError, IndexError, ValueError, PanelworksError):
        return None
    small = pictures.resize(picture, pictures.fit_size(picture.size, _THUMBNAIL))
    data = base64.b64encode(pictures.encode(small, "jpeg", _QUALITY)).decode("ascii")
    return f"data:image/jpeg;base64,{data}"
