"""The ledger: one row a job, for ever.

Every row is a small Parquet file of its own, so that any number of workers can append at once without
a lock; `pandas.read_parquet(folder)` reads them as one table.
"""

import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from panelworks.errors import Misconfigured
from panelworks.keys import digest_of
from panelworks.records import PageRequest, PageResult
from panelworks.sources.fetch import shown

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa


class Ledger:
    """Rows under a local folder, in one subfolder a day."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def append(self, request: PageRequest, result: PageResult) -> None:
        """Write the row of one finished page, good or bad.

        The row of a job is named for it: a run that is repeated after a crash replaces its row.

        Raises:
            Misconfigured: `ledger_not_writable`.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        now = datetime.now(UTC)
        table = pa.Table.from_pylist([_row(request, result, now)], schema=_schema())
        folder = self._folder_of(now)
        name = f"{digest_of(result.job_id)[:32]}.parquet"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            hidden = folder / f".{name}-{uuid.uuid4().hex[:8]}"
            pq.write_table(table, hidden)
            hidden.rename(folder / name)
            (self._folder_of(now - timedelta(days=1)) / name).unlink(missing_ok=True)
        except OSError as error:
            raise Misconfigured(
                "ledger_not_writable", f"The ledger in {self._folder} cannot be written ({error.strerror})."
            ) from error

    def _folder_of(self, day: datetime) -> Path:
        return self._folder / f"day={day:%Y-%m-%d}"

    def read(self) -> "pd.DataFrame":
        """All rows, oldest first; empty when nothing was recorded yet."""
        import pandas as pd

        if not any(self._folder.glob("day=*/*.parquet")):
            return pd.DataFrame(columns=_schema().names)
        return pd.read_parquet(self._folder).sort_values("recorded_at", ignore_index=True)


def _schema() -> "pa.Schema":
    import pyarrow as pa

    return pa.schema(
        [
            ("recorded_at", pa.timestamp("us", tz="UTC")),
            ("job_id", pa.string()),
            ("tool", pa.string()),
            ("source", pa.string()),
            ("source_sha256", pa.string()),
            ("content_key", pa.string()),
            ("status", pa.string()),
            ("route", pa.string()),
            ("cached", pa.bool_()),
            ("score_before", pa.float64()),
            ("score_after", pa.float64()),
            ("model", pa.string()),
            ("scale", pa.float64()),
            ("seconds", pa.float64()),
            ("bytes", pa.int64()),
            ("out", pa.string()),
            ("error", pa.string()),
        ]
    )


def _row(request: PageRequest, result: PageResult, now: datetime) -> dict[str, Any]:
    quality, source = result.quality, result.source
    return {
        "recorded_at": now,
        "job_id": result.job_id,
        "tool": request.origin.tool,
        "source": source.uri if source else shown(request.source)[:200],
        "source_sha256": source.sha256 if source else None,
        "content_key": result.content_key,
        "status": result.status,
        "route": result.route,
        "cached": result.cached,
        "score_before": quality.before.overall if quality else None,
        "score_after": quality.after.overall if quality else None,
        "model": result.model,
        "scale": result.scale,
        "seconds": result.seconds.get("total"),
        "bytes": result.master.bytes if result.master else None,
        "out": request.out,
        "error": result.error.code if result.error else None,
    }
