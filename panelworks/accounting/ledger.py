"""The ledger: one row a page, for ever.

A job is a small Parquet file of its own, so is a book, so that any number of workers can append at once
without a lock; `pandas.read_parquet(folder)` reads them as one table.
"""

import io
import logging
from collections.abc import Iterator, MutableMapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from panelworks.accounting.cost import price_of
from panelworks.domain.fields import digest_of
from panelworks.domain.request import PageRequest, job_digest
from panelworks.domain.result import ErrorInfo, Outcome, PageResult
from panelworks.domain.stages import ledger_stages, seconds_column
from panelworks.settings import Settings
from panelworks.sources.fetch import shown
from panelworks.storage import ObjectFolder, open_folder

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

    from panelworks.domain.books import BookRequest, PageDone

logger = logging.getLogger(__name__)

_PARQUET: Final = "application/vnd.apache.parquet"
_BOOKS: Final = "day=books/"
_CLOCKS_APART: Final = 300.0
"""Seconds that the clocks of machines and bucket may differ by."""


class Ledger:
    """Rows under a folder: jobs in one subfolder a day, books in one of their own."""

    def __init__(self, folder: ObjectFolder) -> None:
        self._folder = folder

    def append(self, request: PageRequest, result: PageResult) -> None:
        """Write the row of one finished page, good or bad.

        The row of a job is named for it: a run that is repeated after a crash replaces its row. A row that carries
        the cost of a delivered page is kept when the job is repeated from the cache, or fails afterwards.

        Raises:
            Misconfigured: `not_writable`, `disk_full`. Transient: the bucket did not answer.
        """
        name = job_digest(request.key)[:32]
        if (result.cached or result.status == "error") and self._carries_cost(name):
            return
        self._write(name, [_row(request, result)])

    def append_book(
        self, request: "BookRequest", pages: "Sequence[PageDone]", seconds: float, settings: Settings
    ) -> None:
        """Write the rows of a finished book that took `seconds` on the clock. They are named for it: bound again,
        it replaces them. The settings know the pool and its price.

        Raises:
            Misconfigured, Transient: as `append`.
        """
        spent = _apportioned(pages, seconds)
        rows = [
            _page_row(request, page)
            | {"device_seconds": share, "pool": settings.pool, "cost": price_of(share, settings)}
            for page, share in zip(pages, spent, strict=True)
        ]
        self._put(_book_name(request), rows)

    def append_failed_book(self, request: "BookRequest", error: ErrorInfo) -> None:
        """Write the one row of a book that could not be processed; once it can be, its pages replace it.

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
        self._put(_book_name(request), [row])

    def _carries_cost(self, name: str) -> bool:
        """Is there a row of this job, of today or yesterday, for a page that was computed and delivered?"""
        now = datetime.now(UTC)
        for day in (now, now - timedelta(days=1)):
            data = self._folder.read(_name(day, name))
            table = None if data is None else _table(_name(day, name), data)
            rows = [] if table is None else table.to_pylist()
            if any(row["status"] == "success" and not row["cached"] for row in rows):
                return True
        return False

    def _write(self, name: str, rows: list[dict[str, Any]]) -> None:
        now = datetime.now(UTC)
        self._put(_name(now, name), rows)
        self._folder.delete(_name(now - timedelta(days=1), name))

    def _put(self, name: str, rows: list[dict[str, Any]]) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        now, buffer = datetime.now(UTC), io.BytesIO()
        table = pa.Table.from_pylist([{"recorded_at": now, **row} for row in rows], schema=_schema())
        pq.write_table(table, buffer, write_page_checksum=True)
        self._folder.write(name, buffer.getvalue(), _PARQUET)

    def changed(self, since: datetime, seen: MutableMapping[str, str]) -> "Iterator[tuple[str, pa.Table]]":
        """Files written since a moment, with their rows, but for those that `seen` holds in that version; it takes
        them in. Only books and the jobs of the days since then are looked at.

        Raises:
            Transient: the bucket did not answer.
        """
        days = (datetime.now(UTC).date() - since.astimezone(UTC).date()).days
        folders = [
            _BOOKS,
            *(f"day={since.astimezone(UTC) + timedelta(days=n):%Y-%m-%d}/" for n in range(days + 1)),
        ]
        for file in (one for folder in folders for one in self._folder.files(folder)):
            if file.changed < since.timestamp() - _CLOCKS_APART or seen.get(file.name) == file.version:
                continue
            seen[file.name] = file.version
            table = _table(file.name, self._folder.read(file.name) or b"")
            if table is not None:
                yield file.name, table

    def read(self) -> "pd.DataFrame":
        """All rows, oldest first; empty when nothing was recorded yet."""
        import pyarrow as pa

        schema, tables = _schema(), []
        for file in self._folder.files():
            if file.name.startswith("_") or not file.name.endswith(".parquet"):
                continue
            table = _table(file.name, self._folder.read(file.name) or b"")
            if table is not None:
                tables.append(table)
        table = pa.concat_tables(tables) if tables else schema.empty_table()
        rows: pd.DataFrame = table.to_pandas()
        return rows.sort_values("recorded_at", ignore_index=True, kind="stable")


def open_ledger(settings: Settings) -> Ledger:
    """The ledger that the settings name."""
    return Ledger(open_folder(settings.ledger_location, settings))


def _name(day: datetime, name: str) -> str:
    return f"day={day:%Y-%m-%d}/{name}.parquet"


def _book_name(request: "BookRequest") -> str:
    """One file a finished book, whenever and however often it is done: its rows replace those of before."""
    return f"{_BOOKS}{digest_of(request.out)[:32]}.parquet"


def _table(name: str, data: bytes) -> "pa.Table | None":
    """The rows of a file of the ledger; None when it is damaged, which its checksums tell."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(io.BytesIO(data), page_checksum_verification=True)
        return _filled(table, _schema())
    except (pa.ArrowException, OSError, ValueError) as error:
        logger.warning("ledger file %s is left out: it is damaged (%s)", name, type(error).__name__)
        return None


def _filled(table: "pa.Table", schema: "pa.Schema") -> "pa.Table":
    """The table with every column: rows that an earlier version wrote lack some."""
    import pyarrow as pa

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
            ("job_id", text), ("owner", text), ("run_id", text), ("tool", text), ("book", text), ("page", text), ("page_number", whole),
            ("source", text), ("source_sha256", text), ("source_width", whole), ("source_height", whole),
            ("source_bytes", whole), ("content_key", text), ("status", text), ("route", text), ("cached", pa.bool_()),
            ("score_before", number), ("score_after", number), ("model", text), ("scale", number),
            ("seconds", number), *((seconds_column(stage), number) for stage in ledger_stages()),
            ("device_seconds", number), ("pool", text), ("cost", number), ("bytes", whole), ("out", text), ("error", text), ("message", text),
            ("notes", text),
        ]
    )  # fmt: skip


def _row(request: PageRequest, result: PageResult) -> dict[str, Any]:
    quality, source = result.quality, result.source
    return {
        "job_id": result.job_id,
        "owner": request.origin.owner,
        "tool": request.origin.tool,
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
        **_seconds(result.seconds),
        "device_seconds": result.cost.gpu_seconds if result.cost else None,
        "pool": result.cost.pool if result.cost else None,
        "cost": result.cost.usd if result.cost else None,
        "bytes": result.master.bytes if result.master else None,
        "out": request.out,
        "error": result.error.code if result.error else None,
        "message": result.error.message if result.error else None,
        "notes": _joined(result.notes),
    }


def _apportioned(pages: "Sequence[PageDone]", seconds: float) -> list[float]:
    """Each page's share of the time that a book took: pages are computed side by side, so that their own add up to
    more."""
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
        "notes": _joined(page.notes),
    }


def _joined(notes: Sequence[str]) -> str | None:
    return "; ".join(notes) or None


def _outcome_columns(outcome: Outcome, size: tuple[int, int] | None) -> dict[str, Any]:
    plan = outcome.plan
    return {
        "score_before": outcome.before.overall,
        "score_after": outcome.after.overall,
        "model": plan.model if plan else None,
        "scale": round(plan.width / size[0], 3) if plan and size else 1.0,
        **_seconds(outcome.seconds),
    }


def _seconds(seconds: dict[str, float]) -> dict[str, float | None]:
    return {"seconds": seconds.get("total")} | {
        seconds_column(stage): seconds.get(stage) for stage in ledger_stages()
    }
