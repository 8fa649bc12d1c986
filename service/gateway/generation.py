"""The door of generators that speak plain HTTP: their events are handed to Prefect."""

import asyncio
import uuid

from fastapi import APIRouter

from panelworks.doors import admit
from panelworks.records import Origin, PageRequest
from service.emission import generated_event
from service.gateway.access import GuardedRoute
from service.gateway.answers import progress_url, status_url
from service.gateway.shapes import EventAccepted, GeneratedEvent
from service.gateway.state import State
from service.gateway.submission import kept_source

router = APIRouter(prefix="/api/generation", tags=["generation"], route_class=GuardedRoute)


@router.post("/events", status_code=202)
async def events(event: GeneratedEvent, state: State) -> EventAccepted:
    """A panel was generated: an automation starts its enhancement, once however often this is told."""
    identity = str(uuid.uuid4())
    job_id = event.job_id or identity
    asked = PageRequest(
        source=event.source,
        out=state.settings.default_out,
        options=event.options,
        job_id=job_id,
        origin=Origin(tool=event.tool, callback=event.callback, door="event"),
    )
    await asyncio.to_thread(admit, asked, state.settings)
    source = event.source
    if source.startswith("data:"):  # an event holds 1.5 MB, a page more
        source = kept_source(await asyncio.to_thread(state.engine.identify, asked))
    payload = event.model_dump(mode="json", exclude={"options"}, exclude_none=True)
    options = event.options.model_dump(exclude_defaults=True)
    payload |= {"source": source, "job_id": job_id, "options": options}
    state.hub.expect(job_id)
    await state.jobs.emit(generated_event(identity, payload, event.priority))
    return EventAccepted(
        event_id=identity, job_id=job_id, status_url=status_url(job_id), progress_url=progress_url(job_id)
    )
