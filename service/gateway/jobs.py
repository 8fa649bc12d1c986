"""Jobs are flow runs: created, read, listed and cancelled through Prefect's API."""

from collections.abc import Callable
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from urllib.parse import quote
from uuid import UUID

import httpx
from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.filters import (
    FlowFilter,
    FlowFilterName,
    FlowRunFilter,
    FlowRunFilterParentTaskRunId,
    FlowRunFilterState,
    FlowRunFilterStateName,
    FlowRunFilterStateType,
    FlowRunFilterTags,
    WorkPoolFilter,
    WorkPoolFilterName,
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.client.schemas.sorting import FlowRunSort
from prefect.exceptions import ObjectNotFound, PrefectException
from prefect.settings import PREFECT_CLIENT_MAX_RETRIES, PREFECT_UI_URL, temporary_settings
from prefect.states import Cancelled, Cancelling
from prefect.telemetry.run_telemetry import LABELS_TRACEPARENT_KEY

from deployments.checkout import pools
from deployments.names import ENHANCE_PAGE, PAGE_FLOWS
from orchestration.page_runs import DUPLICATE
from panelworks.domain.request import JobKey
from panelworks.errors import PanelworksError, Rejected, Transient
from panelworks.page.admission import AcceptedJob
from panelworks.telemetry import current_traceparent
from service.gateway.schemas import JobStatus

_MAX_RESTART_DELAY: Final = timedelta(minutes=1)
_RUNS_PER_PAGE: Final = 200
_MAX_SCANNED_RUNS: Final = 1000
_EVENTS_PER_PAGE: Final = 50
"""The server returns no more at once."""
_MAX_EVENTS: Final = 500
_DEPLOYMENT_OF_QUEUE: Final[dict[str, str]] = {
    "interactive": ENHANCE_PAGE,
    "events": "enhance-page/on-panel-generated",
    "backfill": "enhance-page/in-the-background",
}
"""The deployment that processes a generated panel, by queue; `prefect.yaml` has the same for Prefect's own events."""
_STATUS: Final[dict[StateType, JobStatus]] = {
    StateType.SCHEDULED: "queued",
    StateType.PENDING: "queued",
    StateType.PAUSED: "queued",
    StateType.RUNNING: "running",
    StateType.CANCELLING: "running",
    StateType.COMPLETED: "done",
    StateType.FAILED: "failed",
    StateType.CRASHED: "failed",
    StateType.CANCELLED: "cancelled",
}


def status_of(run: FlowRun) -> JobStatus:
    """The status that a run has for a client."""
    if run.state is None or _crashed_recently(run):
        return "queued"
    return _STATUS[run.state.type]


def meaning_of(state_type: str) -> JobStatus:
    """The status that a state type has for a client. A crashed run is queued: it is restarted, or ends with a result."""
    return "queued" if state_type == "CRASHED" else _STATUS[StateType(state_type)]


def key_of(run: FlowRun) -> JobKey:
    """The job of a run. Only the gateway and operators can set a run's parameters, so its owner is reliable."""
    origin = run.parameters.get("origin")
    owner = origin.get("owner") if isinstance(origin, dict) else None
    return JobKey(owner, str(run.parameters.get("job_id") or run.id))


def tool_of(run: FlowRun) -> str | None:
    """The tool that requested the page of a run."""
    origin = run.parameters.get("origin")
    return origin.get("tool") if isinstance(origin, dict) else None


def owner_tag(owner: str) -> str:
    """The tag of the runs of an API key. Texts of clients become tags only with a prefix of their own."""
    return f"owner:{owner}"


def _crashed_recently(run: FlowRun) -> bool:
    """Did the run crash a moment ago? Then the supervisor restarts it, or ends it with an event."""
    return (
        run.state is not None
        and run.state.type == StateType.CRASHED
        and datetime.now(UTC) - run.state.timestamp < _MAX_RESTART_DELAY
    )


def types_of(status: JobStatus) -> list[StateType]:
    """The state types that mean a status."""
    return [kind for kind, meaning in _STATUS.items() if meaning == status]


def run_url(run_id: UUID | str) -> str | None:
    """The run in the Prefect UI."""
    base = PREFECT_UI_URL.value()
    return f"{str(base).rstrip('/')}/runs/flow-run/{run_id}" if base else None


def events_url(resource_id: str) -> str | None:
    """The events of a resource in the Prefect UI."""
    base = PREFECT_UI_URL.value()
    return f"{str(base).rstrip('/')}/events?resource={quote(resource_id, safe='')}" if base else None


class Jobs:
    """The flow runs of pages. Use as an asynchronous context manager.

    Its methods raise `Transient` (`prefect_away`) when the server does not answer, or answers with a status that may be retried.
    """

    def __init__(self) -> None:
        self._stack = AsyncExitStack()
        self._client: PrefectClient | None = None
        self._deployments: dict[str, UUID] = {}

    async def __aenter__(self) -> "Jobs":
        self._client = await self._stack.enter_async_context(get_client())
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def submit(self, job: AcceptedJob) -> UUID:
        """Create the run of an accepted job; submitted again, it is the same run.

        Raises:
            Transient: `not_deployed`, the flows are not deployed yet.
        """
        request, origin = job.request, job.request.origin
        traceparent = current_traceparent() or origin.traceparent
        deployment = _DEPLOYMENT_OF_QUEUE[job.queue] if origin.entry_point == "event" else ENHANCE_PAGE
        tags = ["panelworks", origin.entry_point, f"tool:{origin.tool}"]
        try:
            if deployment not in self._deployments:
                found = await self.client.read_deployment_by_name(deployment)
                self._deployments[deployment] = found.id
            # A busy database is a 503: the outbox retries sooner than Prefect's client, which backs off for minutes.
            with temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0}):
                run = await self.client.create_flow_run_from_deployment(
                    self._deployments[deployment],
                    parameters=request.to_parameters(),
                    work_queue_name=job.queue,
                    tags=[*tags, owner_tag(origin.owner)] if origin.owner is not None else tags,
                    idempotency_key=job.idempotency_key,
                    labels={LABELS_TRACEPARENT_KEY: traceparent} if traceparent is not None else None,
                )
        except ObjectNotFound as error:
            self._deployments.clear()
            raise Transient("not_deployed", "The flows are not deployed; run 'panelworks up'.") from error
        except (httpx.HTTPError, PrefectException) as error:
            raise as_panelworks_error(error) from error
        return run.id

    async def read(self, run_id: UUID) -> FlowRun | None:
        """A run of our pools; None when there is none. Other runs of the server are not accessible here."""
        try:
            run = await self.client.read_flow_run(run_id)
            return run if run.work_pool_name in pools() else None
        except ObjectNotFound:
            return None
        except (httpx.HTTPError, PrefectException) as error:
            raise as_panelworks_error(error) from error

    async def find_named(self, job_id: str) -> FlowRun | None:
        """The newest run that an event started with this job id, among the last thousand; None when there is none."""
        key = JobKey(None, job_id)
        return next((run for run in await self._scan(lambda run: key_of(run) == key, 1)), None)

    async def list_runs(
        self, owner: str | None, *, status: JobStatus | None, tool: str | None, limit: int, offset: int
    ) -> list[FlowRun]:
        """Runs of pages, the newest first: those of one API key, or all when `owner` is None.

        `tool` also finds the runs of Prefect's own events, which have no tags, among the last thousand.
        """
        if tool is not None and owner is None:
            found = await self._scan(lambda run: tool_of(run) == tool, limit + offset, status)
            return found[offset:]
        tags = [owner_tag(owner)] if owner is not None else []
        tags += [f"tool:{tool}"] if tool is not None else []
        runs = await self._read(_filter_of(status, tags), limit, offset)
        return [run for run in runs if owner is None or key_of(run).owner == owner]

    async def _scan(
        self, wanted: Callable[[FlowRun], bool], count: int, status: JobStatus | None = None
    ) -> list[FlowRun]:
        found: list[FlowRun] = []
        for offset in range(0, _MAX_SCANNED_RUNS, _RUNS_PER_PAGE):
            runs = await self._read(_filter_of(status, []), _RUNS_PER_PAGE, offset)
            found += [run for run in runs if wanted(run)]
            if len(runs) < _RUNS_PER_PAGE or len(found) >= count:
                break
        return found[:count]

    async def _read(self, wanted: FlowRunFilter, limit: int, offset: int) -> list[FlowRun]:
        try:
            return await self.client.read_flow_runs(
                flow_filter=FlowFilter(name=FlowFilterName(any_=list(PAGE_FLOWS))),
                flow_run_filter=wanted,
                work_pool_filter=WorkPoolFilter(name=WorkPoolFilterName(any_=list(pools()))),
                sort=FlowRunSort.EXPECTED_START_TIME_DESC,
                limit=limit,
                offset=offset,
            )
        except (httpx.HTTPError, PrefectException) as error:
            raise as_panelworks_error(error) from error

    async def cancel(self, run: FlowRun) -> None:
        """Cancel a run: at once while it waits, within seconds while it runs.

        Raises:
            Rejected: `job_ended`.
        """
        if run.state is None or run.state.is_final():
            raise Rejected("job_ended", "This job has ended.")
        try:
            # A worker that has taken the run could change Cancelled to Running. It changes Cancelling only to a final state.
            await self.client.set_flow_run_state(run.id, Cancelling())
            if run.state.type == StateType.SCHEDULED and not await self._was_taken(run.id):
                await self.client.set_flow_run_state(run.id, Cancelled(message="Cancelled over HTTP."))
        except (httpx.HTTPError, PrefectException) as error:
            raise as_panelworks_error(error) from error

    async def _was_taken(self, run_id: UUID) -> bool:
        """Has a worker taken the run since it was last scheduled? Then that worker ends it once it is Cancelling."""
        states = sorted(await self.client.read_flow_run_states(run_id), key=lambda state: state.timestamp)
        since = (state for state in reversed(states) if state.type != StateType.CANCELLING)
        latest = next(since, None)
        return latest is not None and latest.type != StateType.SCHEDULED

    async def emit(self, event: dict[str, Any]) -> None:
        """Send an event to the server."""
        try:
            await self.client.request("POST", "/events", json=[event])
        except (httpx.HTTPError, PrefectException) as error:
            raise as_panelworks_error(error) from error

    async def read_events(self, resource_id: str) -> list[dict[str, Any]]:
        """The stored events of a resource, the oldest first."""
        query = {"filter": {"resource": {"id": [resource_id]}, "order": "ASC"}, "limit": _EVENTS_PER_PAGE}
        events: list[dict[str, Any]] = []
        try:
            answer = (await self.client.request("POST", "/events/filter", json=query)).json()
            events += answer["events"]
            while answer["next_page"] and len(events) < _MAX_EVENTS:
                token = httpx.URL(answer["next_page"]).params["page-token"]
                following = await self.client.request(
                    "GET", "/events/filter/next", params={"page-token": token}
                )
                answer = following.json()
                events += answer["events"]
        except (httpx.HTTPError, PrefectException) as error:
            raise as_panelworks_error(error) from error
        return events

    @property
    def client(self) -> PrefectClient:
        """The client of the running gateway."""
        if self._client is None:
            raise RuntimeError("Jobs is used outside of its context")
        return self._client


def _filter_of(status: JobStatus | None, tags: list[str]) -> FlowRunFilter:
    """Runs of pages, without those of repeated events and without subflows."""
    types = FlowRunFilterStateType(any_=types_of(status)) if status else None
    return FlowRunFilter(
        state=FlowRunFilterState(type=types, name=FlowRunFilterStateName(not_any_=[DUPLICATE])),
        tags=FlowRunFilterTags(all_=tags) if tags else None,
        parent_task_run_id=FlowRunFilterParentTaskRunId(is_null_=True),
    )


def as_panelworks_error(error: Exception) -> PanelworksError:
    """The error for one of Prefect's client: `Transient` when the request may succeed later."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status is not None and 400 <= status < 500 and status not in (408, 429):
        return Rejected("bad_request", f"The Prefect server refused this ({status}).")
    if status is not None:
        return Transient("prefect_away", f"The Prefect server answered {status}.")
    return Transient("prefect_away", f"The Prefect server did not answer ({type(error).__name__}).")
