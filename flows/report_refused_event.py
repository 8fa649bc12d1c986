"""An event that no run could be created for: emitted again if the server was busy, otherwise recorded as a failure."""

from prefect import flow, get_run_logger

from orchestration.events import emit_again, emit_page_end, may_emit_again, read_event
from panelworks.domain.request import Origin, PageRequest
from panelworks.domain.result import PageResult
from panelworks.errors import Rejected
from panelworks.page import pipeline
from panelworks.page.direct import record_failure
from panelworks.page.engine import get_engine
from panelworks.settings import get_settings

_MAX_REASON_CHARACTERS = 500
_MAX_PAYLOAD_CHARACTERS = 2000


@flow(
    name="report-refused-event",
    description="Report an event that no run could be created for.",
    result_serializer="json",
)
async def report_refused_event(reason: str, automation: str, event_id: str = "") -> PageResult | None:
    """Emit an event again if the server was busy; otherwise record the failure of its panel.

    Args:
        reason: Why the automation could not create a run.
        automation: Its name.
        event_id: The event, as `prefect.event.ID`.
    """
    identity = event_id.removeprefix("prefect.event.")
    event = await read_event(identity) if identity else {}
    if may_emit_again(event, reason):
        get_run_logger().warning("event %s is emitted again: the server was busy: %s", identity, reason)
        await emit_again(event)
        return None
    payload = event.get("payload") or {}
    get_run_logger().error(
        "%s refused event %s: %s; payload: %s",
        automation, identity, reason, str(payload)[:_MAX_PAYLOAD_CHARACTERS],
    )  # fmt: skip
    request = PageRequest(
        source=str(payload.get("source") or "unknown"),
        out=get_settings().default_out,
        job_id=str(payload.get("job_id") or identity or "unknown"),
        origin=Origin(tool=str(payload.get("tool") or "event"), entry_point="event"),
    )
    refusal = Rejected(
        "refused_event", f"No run could be made of the event: {reason[:_MAX_REASON_CHARACTERS]}"
    )
    result = pipeline.failed(request, refusal)
    record_failure(request, result, get_engine())
    emit_page_end(request, result)
    return result
