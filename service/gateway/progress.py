"""The WebSocket of a job: it sends every stage and tile, then the end, then it closes."""

import asyncio
from typing import Annotated, Final

from fastapi import APIRouter, Query, WebSocket, WebSocketDisconnect

from panelworks.domain.fields import MAX_INTEGER, check_text
from panelworks.domain.request import JobKey
from panelworks.errors import PanelworksError, Rejected
from service.gateway.access import Access
from service.gateway.answers import job_of, key_for
from service.gateway.event_stream import Message
from service.gateway.middleware import logger
from service.gateway.schemas import Job
from service.gateway.state import GatewayState

router = APIRouter()

UNKNOWN_JOB: Final = 4404
FORBIDDEN: Final = 4403
TOO_MANY: Final = 4429
"""Codes with which a WebSocket is closed."""
MAX_FOLLOWERS: Final = 50
"""Open WebSockets of one key; each reads the state of its job from Prefect regularly."""
ENDED: Final = ("done", "failed", "cancelled")
_FIRST: Final = asyncio.FIRST_COMPLETED
_STATUS_INTERVAL_SECONDS: Final = 10.0
"""Between two reads of the job's status, in case that events were lost."""
_ARRIVAL_SECONDS: Final = 3.0
"""For how long the event of a new job may take to arrive."""
_END_EVENT_SECONDS: Final = 4.0
"""For how long the event of an ended job may take to arrive."""


@router.websocket("/api/enhancement/progress/{job_id}")
async def progress(
    socket: WebSocket,
    job_id: str,
    after: Annotated[int, Query(ge=0, le=MAX_INTEGER)] = 0,
    owner: Annotated[str | None, Query(max_length=200)] = None,
) -> None:
    """Follow a job. Each message has a `cursor`; a client that lost its connection reconnects with `?after=CURSOR`."""
    state: GatewayState = socket.app.state.gateway
    access: Access = state.access
    offered = [one for one in socket.scope.get("subprotocols", []) if one.startswith("key.")]
    try:
        caller = access.check(socket)
        check_text(job_id + (owner or ""))
    except PanelworksError as error:
        await socket.close(FORBIDDEN, error.code)
        return
    await socket.accept(subprotocol=offered[0] if offered else None)
    if state.event_stream.followers[caller.name] >= MAX_FOLLOWERS:
        await socket.close(TOO_MANY, "too_many_followers")
        return
    state.event_stream.followers[caller.name] += 1
    try:
        await _send_until_end(socket, state, await key_for(job_id, caller, owner, state), after)
    except WebSocketDisconnect:
        logger.debug("WebSocket of job %s closed by the client", job_id)
    except PanelworksError as error:
        await socket.send_json({"type": "error", "code": error.code, "message": error.message})
        await socket.close(UNKNOWN_JOB if error.code == "unknown_job" else 1011)
    finally:
        state.event_stream.followers[caller.name] -= 1


async def _send_until_end(socket: WebSocket, state: GatewayState, key: JobKey, after: int) -> None:
    """Send messages until the end of the job, or until the client disconnects."""
    job = await _wait_for_job(key, state)
    sending = asyncio.create_task(_send_all(socket, state, key, after))
    disconnected = asyncio.create_task(_wait_for_disconnect(socket))
    try:
        while not sending.done() and not disconnected.done():
            # A job whose last event was lost, or is no longer stored, ends here too.
            has_ended = job.status in ENDED
            await asyncio.wait(
                {sending, disconnected},
                timeout=_END_EVENT_SECONDS if has_ended else _STATUS_INTERVAL_SECONDS,
                return_when=_FIRST,
            )
            if has_ended and not sending.done() and not disconnected.done():
                sending.cancel()
                await socket.send_json(_end(job, key, state))
                await socket.close()
                return
            job = await job_of(key, state)
        if sending.done():
            sending.result()
            await socket.close()
    finally:
        sending.cancel()
        disconnected.cancel()


async def _wait_for_job(key: JobKey, state: GatewayState) -> Job:
    """The job; the event of a new one may take a moment to arrive."""
    deadline = asyncio.get_running_loop().time() + _ARRIVAL_SECONDS
    while True:
        try:
            return await job_of(key, state)
        except Rejected:
            if asyncio.get_running_loop().time() > deadline:
                raise
        await asyncio.sleep(0.25)


def _end(job: Job, key: JobKey, state: GatewayState) -> Message:
    messages = state.event_stream.track(key).messages
    return {
        "type": "end",
        "job_id": job.job_id,
        "status": job.status,
        "result": job.result.model_dump(mode="json") if job.result else None,
        "cursor": messages[-1]["cursor"] + 1 if messages else 1,
    }


async def _send_all(socket: WebSocket, state: GatewayState, key: JobKey, after: int) -> None:
    async for message in state.event_stream.follow(key, after):
        await socket.send_json(message)


async def _wait_for_disconnect(socket: WebSocket) -> None:
    """Clients send nothing: reading the socket only reports when they disconnect."""
    while True:
        if (await socket.receive())["type"] == "websocket.disconnect":
            return
