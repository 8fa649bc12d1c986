"""Producing events: reporting a generated panel to Prefect."""

import uuid
from datetime import UTC, datetime
from typing import Any, Final

import httpx

from deployments.names import GENERATED, Priority, generated_resource
from panelworks.domain.fields import METADATA_LIMITS, REQUEST_LIMITS, check_value, metadata_text, parse_json
from panelworks.domain.options import EnhanceOptions
from panelworks.domain.request import Origin, PageRequest
from panelworks.errors import Rejected
from panelworks.settings import Scale
from panelworks.telemetry import current_traceparent, trace_span
from service.prefect_server import as_server_error, credentials, not_prefect, require_server

MAX_SOURCE_CHARACTERS: Final = 400_000
"""A source becomes a parameter of a run; Prefect accepts 512 KiB of parameters."""


def emit_generated(
    source: str,
    *,
    tool: str = "event",
    job_id: str | None = None,
    panel_id: str | None = None,
    comic_id: str | None = None,
    preset: str = "comic-page",
    scale: Scale | None = None,
    priority: Priority = "events",
    callback: str | None = None,
    metadata: dict[str, Any] | None = None,
) -> dict[str, str]:
    """Post `comic.panel.generated` to the Prefect server; returns `event_id` and `job_id`.

    It waits for the response. `prefect.events.emit_event` queues the event, and does not fail when no server responds.

    Raises:
        Misconfigured: `no_server`, `prefect_refused`, `not_prefect`.
        Rejected: `bad_json`, `too_large`, the event holds something that could not be delivered.
        Transient: `prefect_away`.
    """
    url = require_server()
    identity = str(uuid.uuid4())
    job = job_id or identity
    if len(source) > MAX_SOURCE_CHARACTERS:
        raise Rejected(
            "too_large",
            f"The source of an event has at most {MAX_SOURCE_CHARACTERS:,} characters;"
            " post larger pictures to the gateway.",
        )
    texts = (source, tool, job, panel_id, comic_id, preset, callback)
    check_value([*texts, scale, metadata], REQUEST_LIMITS)
    if metadata is not None:
        parse_json(metadata_text(metadata), METADATA_LIMITS)
    with trace_span(f"emit {GENERATED}", kind="producer", job_id=job):
        origin = Origin(
            tool=tool,
            panel_id=panel_id,
            comic_id=comic_id,
            callback=callback,
            metadata=metadata or {},
            entry_point="event",
            traceparent=current_traceparent(),
        )
        options = EnhanceOptions(preset=preset, scale=scale)
        request = PageRequest(source=source, out="", options=options, job_id=job, origin=origin)
        _post(generated_event(identity, {**request.to_event(), "priority": priority}, priority), url)
    return {"event_id": identity, "job_id": job}


def _post(event: dict[str, Any], url: str) -> None:
    try:
        answer = httpx.post(f"{url}/events", json=[event], auth=credentials(), timeout=10).raise_for_status()
    except httpx.HTTPError as error:
        raise (as_server_error(error) or error) from error
    if answer.status_code != httpx.codes.NO_CONTENT:
        raise not_prefect(url)


def generated_event(identity: str, payload: dict[str, Any], priority: Priority) -> dict[str, Any]:
    """The event of a generated panel in the format of Prefect's API. The payload names the job and may name the panel."""
    name = payload.get("panel_id") or payload["job_id"]
    return {
        "id": identity,
        "occurred": datetime.now(UTC).isoformat(),
        "event": GENERATED,
        "resource": {
            "prefect.resource.id": generated_resource(name, priority),
            "comic.job-id": payload["job_id"],
        },
        "payload": payload,
    }
