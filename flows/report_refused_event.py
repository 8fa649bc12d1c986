"""An event that no run could be made of: told again when the server was busy, else logged, recorded, announced."""

import re
import uuid
from datetime import UTC, datetime
from typing import Any

import anyio
from prefect import flow, get_run_logger
from prefect.client.orchestration import get_client

from panelworks.domain.request import Origin, PageRequest
from panelworks.domain.result import PageResult
from panelworks.errors import Rejected
from panelworks.page import pipeline
from panelworks.page.direct import record_failure
from panelworks.page.engine import get_engine
from panelworks.settings import get_settings
from tasks.announce import announce_end

BUSY = re.compile(r"\b50[0234]\b")
"""What Prefect says of an action that its own API had no time for: SQLite answers 503 while it is locked."""
ATTEMPTS = 5
PAUSE = 3.0
"""Seconds before an event is told again."""


@flow(
    name="report-refused-event",
    description="Tell of an event that no run could be made of.",
    result_serializer="json",
)
async def report_refused_event(reason: str, automation: str, event_id: str = "") -> PageResult | None:
    """Tell an event again that the server was too busy for; record a panel whose event was malformed.

    Args:
        reason: Why the automation could not start a run.
        automation: Its name.
        event_id: The event, as `prefect.event.ID`.
    """
    identity = event_id.removeprefix("prefect.event.")
    event = await event_of(identity) if identity else {}
    payload: dict[str, Any] = event.get("payload") or {}
    if event and BUSY.search(reason) and int(payload.get("told_again") or 0) < ATTEMPTS:
        get_run_logger().warning("The server was busy; event %s is told again: %s", identity, reason)
        await tell_again(event)
        return None
    refusal = Rejected("refused_event", f"No run could be made of the event: {reason[:500]}")
    get_run_logger().error(
        "%s refused event %s with the payload %s: %s", automation, identity, str(payload)[:2000], reason
    )
    request = PageRequest(
        source=str(payload.get("source") or "unknown"),
        out=get_settings().default_out,
        job_id=str(payload.get("job_id") or identity or "unknown"),
        origin=Origin(tool=str(payload.get("tool") or "event"), door="event"),
    )
    result = pipeline.failed(request, refusal)
    record_failure(request, result, get_engine())
    announce_end(request, result)
    return result


async def event_of(event_id: str) -> dict[str, Any]:
    """An event as the server keeps it; empty when it does not know it, also after a while."""
    asked = {"filter": {"id": {"id": [event_id]}}, "limit": 1}
    async with get_client() as client:
        for _ in range(5):
            found = (await client.request("POST", "/events/filter", json=asked)).json()["events"]
            if found:
                return dict(found[0])
            await anyio.sleep(1)
    return {}


async def tell_again(event: dict[str, Any]) -> None:
    """Emit an event once more, for the same job; it counts how often."""
    payload = event["payload"]
    again = {
        "id": str(uuid.uuid4()),
        "occurred": datetime.now(UTC).isoformat(),
        "event": event["event"],
        "resource": event["resource"],
        "payload": {
            **payload,
            "job_id": payload.get("job_id") or event["id"],
            "told_again": int(payload.get("told_again") or 0) + 1,
        },
    }
    await anyio.sleep(PAUSE)
    async with get_client() as client:
        await client.request("POST", "/events", json=[again])
