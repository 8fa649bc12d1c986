"""The report of a backfill: figures from the ledger, and one page of HTML with plots and thumbnails."""

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from panelworks.domain.fields import Frozen
from panelworks.domain.stages import ledger_stages, seconds_column

if TYPE_CHECKING:
    import pandas as pd
import base64
import json
import zipfile
from collections.abc import Sequence

from jinja2 import Environment, PackageLoader

from panelworks import pictures
from panelworks.accounting.ledger import REVIEWED, device_price_per_hour
from panelworks.books.metadata import SIDECAR
from panelworks.errors import PanelworksError
from panelworks.settings import Settings
from panelworks.storage.location import Location

_BINS: Final = 20
_SHOWN: Final = 12
"""Maximum number of pages in a list of the slowest or worst pages."""


class StageSeconds(Frozen):
    """Seconds of a stage for each page, over the computed pages with this stage."""

    stage: str
    pages: int
    mean: float
    median: float
    p95: float


class ListedPage(Frozen):
    """A page in a list of the report."""

    book: str
    page: str
    number: int
    out: str
    route: str | None
    score_before: float | None
    score_after: float | None
    seconds: float | None


class Failure(Frozen):
    """A page or a whole book that could not be processed."""

    book: str
    page: str | None
    code: str
    message: str | None


class PageNote(Frozen):
    """A note on a page, for people."""

    book: str
    page: str
    note: str


class Spending(Frozen):
    """Time and cost of the pages of a network in a work pool."""

    pool: str | None
    model: str | None
    """None: pages without a network."""
    pages: int
    device_seconds: float
    cost: float | None
    cost_of_a_thousand: float | None
    """Cost of a thousand such pages in US dollars."""


class Statistics(Frozen):
    """The figures of a report."""

    books: int
    books_failed: int
    pages: int
    routes: dict[str, int]
    """Pages by route, and `failed`."""
    cached: int
    success_rate: float
    """Share of pages that could be read; 1 without pages."""
    bytes_before: int
    bytes_after: int
    scores_before: tuple[int, ...]
    """Pages by score, in bins of 0.05."""
    scores_after: tuple[int, ...]
    stages: tuple[StageSeconds, ...]
    slowest: tuple[ListedPage, ...]
    worst: tuple[ListedPage, ...]
    failures: tuple[Failure, ...]
    notes: tuple[PageNote, ...]
    device_seconds: float
    """Wall-clock time in which books used the device."""
    cost: float | None
    """Cost of that time in US dollars; None without a price."""
    spending: tuple[Spending, ...]
    """By work pool and network, the most expensive first."""
    models: dict[str, int]
    """Pages by network."""
    per_book: tuple[dict[str, Any], ...]


def statistics_of(rows: "pd.DataFrame", price_per_hour: float | None) -> Statistics:
    """The figures of the rows of books in the ledger. A page that was processed twice counts once, with its last result.

    Args:
        rows: Of the ledger.
        price_per_hour: For rows that were recorded where no price was set.
    """
    rows = rows[rows["book"].notna() & (rows["status"] != REVIEWED)]
    rows = rows.drop_duplicates(subset=["out", "page_number"], keep="last")
    rows = rows.assign(cost=_costs(rows, price_per_hour))
    pages = rows[rows["page"].notna()]
    done = pages[pages["status"] == "success"]
    fresh = done[~done["cached"].astype(bool)]
    routes = {str(route): int(count) for route, count in done["route"].value_counts().items()}
    if len(pages) > len(done):
        routes["failed"] = len(pages) - len(done)
    device = float(rows["device_seconds"].sum())
    return Statistics(
        books=int(rows["out"].nunique()),
        books_failed=int(rows["page"].isna().sum()),
        pages=len(pages),
        routes=routes,
        cached=int(pages["cached"].astype(bool).sum()),
        success_rate=len(done) / len(pages) if len(pages) else 1.0,
        bytes_before=int(pages["source_bytes"].sum()),
        bytes_after=int(pages["bytes"].sum()),
        scores_before=_histogram(done["score_before"]),
        scores_after=_histogram(done["score_after"]),
        stages=tuple(_stages(fresh)),
        slowest=_listed(_once(fresh).nlargest(_SHOWN, "seconds")),
        worst=_listed(_once(done).nsmallest(_SHOWN, "score_after")),
        failures=tuple(
            Failure(
                book=row["book"],
                page=_text(row["page"]),
                code=str(row["error"]),
                message=_text(row["message"]),
            )
            for row in rows[rows["status"] != "success"].to_dict("records")
        ),
        notes=tuple(
            PageNote(book=row["book"], page=row["page"], note=row["notes"])
            for row in pages[pages["notes"].notna()].to_dict("records")
        ),
        device_seconds=round(device, 3),
        cost=_total(rows["cost"]),
        spending=tuple(_spending(done)),
        models={str(model): int(count) for model, count in done["model"].value_counts().items()},
        per_book=tuple(_per_book(rows)),
    )


def _costs(rows: "pd.DataFrame", price_per_hour: float | None) -> "pd.Series[float]":
    """US dollars of each row: the recorded cost, otherwise at the given price."""
    costs: pd.Series[float] = rows["cost"].astype(float)
    return costs.fillna(rows["device_seconds"] / 3600 * price_per_hour) if price_per_hour else costs


def _total(costs: "pd.Series[float]") -> float | None:
    return round(float(costs.sum()), 4) if costs.notna().any() else None


def _spending(done: "pd.DataFrame") -> "list[Spending]":
    found = []
    for (pool, model), pages in done.groupby(["pool", "model"], dropna=False):
        cost = _total(pages["cost"])
        found.append(
            Spending(
                pool=_text(pool),
                model=_text(model),
                pages=len(pages),
                device_seconds=round(float(pages["device_seconds"].sum()), 2),
                cost=cost,
                cost_of_a_thousand=None if cost is None else round(1000 * cost / len(pages), 2),
            )
        )
    return sorted(found, key=lambda one: one.device_seconds, reverse=True)


def _histogram(scores: "pd.Series[float]") -> tuple[int, ...]:
    counts, _ = np.histogram(scores.dropna(), bins=_BINS, range=(0.0, 1.0))
    return tuple(int(count) for count in counts)


def _stages(fresh: "pd.DataFrame") -> "list[StageSeconds]":
    found = []
    for stage in (*ledger_stages(), "total"):
        seconds = fresh["seconds" if stage == "total" else seconds_column(stage)].dropna()
        if len(seconds):
            found.append(
                StageSeconds(
                    stage=stage,
                    pages=len(seconds),
                    mean=round(float(seconds.mean()), 3),
                    median=round(float(seconds.median()), 3),
                    p95=round(float(seconds.quantile(0.95)), 3),
                )
            )
    return found


def _listed(rows: "pd.DataFrame") -> tuple[ListedPage, ...]:
    return tuple(
        ListedPage(
            book=row["book"],
            page=row["page"],
            number=int(row["page_number"]),
            out=row["out"],
            route=_text(row["route"]),
            score_before=_number(row["score_before"]),
            score_after=_number(row["score_after"]),
            seconds=_number(row["seconds"]),
        )
        for row in rows.to_dict("records")
    )


def _once(rows: "pd.DataFrame") -> "pd.DataFrame":
    """Pages that occur in several books count once."""
    return rows.drop_duplicates(subset="content_key")


def _per_book(rows: "pd.DataFrame") -> "list[dict[str, Any]]":
    found = []
    for out, book in rows.groupby("out", sort=True):
        pages = book[book["page"].notna()]
        failed = pages[pages["status"] != "success"]
        found.append(
            {
                "book": str(book["book"].iloc[0]),
                "out": str(out),
                "pages": len(pages),
                "failed": len(failed) if len(pages) else None,
                "score_before": _number(pages["score_before"].mean()),
                "score_after": _number(pages["score_after"].mean()),
                "bytes_before": int(book["source_bytes"].sum()),
                "bytes_after": int(pages["bytes"].sum()),
                "device_seconds": round(float(book["device_seconds"].sum()), 2),
                "cost": _total(book["cost"]),
            }
        )
    return found


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _number(value: Any) -> float | None:
    return None if value is None or np.isnan(value) else round(float(value), 4)


_THUMBNAIL: Final = (180, 260)
_QUALITY: Final = 78


def report_of(rows: "pd.DataFrame", title: str, settings: Settings) -> tuple[Statistics, str]:
    """The figures and the HTML report of rows of the ledger."""
    statistics = statistics_of(rows, device_price_per_hour(settings))
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


def report_of_backfill(
    rows: "pd.DataFrame", backfill_id: str, archive: str, settings: Settings
) -> tuple[Statistics, str]:
    """`report_of` for the rows of one backfill."""
    return report_of(rows[rows["run_id"] == backfill_id], f"Backfill of {archive}", settings)


def _with_thumbnails(pages: Sequence[ListedPage], settings: Settings) -> list[dict[str, Any]]:
    return [{"page": page, "thumbnail": _thumbnail(page, settings)} for page in pages]


def _thumbnail(page: ListedPage, settings: Settings) -> str | None:
    """The page from the finished book as a thumbnail; None if the book is not on this machine."""
    place = Location.parse(page.out)
    if place.is_in_bucket:
        return None
    try:
        with zipfile.ZipFile(place.path) as book:
            entries = json.loads(book.read(SIDECAR))["pages"][page.number]["files"]
            picture = pictures.decode(book.read(entries[0]), settings).picture
    except (OSError, zipfile.BadZipFile, KeyError, IndexError, ValueError, PanelworksError):
        return None
    small = pictures.resize(picture, pictures.fit_size(picture.size, _THUMBNAIL))
    data = base64.b64encode(pictures.encode(small, "jpeg", _QUALITY)).decode("ascii")
    return f"data:image/jpeg;base64,{data}"
