"""Batches: pages that were posted together, with one progress, one summary and one callback.

A batch is stored durably before the client gets an answer, as accepted jobs are. Its record never changes. Its state says which
rows were started and how they ended; the process that runs the batch writes it. A batch is open until its end was
reported.
"""

import logging
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Final, Literal, Self, TypeVar

from pydantic import AwareDatetime, Field, ValidationError

from panelworks.domain.fields import Frozen, digest_of
from panelworks.domain.options import EnhanceOptions
from panelworks.domain.plan import Route
from panelworks.domain.request import JobKey, Origin, PageRequest, job_digest
from panelworks.domain.result import ErrorInfo, PageResult
from panelworks.storage.folder import ObjectFolder

logger = logging.getLogger(__name__)

BatchStatus = Literal["running", "cancelling", "done", "cancelled"]
RowStatus = Literal["waiting", "running", "done", "failed", "refused", "cancelled"]
"""`refused`: the row cannot be used, and no job was started; `failed`: its page could not be delivered."""
MAX_LISTED_PROBLEMS: Final = 100
"""Rows with errors in a callback and in an event."""
_JSON: Final = "application/json"
_OPEN: Final = "batches/open/"
_LISTED: Final = "batches/listed/"
Record = TypeVar("Record", "Batch", "BatchState")


class BatchRow(Frozen):
    """A page of a batch."""

    row: int
    """Number of the row in the manifest, or of the file."""
    name: str
    """The source as the client named it."""
    source: str
    job_id: str
    options: int = 0
    """Index in `Batch.options`."""
    error: ErrorInfo | None = Field(None, exclude_if=lambda given: given is None)
    """Why the row was refused."""


class Batch(Frozen):
    """A batch as it was accepted."""

    batch_id: str
    created_at: AwareDatetime
    out: str
    queue: str
    force: bool = False
    callback: str | None = None
    origin: Origin
    """Of each of its jobs; the jobs have no callback."""
    options: tuple[EnhanceOptions, ...]
    """The different options of the rows."""
    rows: tuple[BatchRow, ...]
    notes: tuple[str, ...] = ()

    @property
    def key(self) -> JobKey:
        """The identity of the batch: two API keys may use one id for different batches."""
        return JobKey(self.origin.owner, self.batch_id)

    @property
    def content(self) -> str:
        """Digest of what the batch requests, without when it was posted."""
        given = self.model_dump(mode="json", include={"out", "queue", "force", "callback", "options", "rows"})
        return digest_of([given, self.origin.model_dump(mode="json", exclude={"traceparent"})])

    def request_of(self, row: BatchRow) -> PageRequest:
        """The request for the page of a row."""
        return PageRequest(
            source=row.source,
            out=self.out,
            options=self.options[row.options],
            job_id=row.job_id,
            origin=self.origin,
            force=self.force,
        )


class RowOutcome(Frozen):
    """How a row ended."""

    status: Literal["done", "failed", "refused", "cancelled"]
    route: Route | None = None
    cached: bool = False
    seconds: float = 0.0
    """Of computation; 0 for a cached result."""
    usd: float | None = None
    error: ErrorInfo | None = None

    @classmethod
    def of(cls, result: PageResult) -> Self:
        """The outcome of a job that has ended."""
        return cls(
            status="done" if result.status == "success" else "failed",
            route=result.route,
            cached=result.cached,
            seconds=0.0 if result.cached else result.seconds.get("total", 0.0),
            usd=result.cost.usd if result.cost is not None and not result.cached else None,
            error=result.error,
        )


class BatchState(Frozen):
    """What was done of a batch so far."""

    started: int = 0
    """Rows before this index were started, or need no start."""
    outcomes: dict[int, RowOutcome] = Field(default_factory=dict)
    """Of the rows that have ended, by their index."""
    cancelled: bool = False
    ended_at: AwareDatetime | None = None


class BatchCounts(Frozen):
    """Rows by their status."""

    total: int
    waiting: int = 0
    running: int = 0
    """Started and not ended: in a queue, or processed."""
    done: int = 0
    failed: int = 0
    refused: int = 0
    cancelled: int = 0


class BatchRowStatus(Frozen):
    """A row and what became of it."""

    row: int
    name: str
    job_id: str | None
    """None for a row that was refused."""
    status: RowStatus
    route: Route | None = None
    cached: bool = False
    error: ErrorInfo | None = None


class BatchSummary(Frozen):
    """A batch: its progress and, once it has ended, its summary."""

    batch_id: str
    owner: str | None
    status: BatchStatus
    created_at: AwareDatetime
    ended_at: AwareDatetime | None
    percent: float
    """Rows that have ended."""
    counts: BatchCounts
    routes: dict[str, int]
    """Delivered pages by route."""
    cached: int
    """Pages whose result was known."""
    seconds: float
    """Of computation, of all pages together."""
    usd: float | None
    """US dollars; None if no pool has a price."""
    notes: tuple[str, ...] = ()
    problems: tuple[BatchRowStatus, ...] = ()
    """The first rows that were refused or failed."""


def rows_of(batch: Batch, state: BatchState) -> Iterator[BatchRowStatus]:
    """All rows with their status."""
    for index, row in enumerate(batch.rows):
        outcome = state.outcomes.get(index)
        started: RowStatus = "running" if index < state.started else "waiting"
        status: RowStatus = outcome.status if outcome else "refused" if row.error else started
        yield BatchRowStatus(
            row=row.row,
            name=row.name,
            job_id=None if status == "refused" else row.job_id,
            status=status,
            route=outcome.route if outcome else None,
            cached=bool(outcome and outcome.cached),
            error=(outcome.error if outcome else None) or row.error,
        )


def summarize(batch: Batch, state: BatchState, *, cancelling: bool = False) -> BatchSummary:
    """The summary of a batch. `cancelling`: its cancellation was requested."""
    rows = list(rows_of(batch, state))
    counts = Counter(row.status for row in rows)
    outcomes = state.outcomes.values()
    prices = [outcome.usd for outcome in outcomes if outcome.usd is not None]
    ended = len(rows) - counts["waiting"] - counts["running"]
    stopped = state.cancelled or cancelling
    status: BatchStatus = "cancelling" if stopped else "running"
    if state.ended_at is not None:
        status = "cancelled" if state.cancelled else "done"
    problems = [row for row in rows if row.status in ("refused", "failed")]
    return BatchSummary(
        batch_id=batch.batch_id,
        owner=batch.origin.owner,
        status=status,
        created_at=batch.created_at,
        ended_at=state.ended_at,
        percent=round(100 * ended / len(rows), 1),
        counts=BatchCounts.model_validate({"total": len(rows), **counts}),
        routes=dict(Counter(outcome.route for outcome in outcomes if outcome.route is not None)),
        cached=sum(outcome.cached for outcome in outcomes),
        seconds=round(sum(outcome.seconds for outcome in outcomes), 3),
        usd=sum(prices) if prices else None,
        notes=batch.notes,
        problems=tuple(problems[:MAX_LISTED_PROBLEMS]),
    )


class Batches:
    """The batches of the working store, which all gateways share."""

    def __init__(self, folder: ObjectFolder) -> None:
        self._folder = folder

    def store(self, batch: Batch) -> Batch:
        """Store a batch; returns it, or the batch that has its id."""
        known = self.find(batch.key)
        if known is not None:
            return known
        digest = job_digest(batch.key)
        # The mark is first: a batch whose record exists is always run.
        self._folder.write(f"{_OPEN}{digest}.json", b"{}", _JSON)
        if not self._folder.create(_record_name(digest), batch.model_dump_json().encode(), _JSON):
            return self.find(batch.key) or batch
        listed = f"{_listed_folder(batch.origin.owner)}{batch.created_at:%Y%m%d%H%M%S%f}-{digest}.json"
        self._folder.write(listed, b"{}", _JSON)
        return batch

    def find(self, key: JobKey) -> Batch | None:
        """The batch of this identity; None if there is none."""
        return self._read(Batch, _record_name(job_digest(key)))

    def list_newest(self, owner: str | None, limit: int, offset: int, *, of_all: bool = False) -> list[Batch]:
        """Batches of an owner, or `of_all`, the newest first."""
        files = self._folder.files(_LISTED if of_all else _listed_folder(owner))
        names = sorted((file.name.rpartition("/")[2] for file in files), reverse=True)
        digests = [name.removesuffix(".json").rpartition("-")[2] for name in names[offset : offset + limit]]
        found = (self._read(Batch, _record_name(digest)) for digest in digests)
        return [batch for batch in found if batch is not None]

    def open_batches(self) -> Iterator[tuple[str, float]]:
        """The digests of all batches that have not ended, and when each was last worked on, in seconds since 1970."""
        for file in list(self._folder.files(_OPEN)):
            digest = file.name.removeprefix(_OPEN).removesuffix(".json")
            state = self._folder.info(_state_name(digest))
            yield digest, max(file.changed, state.changed if state is not None else 0.0)

    def read_open(self, digest: str) -> Batch | None:
        """The record of an open batch; None while it is being stored."""
        return self._read(Batch, _record_name(digest))

    def is_open(self, batch: Batch) -> bool:
        """Is the batch not ended, or its end not reported?"""
        return self._folder.exists(f"{_OPEN}{job_digest(batch.key)}.json")

    def close(self, batch: Batch) -> None:
        """The end of the batch was reported."""
        self._folder.delete(f"{_OPEN}{job_digest(batch.key)}.json")

    def state(self, batch: Batch) -> BatchState:
        """What was done of a batch so far."""
        return self._read(BatchState, _state_name(job_digest(batch.key))) or BatchState()

    def write_state(self, batch: Batch, state: BatchState) -> None:
        """Store what was done of a batch; also shows that its process is alive."""
        self._folder.write(_state_name(job_digest(batch.key)), state.model_dump_json().encode(), _JSON)

    def request_cancellation(self, batch: Batch) -> None:
        """Have a batch cancelled by the process that runs it."""
        at = datetime.now(UTC).isoformat()
        self._folder.write(_cancelled_name(batch), f'{{"at": "{at}"}}'.encode(), _JSON)

    def is_cancelled(self, batch: Batch) -> bool:
        """Was the cancellation of the batch requested?"""
        return self._folder.exists(_cancelled_name(batch))

    def _read(self, kind: type[Record], name: str) -> Record | None:
        data = self._folder.read(name)
        try:
            return kind.model_validate_json(data) if data is not None else None
        except ValidationError as error:
            logger.error("%s is ignored: it is damaged: %d errors", name, error.error_count())
            return None


def _record_name(digest: str) -> str:
    return f"batches/records/{digest}.json"


def _state_name(digest: str) -> str:
    return f"batches/states/{digest}.json"


def _cancelled_name(batch: Batch) -> str:
    return f"batches/cancelled/{job_digest(batch.key)}.json"


def _listed_folder(owner: str | None) -> str:
    return f"{_LISTED}{digest_of(owner)[:32]}/"
