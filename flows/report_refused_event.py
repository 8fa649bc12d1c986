"""An event that no run could be made of: logged, recorded, announced."""

from typing import Any

from prefect import flow, get_run_logger
from prefect.client.orchestration import get_client

from panelworks import story
from panelworks.direct import record_failure
from panelworks.engine import get_engine
from panelworks.errors import Rejected
from panelworks.records import Origin, PageRequest, PageResult
from panelworks.settings import get_settings
from tasks.announce import announce_end


@flow(
    name="report-refused-event",
    description="Tell of an event that no run could be made of.",
    result_serializer="json",
)
async def report_refused_event(reason: str, automation: str, event_id: str = "") -> PageResult:
    """Record a panel whose event was malformed.

    Args:
        reason: Why the automation could not start a run.
        automation: Its name.
        event_id: The event, as `prefect.event.ID`.
    """
    event = event_id.removeprefix("prefect.event.")
    payload = await payload_of(event) if event else {}
    refusal = Rejected("refused_event", f"No run could be made of the event: {reason[:500]}")
    get_run_logger().error(
        "%s refused event %s with the payload %s: %s", automation, event, str(payload)[:2000], reason
    )
    request = PageRequest(
        source=str(payload.get("source") or "unknown"),
        out=get_settings().default_out,
        job_id=str(payload.get("job_id") or event or "unknown"),
        origin=Origin(tool=str(payload.get("tool") or "event"), door="event"),
    )
    result = story.failed(request, refusal)
    record_failure(request, result, get_engine())
    announce_end(request, result)
    return result


async def payload_of(event_id: str) -> dict[str, Any]:
    """The payload of an event as the server keeps it; empty when it does not know it (yet)."""
    async with get_client() as client:
        asked = {"filter": {"id": {"id": [event_id]}}, "limit": 1}
        answer = await client.request("POST", "/events/filter", json=asked)
        found = answer.json()["events"]
    return dict(found[0]["payload"]) if found else {}
