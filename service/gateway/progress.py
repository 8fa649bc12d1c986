"""The WebSocket of a job: every stage and tile as it happens, then the end, then it closes."""

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
"""Open WebSockets of one key; each looks at its job at Prefect from time to time."""
ENDED: Final = ("done", "failed", "cancelled")
_FIRST: Final = asyncio.FIRST_COMPLETED
_LOOK: Final = 10.0
"""Seconds between two looks at the job itself, whatever its events say."""
_HEARD_OF: Final = 3.0
"""Seconds that the event of a job may take to arrive here."""
_LAST_WORDS: Final = 4.0
"""Seconds that an ended job is given to announce its end."""


@router.websocket("/api/enhancement/progress/{job_id}")
async def progress(
    socket: WebSocket,
    job_id: str,
    after: Annotated[int, Query(ge=0, le=MAX_INTEGER)] = 0,
    owner: Annotated[str | None, Query(max_length=200)] = None,
) -> None:
    """Follow a job. Each message has a `cursor`; who was cut off connects again with `?after=CURSOR`."""
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
    if state.hub.followers[caller.name] >= MAX_FOLLOWERS:
        await socket.close(TOO_MANY, "too_many_followers")
        return
    state.hub.followers[caller.name] += 1
    try:
        await _tell(socket, state, await key_for(job_id, caller, owner, state), after)
    except WebSocketDisconnect:
        logger.debug("the follower of job %s went away", job_id)
    except PanelworksError as error:
        await socket.send_json({"type": "error", "code": error.code, "message": error.message})
        await socket.close(UNKNOWN_JOB if error.code == "unknown_job" else 1011)
    finally:
        state.hub.followers[caller.name] -= 1


async def _tell(socket: WebSocket, state: GatewayState, key: JobKey, after: int) -> None:
    """Send what comes until the end, or until the follower hangs up."""
    job = await _found(key, state)
    sending = asyncio.create_task(_send_all(socket, state, key, after))
    gone = asyncio.create_task(_hung_up(socket))
    try:
        while not sending.done() and not gone.done():
            # What has ended without a word (events were lost, or are no longer kept) ends here too.
            silent = job.status in ENDED
            await asyncio.wait({sending, gone}, timeout=_LAST_WORDS if silent else _LOOK, return_when=_FIRST)
            if silent and not sending.done() and not gone.done():
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
        gone.cancel()


async def _found(key: JobKey, state: GatewayState) -> Job:
    """The job; one that was announced a moment ago may take a moment to be heard of."""
    deadline = asyncio.get_running_loop().time() + _HEARD_OF
    while True:
        try:
            return await job_of(key, state)
        except Rejected:
            if asyncio.get_running_loop().time() > deadline:
                raise
        await asyncio.sleep(0.25)


def _end(job: Job, key: JobKey, state: GatewayState) -> Message:
    messages = state.hub.track(key).messages
    return {
        "type": "end",
        "job_id": job.job_id,
        "status": job.status,
        "result": job.result.model_dump(mode="json") if job.result else None,
        "cursor": messages[-1]["cursor"] + 1 if messages else 1,
    }


async def _send_all(socket: WebSocket, state: GatewayState, key: JobKey, after: int) -> None:
    async for message in state.hub.follow(key, after):
        await socket.send_json(message)


async def _hung_up(socket: WebSocket) -> None:
    """Followers have nothing to say: reading only tells when they leave."""
    while True:
        if (await socket.receive())["type"] == "websocket.disconnect":
            return
