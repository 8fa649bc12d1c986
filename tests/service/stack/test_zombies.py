"""The automation that finds dead runs leaves finished ones alone, in whatever order their events arrive."""

import time
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

from deployments.automations import zombie_automation
from tests.deployments.server import call_prefect
from tests.servers import emit_event, request_api, until, wait_for_triggers

SILENCE = timedelta(seconds=10)
DEAD = "dead"
DELIVERIES = {
    "in order": (("heartbeat", 0.0), ("heartbeat", 0.5), ("Completed", 1.0)),
    "the only heartbeat comes last": (("Completed", 1.0), ("heartbeat", 0.0)),
    "the last heartbeat comes last": (("heartbeat", 0.0), ("Completed", 1.0), ("heartbeat", 0.5)),
    DEAD: (("heartbeat", 0.0), ("heartbeat", 0.5)),
}


def event(run: uuid.UUID, name: str, occurred: datetime) -> dict[str, Any]:
    return {
        "occurred": occurred.isoformat(),
        "event": f"prefect.flow-run.{name}",
        "resource": {"prefect.resource.id": f"prefect.flow-run.{run}", "prefect.resource.name": "a run"},
        "related": [
            {
                "prefect.resource.id": f"prefect.flow.{uuid.uuid4()}",
                "prefect.resource.role": "flow",
                "prefect.resource.name": "enhance-page",
            }
        ],
    }


def is_changed(run: uuid.UUID) -> bool:
    """Whether the automation acted on the run."""
    wanted = {"event": {"name": ["prefect.automation.action.triggered"]}}
    found = request_api("POST", "/events/filter", {"filter": wanted, "limit": 50})
    return any(str(run) in str(one) for one in found["events"])


def test_only_a_run_that_fell_silent_is_changed(fast_server: None) -> None:
    automation = call_prefect(lambda client: client.create_automation(zombie_automation(SILENCE)))
    wait_for_triggers()
    runs = {name: uuid.uuid4() for name in DELIVERIES}
    begin = datetime.now(UTC)
    for name, delivery in DELIVERIES.items():
        for kind, seconds in delivery:
            emit_event(event(runs[name], kind, begin + timedelta(seconds=seconds)))
    until(lambda: is_changed(runs[DEAD]), 60)
    time.sleep(3)  # the others' time ended within half a second of this one's
    acted = {name for name, run in runs.items() if is_changed(run)}
    call_prefect(lambda client: client.delete_automation(automation))
    assert acted == {DEAD}
