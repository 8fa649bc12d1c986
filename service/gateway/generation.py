"""The entry point of generators that speak plain HTTP: an event is accepted like any other job."""

import asyncio

from fastapi import APIRouter

from panelworks.domain.request import Origin, PageRequest
from panelworks.page.callbacks import check_callback
from panelworks.page.direct import new_job_id
from panelworks.page.entry_points import admit
from service.gateway.access import By, GuardedRoute
from service.gateway.answers import progress_url, status_url
from service.gateway.outbox import event_id
from service.gateway.shapes import EventAccepted, GeneratedEvent
from service.gateway.state import State
from service.gateway.submission import kept_source

router = APIRouter(prefix="/api/generation", tags=["generation"], route_class=GuardedRoute)


@router.post("/events", status_code=202)
async def events(event: GeneratedEvent, state: State, caller: By) -> EventAccepted:
    """A panel was generated: its enhancement starts, once however often the event is posted."""
    job_id = event.job_id or new_job_id()
    check_callback(event.callback, state.settings)
    await state.submission.check_source(event.source, caller)
    asked = PageRequest(
        source=event.source,
        out=state.settings.default_out,
        options=event.options,
        job_id=job_id,
        force=event.force,
        origin=Origin.of_client(event, owner=caller.owner, entry_point="event"),
    )
    await asyncio.to_thread(admit, asked, state.settings)
    if event.source.startswith("data:"):  # by name from here on: Prefect takes parameters up to 512 KiB
        page = await asyncio.to_thread(state.engine.identify, asked)
        asked = asked.model_copy(update={"source": kept_source(page)})
    known = await state.outbox.accept(asked, event.priority)
    job = known or await asyncio.to_thread(state.engine.accepted.find, asked.key)
    return EventAccepted(
        event_id=event_id(job) if job else job_id,
        job_id=job_id,
        status_url=status_url(job_id),
        progress_url=progress_url(job_id),
    )
