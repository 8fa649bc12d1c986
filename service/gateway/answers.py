"""Jobs and their results in the schemas of the responses."""

import asyncio
from typing import Annotated
from urllib.parse import quote
from uuid import UUID

from fastapi import Query
from prefect.client.schemas.objects import FlowRun

from panelworks.domain.request import JobKey
from panelworks.domain.result import ArtifactRef, DeliveredVariant, ErrorInfo, JobRecord, PageResult
from panelworks.errors import Rejected, Transient
from panelworks.page.admission import AcceptedJob
from panelworks.settings import Settings
from panelworks.sources.fetch import short_name
from panelworks.storage.headers import public_url
from panelworks.storage.links import make_link
from service.gateway.access import Caller
from service.gateway.jobs import key_of, run_url, status_of
from service.gateway.schemas import Job, JobStatus, JobSummary, Link
from service.gateway.state import GatewayState

Owner = Annotated[
    str | None, Query(max_length=200, description="For admin keys: whose job; empty for jobs without a key.")
]
_ROOT = "/api/enhancement"
_ENDED = {"failed": "failed before it could record a result", "cancelled": "was cancelled"}


def status_url(job_id: str) -> str:
    """Path of a job's status."""
    return f"{_ROOT}/status/{quote(job_id, safe='')}"


def preview_url(job_id: str) -> str:
    """Path of a job's preview."""
    return f"{_ROOT}/{quote(job_id, safe='')}/preview"


def progress_url(job_id: str) -> str:
    """Path of a job's WebSocket."""
    return f"{_ROOT}/progress/{quote(job_id, safe='')}"


async def finished(result: PageResult, settings: Settings) -> Job:
    """The response for a job whose result is known."""
    return await asyncio.to_thread(_finished, result, settings)


def _finished(result: PageResult, settings: Settings) -> Job:
    status: JobStatus = "done" if result.status == "success" else "failed"
    return Job(
        job_id=result.job_id,
        status=status,
        stage="record",
        percent=100,
        status_url=status_url(result.job_id),
        progress_url=progress_url(result.job_id),
        placeholder=result.placeholder,
        preview_url=preview_url(result.job_id) if result.preview is not None else None,
        links=links_of(result, settings),
        master=_master_of(result, settings),
        result=result,
        error=result.error,
    )


def links_of(result: PageResult, settings: Settings) -> tuple[Link, ...]:
    """Links to the variants of a result: at the gateway, and those that need no key. Signing can read credentials."""
    return tuple(_link_to(one.name, one, result, settings) for one in result.variants)


def _master_of(result: PageResult, settings: Settings) -> Link | None:
    return None if result.master is None else _link_to("master", result.master, result, settings)


def _link_to(
    name: str, picture: DeliveredVariant | ArtifactRef, result: PageResult, settings: Settings
) -> Link:
    signed = make_link(picture.uri, settings)
    return Link(
        name=name,
        url=f"{_ROOT}/{quote(result.job_id, safe='')}/variants/{quote(name)}",
        uri=picture.uri,
        width=picture.width,
        height=picture.height,
        bytes=picture.bytes,
        public_url=public_url(picture.uri, settings),
        signed_url=signed.url if signed else None,
        expires_at=signed.expires_at if signed else None,
    )


def pending_summary(job: AcceptedJob) -> JobSummary:
    """A job without a run in a list."""
    key = job.request.key
    return JobSummary(
        job_id=key.job_id,
        owner=key.owner,
        name=short_name(job.request.source),
        status="queued",
        queue=job.queue,
        created=job.accepted_at,
        started=None,
        ended=None,
        status_url=status_url(key.job_id),
    )


def summary_of(run: FlowRun, state: GatewayState) -> JobSummary:
    """A run in a list."""
    key = key_of(run)
    end = state.event_stream.end_of(key)
    source = run.parameters.get("source")
    return JobSummary(
        job_id=key.job_id,
        owner=key.owner,
        name=short_name(source) if isinstance(source, str) else run.name,
        status=end["status"] if end else status_of(run),
        queue=run.work_queue_name,
        created=run.created,
        started=run.start_time,
        ended=run.end_time,
        status_url=status_url(key.job_id),
    )


async def key_for(job_id: str, caller: Caller, owner: str | None, state: GatewayState) -> JobKey:
    """The job that a caller names. A key names its own jobs; an admin key those of all keys, its own first.

    Args:
        job_id: The id in the address.
        caller: Who made the request.
        owner: The key that an admin key named (`?owner=`); empty text for jobs without a key.
        state: The gateway.

    Raises:
        Rejected: `unknown_job`, the caller may not see jobs of this owner.
    """
    if not caller.admin:
        if owner is not None and owner != caller.owner:
            raise unknown_job()
        return JobKey(caller.owner, job_id)
    if owner is not None:
        return JobKey(owner or None, job_id)
    for name in dict.fromkeys((caller.owner, *state.access.keys.names)):
        if name is not None and await asyncio.to_thread(_is_stored, JobKey(name, job_id), state):
            return JobKey(name, job_id)
    return JobKey(None, job_id)


async def record_of(job_id: str, caller: Caller, owner: str | None, state: GatewayState) -> JobRecord:
    """The record of a finished job; arguments as `key_for`.

    Raises:
        Rejected: `unknown_job`.
    """
    key = await key_for(job_id, caller, owner, state)
    record = await asyncio.to_thread(state.engine.jobs.job, key)
    if record is None:
        raise unknown_job()
    return record


def _is_stored(key: JobKey, state: GatewayState) -> bool:
    return state.engine.accepted.find(key) is not None or state.engine.jobs.job(key) is not None


def unknown_job() -> Rejected:
    """The error for a job that does not exist, or belongs to another key: the same for both."""
    return Rejected("unknown_job", "There is no such job.")


async def run_of(key: JobKey, state: GatewayState, accepted: AcceptedJob | None) -> FlowRun | None:
    """The run of a job; None while it has none."""
    if accepted is not None:
        return await state.jobs.read(UUID(accepted.run_id)) if accepted.run_id else None
    if key.owner is not None:
        return None  # jobs of keys are accepted by a gateway, or their known result was returned
    run_id = _uuid(key.job_id)
    run = await state.jobs.read(run_id) if run_id else None
    if run is not None:
        return run if key_of(run).owner is None else None
    holder = await asyncio.to_thread(state.engine.accepted.claimed_by, key)
    known_run = _uuid(holder or state.event_stream.run_id_of(key) or "")
    run = await state.jobs.read(known_run) if known_run else None
    if run is None and state.event_stream.end_of(key) is None:
        run = await state.jobs.find_named(key.job_id)  # it waits, or ended before its first stage
    if run is not None:
        state.event_stream.set_run(key, str(run.id))
    return run


async def job_of(key: JobKey, state: GatewayState) -> Job:
    """The status of a job, and its result when it has ended.

    Raises:
        Rejected: `unknown_job`.
    """
    accepted = await asyncio.to_thread(state.engine.accepted.find, key)
    if accepted is not None:
        state.event_stream.drop_earlier_attempt(accepted)
    if accepted is not None and not accepted.settled:
        return _unfinished(key, "queued", state)
    record = await asyncio.to_thread(state.engine.jobs.job, key)
    try:
        run = await run_of(key, state, accepted)
    except Transient:
        if record is None:
            raise
        run = None
    is_known = state.event_stream.knows(key) if key.owner is None else False
    if run is None and record is None and accepted is None and not is_known:
        raise unknown_job()
    end = state.event_stream.end_of(key)
    without_run: JobStatus = "queued" if accepted is None else "failed"  # the run was deleted in Prefect
    status: JobStatus = status_of(run) if run else end["status"] if end else without_run
    # The event of the end arrives a moment before the run reaches its last state.
    ended = run is None or status not in ("queued", "running") or end is not None
    job = (
        await finished(record.result, state.settings)
        if record is not None and ended
        else _unfinished(key, status, state)
    )
    if job.status in ("failed", "cancelled") and job.error is None:
        job = job.model_copy(
            update={
                "error": ErrorInfo(code=job.status, message=f"The run {_ENDED[job.status]}.", fault="service")
            }
        )
    if run is None:
        return job
    return job.model_copy(update={"flow_run_id": str(run.id), "run_url": run_url(run.id)})


def _unfinished(key: JobKey, status: JobStatus, state: GatewayState) -> Job:
    job = Job(
        job_id=key.job_id,
        status=status,
        status_url=status_url(key.job_id),
        progress_url=progress_url(key.job_id),
    )
    if early := state.event_stream.preview_of(key):
        known = {"placeholder": early["placeholder"], "preview_url": preview_url(key.job_id)}
        job = Job.model_validate({**job.model_dump(), **known})
    messages = state.event_stream.track(key).messages
    last = next((m for m in reversed(messages) if m["type"] == "progress"), None)
    return job.model_copy(update={"stage": last["stage"], "percent": last["percent"]}) if last else job


def _uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None
