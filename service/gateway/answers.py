"""Jobs and their results in the shapes that are answered."""

import asyncio
from urllib.parse import quote
from uuid import UUID

from prefect.client.schemas.objects import FlowRun

from panelworks.errors import Rejected
from panelworks.records import ErrorInfo, PageResult
from service.gateway.jobs import run_url, status_of
from service.gateway.shapes import Job, JobStatus, JobSummary, Link
from service.gateway.state import GatewayState

_ROOT = "/api/enhancement"


def status_url(job_id: str) -> str:
    """Where a job is asked for."""
    return f"{_ROOT}/status/{quote(job_id, safe='')}"


def progress_url(job_id: str) -> str:
    """Where a job is followed."""
    return f"{_ROOT}/progress/{quote(job_id, safe='')}"


def finished(result: PageResult) -> Job:
    """The answer of a job whose result is known."""
    status: JobStatus = "done" if result.status == "success" else "failed"
    return Job(
        job_id=result.job_id,
        status=status,
        stage="record",
        percent=100,
        status_url=status_url(result.job_id),
        progress_url=progress_url(result.job_id),
        links=links_of(result),
        result=result,
        error=result.error,
    )


def links_of(result: PageResult) -> tuple[Link, ...]:
    """Where the variants of a result are fetched through the gateway."""
    base = f"{_ROOT}/{quote(result.job_id, safe='')}/variants"
    return tuple(
        Link(name=v.name, url=f"{base}/{v.name}", uri=v.uri, width=v.width, height=v.height, bytes=v.bytes)
        for v in result.variants
    )


def summary_of(run: FlowRun) -> JobSummary:
    """A run in a list."""
    job_id = str(run.parameters.get("job_id") or run.id)
    return JobSummary(
        job_id=job_id,
        name=run.name,
        status=status_of(run),
        state=run.state.name or "" if run.state else "",
        queue=run.work_queue_name,
        created=run.created,
        started=run.start_time,
        ended=run.end_time,
        status_url=status_url(job_id),
    )


async def run_of(job_id: str, state: GatewayState) -> FlowRun | None:
    """The run of a job: its id is the run's, or one that the generator gave it."""
    run_id = _uuid(job_id)
    run = await state.jobs.read(run_id) if run_id else None
    if run is not None:
        return run
    heard_of = _uuid((await state.hub.remembered(job_id)).run_id or "")
    run = await state.jobs.read(heard_of) if heard_of else None
    if run is None and not state.hub.track(job_id).ended:
        run = await state.jobs.named(job_id)  # it waits, or ended before its first stage
        if run is not None:
            state.hub.learn(job_id, str(run.id))
    return run


async def job_of(job_id: str, state: GatewayState) -> Job:
    """Where a job is, and its result when it has ended.

    Raises:
        Rejected: `unknown_job`.
    """
    run = await run_of(job_id, state)
    record = await asyncio.to_thread(state.engine.jobs.job, job_id)
    if run is None and record is None and not state.hub.knows(job_id):
        raise Rejected("unknown_job", "There is no such job.")
    status: JobStatus = status_of(run) if run else "done" if record else "queued"
    # The end is announced a moment before the run itself reaches its last state.
    announced = record is not None and state.hub.track(job_id).ended
    at_work = status in ("queued", "running") and not announced
    if record is not None and not at_work:
        job = finished(record.result)
    else:
        job = Job(
            job_id=job_id, status=status, status_url=status_url(job_id), progress_url=progress_url(job_id)
        )
        last = next((m for m in reversed(state.hub.track(job_id).messages) if m["type"] == "progress"), None)
        update = {"stage": last["stage"], "percent": last["percent"]} if last else {}
        if status in ("failed", "cancelled") and run and run.state:
            update["error"] = ErrorInfo(code=status, message=f"The run ended as {run.state.name}.")
        job = job.model_copy(update=update)
    if run is None:
        return job
    name = run.state.name if run.state else None
    return job.model_copy(update={"state": name, "flow_run_id": str(run.id), "run_url": run_url(run.id)})


def _uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None
