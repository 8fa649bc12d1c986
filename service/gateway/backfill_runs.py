"""Runs of backfills and of books in Prefect: started, found, and their progress read."""

import asyncio
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, Generic, TypeVar
from uuid import UUID

import httpx
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterFlowRunId,
    ArtifactFilterType,
    FlowFilter,
    FlowFilterName,
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
    WorkPoolFilter,
    WorkPoolFilterName,
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.client.schemas.sorting import FlowRunSort
from prefect.exceptions import ObjectNotFound, PrefectException
from pydantic import Field

from deployments.checkout import pools
from panelworks.books.backfill import Backfill
from panelworks.books.report import report_of_backfill
from panelworks.domain.books import book_id
from panelworks.errors import Rejected, Transient
from panelworks.page.engine import Engine
from panelworks.storage import open_folder
from panelworks.storage.location import Location
from service.gateway.book_index import OpenRun
from service.gateway.event_stream import BACKFILL_FLOW, BOOK_FLOW, EventStream
from service.gateway.jobs import Jobs, as_panelworks_error, run_url, status_of
from service.gateway.schemas import JobStatus, Schema

T = TypeVar("T")
_DEPLOYMENT: Final = "backfill/backfill"
_OPEN_STATES: Final = [StateType.SCHEDULED, StateType.PENDING, StateType.RUNNING, StateType.CANCELLING]
_MAX_OPEN_RUNS: Final = 200
_MAX_LISTED: Final = 20
_CACHE_SECONDS: Final = 4.0
"""Age at which runs are read again without an event: an event may be lost."""


class BackfillRun(Schema):
    """A backfill."""

    backfill_id: str
    archive: str
    out: str
    status: JobStatus
    is_stopping: bool = Field(description="It was cancelled; books in progress are finished.")
    message: str | None = Field(None, description="What Prefect says of its state.")
    created: datetime | None
    started: datetime | None
    ended: datetime | None
    percent: float | None = Field(
        None, description="Finished share of its books; null before the first one ended."
    )
    progress: str | None = Field(None, description="The same as text.")
    run_url: str | None
    has_report: bool = False
    books: tuple[OpenRun, ...] = Field((), description="Its books that wait or run; only of one backfill.")


class _Reading(Generic[T]):
    """What was read of Prefect."""

    def __init__(self, value: T, changes: int) -> None:
        """`changes` is `EventStream.book_changes` before it was read."""
        self.value, self._changes, self._read_at = value, changes, time.monotonic()

    def is_current(self, events: EventStream) -> bool:
        """Is there no need to read again?"""
        return events.book_changes == self._changes and time.monotonic() - self._read_at < _CACHE_SECONDS


class BackfillWork:
    """Reads and starts runs of backfills and books. Methods raise `Transient` when Prefect does not answer."""

    def __init__(self, engine: Engine, jobs: Jobs, events: EventStream) -> None:
        self._jobs = jobs
        self._events = events
        self._engine = engine
        self._open: _Reading[dict[str, OpenRun]] | None = None
        self._newest: _Reading[tuple[BackfillRun, ...]] | None = None

    def expire(self) -> None:
        """A backfill was started or cancelled: the next request reads them again."""
        self._newest = None

    async def start(self, wanted: Backfill, until: str | None) -> FlowRun:
        """Create the run of a backfill.

        Raises:
            Transient: `not_deployed`, or Prefect does not answer.
        """
        client = self._jobs.client
        try:
            deployment = await client.read_deployment_by_name(_DEPLOYMENT)
            return await client.create_flow_run_from_deployment(
                deployment.id,
                parameters={
                    "archive": wanted.archive,
                    "out": wanted.out,
                    "options": wanted.options.model_dump(mode="json", exclude_defaults=True),
                    "until": until,
                    "budget": wanted.budget,
                    "force": wanted.force,
                },
                tags=["panelworks", "backfill"],
            )
        except ObjectNotFound as error:
            raise Transient("not_deployed", "The flows are not deployed; run 'panelworks up'.") from error
        except (httpx.HTTPError, PrefectException) as error:
            raise as_panelworks_error(error) from error

    async def find(self, backfill_id: str) -> FlowRun:
        """The run of a backfill.

        Raises:
            Rejected: `not_found`. Transient: as above.
        """
        try:
            wanted = UUID(backfill_id)
        except ValueError as error:
            raise _unknown_backfill() from error
        run = await self._jobs.read(wanted)
        if run is None or "archive" not in run.parameters:
            raise _unknown_backfill()
        return run

    async def list_newest(self) -> tuple[BackfillRun, ...]:
        """The backfills that were started last; those that a schedule starts later are not listed."""
        if self._newest is not None and self._newest.is_current(self._events):
            return self._newest.value
        changes = self._events.book_changes
        created = [kind for kind in StateType if kind != StateType.SCHEDULED]
        started = await self._read(BACKFILL_FLOW, _MAX_LISTED, created)
        waiting = await self._read(BACKFILL_FLOW, _MAX_LISTED, [StateType.SCHEDULED])
        due = [run for run in waiting if not run.auto_scheduled]
        runs = sorted((*started, *due), key=_created_at, reverse=True)[:_MAX_LISTED]
        found = await self.describe(runs)
        self._newest = _Reading(found, changes)
        return found

    async def describe(self, runs: Sequence[FlowRun]) -> tuple[BackfillRun, ...]:
        """Runs of backfills with their progress."""
        shares = await self.progress_of(runs)
        reports = await asyncio.to_thread(self._find_reports, [str(run.id) for run in runs])
        return tuple(_described(run, shares, reports) for run in runs)

    async def open_books(self) -> dict[str, OpenRun]:
        """The runs of books that have not ended, by the ids of the books."""
        if self._open is not None and self._open.is_current(self._events):
            return self._open.value
        changes = self._events.book_changes
        runs = await self._read(BOOK_FLOW, _MAX_OPEN_RUNS, _OPEN_STATES)
        running = [run for run in runs if run.state_type == StateType.RUNNING]
        shares = await self.progress_of(running)
        found = {}
        for run in runs:
            source, out = (str(run.parameters.get(name) or "") for name in ("source", "out"))
            if out.lower().endswith(".cbz"):
                percent, _ = shares.get(str(run.id), (None, None))
                place = str(Location.parse(out).absolute())
                found[book_id(place)] = OpenRun(
                    run_id=str(run.id),
                    source=source,
                    out=place,
                    is_running=run in running,
                    percent=percent,
                    backfill_id=str(run.parameters.get("run_id") or "") or None,
                )
        self._open = _Reading(found, changes)
        return found

    async def progress_of(self, runs: Iterable[FlowRun]) -> dict[str, tuple[float | None, str | None]]:
        """Percent and text of the progress that runs show in Prefect, by their ids; runs that show none are left out."""
        ids = [run.id for run in runs]
        if not ids:
            return {}
        try:
            artifacts = await self._jobs.client.read_artifacts(
                artifact_filter=ArtifactFilter(
                    flow_run_id=ArtifactFilterFlowRunId(any_=ids), type=ArtifactFilterType(any_=["progress"])
                )
            )
        except (httpx.HTTPError, PrefectException) as error:
            raise as_panelworks_error(error) from error
        return {
            str(one.flow_run_id): (_percent(one.data), one.description)
            for one in artifacts
            if one.task_run_id is None
        }

    def read_report(self, run: FlowRun) -> bytes | None:
        """The HTML report of a backfill; None if none of its pages has been recorded.

        A run writes it at its end. One that was stopped, or still runs, has the report of what was recorded so far.
        """
        engine, run_id = self._engine, str(run.id)
        stored = open_folder(engine.settings.ledger_location, engine.settings).read(f"_reports/{run_id}.html")
        if stored is not None:
            return stored
        statistics, html = report_of_backfill(
            engine.ledger.read(), run_id, str(run.parameters["archive"]), engine.settings
        )
        return html.encode() if statistics.pages else None

    def _find_reports(self, backfill_ids: Iterable[str]) -> frozenset[str]:
        """The backfills of these that have a report."""
        settings = self._engine.settings
        folder = open_folder(settings.ledger_location, settings)
        return frozenset(one for one in backfill_ids if folder.exists(f"_reports/{one}.html"))

    async def _read(self, flow: str, limit: int, states: Sequence[StateType]) -> list[FlowRun]:
        try:
            return await self._jobs.client.read_flow_runs(
                flow_filter=FlowFilter(name=FlowFilterName(any_=[flow])),
                flow_run_filter=FlowRunFilter(
                    state=FlowRunFilterState(type=FlowRunFilterStateType(any_=list(states)))
                ),
                work_pool_filter=WorkPoolFilter(name=WorkPoolFilterName(any_=list(pools()))),
                sort=FlowRunSort.EXPECTED_START_TIME_DESC,
                limit=limit,
            )
        except (httpx.HTTPError, PrefectException) as error:
            raise as_panelworks_error(error) from error


def _described(
    run: FlowRun, shares: Mapping[str, tuple[float | None, str | None]], reports: Collection[str]
) -> BackfillRun:
    percent, progress = shares.get(str(run.id), (None, None))
    status = status_of(run)
    return BackfillRun(
        backfill_id=str(run.id), archive=str(run.parameters["archive"]), out=str(run.parameters.get("out")),
        status=status, is_stopping=run.state_type == StateType.CANCELLING,
        message=run.state.message if run.state and status not in ("queued", "running") else None,
        created=run.created, started=run.start_time, ended=run.end_time, percent=percent, progress=progress,
        run_url=run_url(run.id), has_report=str(run.id) in reports or (run.end_time is not None and run.start_time is not None),
    )  # fmt: skip


def _unknown_backfill() -> Rejected:
    return Rejected("not_found", "There is no such backfill.")


def _created_at(run: FlowRun) -> float:
    return 0.0 if run.created is None else run.created.timestamp()


def _percent(data: Any) -> float | None:
    return float(data) if isinstance(data, int | float) else None
