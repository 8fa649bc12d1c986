"""The ledger, with one permanent row for each page, and the cost of pages.

Each job and each book is a small Parquet file of its own, so that any number of workers can append without a lock.
`pandas.read_parquet(folder)` reads all files as one table. A page costs the seconds of the device times the price of
its work pool.
"""

import io
import json
import logging
import math
from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from panelworks.domain.books import book_id
from panelworks.domain.fields import digest_of
from panelworks.domain.request import PageRequest, job_digest
from panelworks.domain.result import Cost, ErrorInfo, Outcome, PageResult, Review
from panelworks.domain.stages import STAGES, ledger_stages, seconds_column
from panelworks.settings import Settings
from panelworks.sources.fetch import shown
from panelworks.storage import ObjectFolder, open_folder

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

    from panelworks.domain.books import BookRequest, BookResult, PageDone

logger = logging.getLogger(__name__)
REVIEWED: Final = "reviewed"
"""Status of the row of a person's decision."""
_PARQUET_MEDIA_TYPE: Final = "application/vnd.apache.parquet"
_BOOKS_FOLDER: Final = "day=books/"
_MAX_CLOCK_DIFFERENCE_SECONDS: Final = 300.0
"""Maximum difference between the clocks of machines and bucket."""


class Ledger:
    """Rows in a folder: jobs in a subfolder for each day, books in a subfolder of their own."""

    def __init__(self, folder: ObjectFolder) -> None:
        self._folder = folder

    def append(self, request: PageRequest, result: PageResult) -> None:
        """Write the row of a finished page, successful or not.

        The row of a job is named after the job: a run that is repeated after a crash replaces it. A row with the cost
        of a delivered page is kept if the job is repeated from the cache or fails later.

        Raises:
            Misconfigured: `not_writable`, `disk_full`. Transient: the bucket did not answer.
        """
        name = job_digest(request.key)[:32]
        if (result.cached or result.status == "error") and self._carries_cost(name):
            return
        self._write(name, [_job_row(request, result)])

    def append_decision(self, request: PageRequest, result: PageResult) -> None:
        """Write the row of a person's decision on a page, beside that of its job: who, when, why, and what is published now.

        It has no cost and no time of its own.

        Raises:
            Misconfigured, Transient: as `append`.
        """
        if result.review is None:
            raise ValueError("the page was not reviewed")
        name = f"{job_digest(request.key)[:32]}-{digest_of(result.review.requested_at.isoformat())[:8]}"
        nothing = {"seconds": None, "device_seconds": None, "pool": None, "cost": None}
        nothing |= {seconds_column(stage): None for stage in ledger_stages()}
        row = _job_row(request, result) | nothing | {"status": REVIEWED}
        self._put(_file_name(datetime.now(UTC), name), [row])

    def append_book(
        self, request: "BookRequest", pages: "Sequence[PageDone]", result: "BookResult", settings: Settings
    ) -> None:
        """Write the rows of a finished book. They are named after the book: binding it again replaces them. The settings
        have the pool and its price.

        Raises:
            Misconfigured, Transient: as `append`.
        """
        spent = _apportion_seconds(pages, result.seconds)
        rows = [
            _page_row(request, page)
            | _review_columns(result.review)
            | {"device_seconds": share, "pool": settings.pool, "cost": price_device_seconds(share, settings)}
            for page, share in zip(pages, spent, strict=True)
        ]
        self._put(_book_file_name(request), rows)

    def append_book_decision(self, result: "BookResult") -> None:
        """Write the row of a person's decision on a book: who, when and why. It has no cost and no time.

        Raises:
            Misconfigured, Transient: as `append`.
        """
        if result.review is None:
            raise ValueError("the book was not reviewed")
        row = {
            "tool": "book",
            "book": result.source,
            "source": result.source,
            "status": REVIEWED,
            "cached": False,
            "out": result.out,
            **_review_columns(result.review),
        }
        name = digest_of([result.out, result.review.requested_at.isoformat()])[:32]
        self._put(_file_name(datetime.now(UTC), name), [row])

    def append_failed_book(self, request: "BookRequest", error: ErrorInfo) -> None:
        """Write the single row of a failed book. Its pages replace it once the book is processed.

        Raises:
            Misconfigured, Transient: as `append`.
        """
        row = {
            "job_id": request.run_id,
            "run_id": request.run_id,
            "tool": "book",
            "book": request.source,
            "source": request.source,
            "source_bytes": request.source_bytes,
            "status": "error",
            "cached": False,
            "out": request.out,
            "error": error.code,
            "message": error.message,
        }
        self._put(_book_file_name(request), [row])

    def _carries_cost(self, name: str) -> bool:
        """Whether a row of this job, of today or yesterday, is for a computed and delivered page."""
        now = datetime.now(UTC)
        for day in (now, now - timedelta(days=1)):
            data = self._folder.read(_file_name(day, name))
            table = None if data is None else _parse_table(_file_name(day, name), data)
            rows = [] if table is None else table.select(["status", "cached"]).to_pylist()
            if any(row["status"] == "success" and not row["cached"] for row in rows):
                return True
        return False

    def _write(self, name: str, rows: list[dict[str, Any]]) -> None:
        now = datetime.now(UTC)
        self._put(_file_name(now, name), rows)
        self._folder.delete(_file_name(now - timedelta(days=1), name))

    def _put(self, name: str, rows: list[dict[str, Any]]) -> None:
        import pyarrow.parquet as pq

        now, buffer = datetime.now(UTC), io.BytesIO()
        table = _build_table([{"recorded_at": now.isoformat(), **row} for row in rows])
        pq.write_table(table, buffer, write_page_checksum=True)
        self._folder.write(name, buffer.getvalue(), _PARQUET_MEDIA_TYPE)

    def read_changed(
        self, since: datetime | None, seen: MutableMapping[str, str]
    ) -> "Iterator[tuple[str, pa.Table]]":
        """Yield files written since a moment, with their rows; all files if it is None. Skip those that `seen` has in the
        same version, and update it.

        Only books and the jobs of the days since then are read.

        Raises:
            Transient: the bucket did not answer.
        """
        earliest = 0.0 if since is None else since.timestamp() - _MAX_CLOCK_DIFFERENCE_SECONDS
        for file in (one for folder in _folders_since(since) for one in self._folder.files(folder)):
            if not _is_ledger_file(file.name) or file.changed < earliest:
                continue
            if seen.get(file.name) == file.version:
                continue
            seen[file.name] = file.version
            table = _parse_table(file.name, self._folder.read(file.name) or b"")
            if table is not None:
                yield file.name, table

    def read(self) -> "pd.DataFrame":
        """Read all rows, oldest first; empty if nothing was recorded yet."""
        import pyarrow as pa

        schema, tables = _schema(), []
        for file in self._folder.files():
            if not _is_ledger_file(file.name):
                continue
            table = _parse_table(file.name, self._folder.read(file.name) or b"")
            if table is not None:
                tables.append(table)
        table = pa.concat_tables(tables) if tables else schema.empty_table()
        rows: pd.DataFrame = table.to_pandas()
        return rows.sort_values("recorded_at", ignore_index=True, kind="stable")


def open_ledger(settings: Settings) -> Ledger:
    """Open the ledger in the settings."""
    return Ledger(open_folder(settings.ledger_location, settings))


def _folders_since(since: datetime | None) -> list[str]:
    """Folders with rows that were written since a moment; for None the whole ledger."""
    if since is None:
        return [""]
    first = since.astimezone(UTC)
    days = (datetime.now(UTC).date() - first.date()).days
    return [_BOOKS_FOLDER, *(f"day={first + timedelta(days=n):%Y-%m-%d}/" for n in range(days + 1))]


def _is_ledger_file(name: str) -> bool:
    return name.endswith(".parquet") and not name.startswith("_")


def _file_name(day: datetime, name: str) -> str:
    return f"day={day:%Y-%m-%d}/{name}.parquet"


def _book_file_name(request: "BookRequest") -> str:
    """Name of the file of a finished book, which does not depend on the run, so that new rows replace old ones."""
    return f"{_BOOKS_FOLDER}{book_id(request.out)}.parquet"


def _build_table(rows: list[dict[str, Any]]) -> "pa.Table":
    """Build the table of some rows. Their values are those of JSON; a number that is not finite becomes null.

    Arrow's conversion of Python objects would import pandas: a quarter of a second in every process.
    """
    import pyarrow.json as pj

    if not rows:
        return _schema().empty_table()
    data = "".join(
        json.dumps({name: _finite(value) for name, value in row.items()}) + "\n" for row in rows
    ).encode()
    return pj.read_json(
        io.BytesIO(data),
        pj.ReadOptions(use_threads=False, block_size=len(data)),  # a row may not be longer than a block
        pj.ParseOptions(explicit_schema=_schema(), unexpected_field_behavior="error"),
    )


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _parse_table(name: str, data: bytes) -> "pa.Table | None":
    """Parse a file of the ledger; None if its checksums show damage."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.ParquetFile(io.BytesIO(data), page_checksum_verification=True).read()
        return _add_missing_columns(table, _schema())
    except (pa.ArrowException, OSError, ValueError) as error:
        logger.warning("ledger file %s is skipped: it is damaged (%s)", name, type(error).__name__)
        return None


def _add_missing_columns(table: "pa.Table", schema: "pa.Schema") -> "pa.Table":
    """Add missing columns: rows of earlier versions lack some."""
    import pyarrow as pa

    if table.schema.equals(schema):
        return table
    return pa.table(
        {
            field.name: table.column(field.name).cast(field.type)
            if field.name in table.column_names
            else pa.nulls(table.num_rows, field.type)
            for field in schema
        },
        schema=schema,
    )


def _schema() -> "pa.Schema":
    import pyarrow as pa

    text, number, whole = pa.string(), pa.float64(), pa.int64()
    return pa.schema(
        [
            ("recorded_at", pa.timestamp("us", tz="UTC")),
            ("job_id", text), ("owner", text), ("run_id", text), ("tool", text), ("comic_id", text), ("panel_id", text), ("book", text), ("page", text), ("page_number", whole),
            ("source", text), ("source_sha256", text), ("source_width", whole), ("source_height", whole),
            ("source_bytes", whole), ("content_key", text), ("status", text), ("route", text), ("cached", pa.bool_()),
            ("score_before", number), ("score_after", number), ("model", text), ("scale", number),
            ("seconds", number), *((seconds_column(stage), number) for stage in ledger_stages()),
            ("device_seconds", number), ("pool", text), ("cost", number), ("bytes", whole), ("out", text), ("error", text), ("message", text),
            ("notes", text), ("review", text), ("reviewed_at", pa.timestamp("us", tz="UTC")), ("reviewed_by", text),
            ("review_comment", text),
        ]
    )  # fmt: skip


def _job_row(request: PageRequest, result: PageResult) -> dict[str, Any]:
    quality, source = result.quality, result.source
    return {
        "job_id": result.job_id,
        "owner": request.origin.owner,
        "tool": request.origin.tool,
        "comic_id": request.origin.comic_id,
        "panel_id": request.origin.panel_id,
        "source": source.uri if source else shown(request.source)[:200],
        "source_sha256": source.sha256 if source else None,
        "source_width": source.width if source else None,
        "source_height": source.height if source else None,
        "source_bytes": source.bytes if source else None,
        "content_key": result.content_key,
        "status": result.status,
        "route": result.route,
        "cached": result.cached,
        "score_before": quality.before.overall if quality else None,
        "score_after": quality.after.overall if quality else None,
        "model": result.model,
        "scale": result.scale,
        **_seconds_columns(result.seconds),
        "device_seconds": result.cost.gpu_seconds if result.cost else None,
        "pool": result.cost.pool if result.cost else None,
        "cost": result.cost.usd if result.cost else None,
        "bytes": result.master.bytes if result.master else None,
        "out": request.out,
        "error": result.error.code if result.error else None,
        "message": result.error.message if result.error else None,
        "notes": _join_notes(result.notes),
        **_review_columns(result.review),
    }


def _review_columns(review: Review | None) -> dict[str, Any]:
    if review is None:
        return {}
    return {
        "review": review.state,
        "reviewed_at": review.decided_at.isoformat() if review.decided_at else None,
        "reviewed_by": review.decided_by,
        "review_comment": review.comment,
    }


def _apportion_seconds(pages: "Sequence[PageDone]", seconds: float) -> list[float]:
    """Each page's share of the time of a book. Pages are computed in parallel, so the sum of their own times is
    larger."""
    own = [
        0.0 if page.cached or page.outcome is None else page.outcome.seconds.get("total", 0.0)
        for page in pages
    ]
    total = sum(own)
    return [seconds * one / total if total else 0.0 for one in own]


def _page_row(request: "BookRequest", page: "PageDone") -> dict[str, Any]:
    outcome, size = page.outcome, page.source_size
    return {
        "job_id": request.run_id,
        "run_id": request.run_id,
        "tool": "book",
        "book": request.source,
        "page": page.name,
        "page_number": page.index,
        "source": f"{request.source}#{page.name}",
        "source_sha256": page.source_sha256,
        "source_width": size[0] if size else None,
        "source_height": size[1] if size else None,
        "source_bytes": page.source_bytes,
        "content_key": page.content_key,
        "status": "success" if outcome else "error",
        "route": outcome.route if outcome else None,
        "cached": page.cached,
        **(_outcome_columns(outcome, size) if outcome else {}),
        "bytes": sum(part.artifact.bytes for part in page.parts)
        or (page.original.bytes if page.original else 0),
        "out": request.out,
        "error": page.error.code if page.error else None,
        "message": page.error.message if page.error else None,
        "notes": _join_notes(page.notes),
    }


def _join_notes(notes: Sequence[str]) -> str | None:
    return "; ".join(notes) or None


def _outcome_columns(outcome: Outcome, size: tuple[int, int] | None) -> dict[str, Any]:
    plan = outcome.plan
    return {
        "score_before": outcome.before.overall,
        "score_after": outcome.after.overall,
        "model": plan.model if plan else None,
        "scale": round(plan.width / size[0], 3) if plan and size else 1.0,
        **_seconds_columns(outcome.seconds),
    }


def _seconds_columns(seconds: dict[str, float]) -> dict[str, float | None]:
    return {"seconds": seconds.get("total")} | {
        seconds_column(stage): seconds.get(stage) for stage in ledger_stages()
    }


_SECONDS_PER_HOUR: Final = 3600


def device_price_per_hour(settings: Settings) -> float | None:
    """Price of this machine's device in US dollars an hour: its own price, else that of its pool; None without a
    price."""
    return settings.gpu_price_per_hour or dict(settings.prices).get(settings.pool or "") or None


def price_device_seconds(seconds: float, settings: Settings) -> float | None:
    """Price of some seconds of this machine's device in US dollars; None without a price."""
    price = device_price_per_hour(settings)
    return None if price is None else round(seconds / _SECONDS_PER_HOUR * price, 6)


def compute_cost(seconds: Mapping[str, float], settings: Settings, *, cached: bool) -> Cost:
    """Compute the cost of a page from its seconds by stage."""
    spent = (
        0.0
        if cached
        else round(sum(seconds.get(name, 0.0) for name, stage in STAGES.items() if stage.uses_device), 3)
    )
    return Cost(pool=settings.pool, gpu_seconds=spent, usd=price_device_seconds(spent, settings))
