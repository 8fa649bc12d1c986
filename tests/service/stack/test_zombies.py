"""The automation that finds dead runs leaves finished ones alone, in whatever order their events arrive."""

import time
import uuid
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from prefect.client.orchestration import PrefectClient

from deployments.automations import zombie_automation
from tests.deployments.server import call_prefect
from tests.servers import until

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
        "id": str(uuid.uuid4()),
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


async def post(client: PrefectClient, body: list[dict[str, Any]]) -> None:
    (await client._client.post("/events", json=body)).raise_for_status()


async def changed(client: PrefectClient, run: uuid.UUID) -> bool:
    """Did the automation act on the run?"""
    wanted = {"event": {"name": ["prefect.automation.action.triggered"]}}
    found = await client._client.post("/events/filter", json={"filter": wanted, "limit": 50})
    return any(str(run) in str(one) for one in found.json()["events"])


def test_only_a_run_that_fell_silent_is_changed(fast_server: None) -> None:
    automation = call_prefect(lambda client: client.create_automation(zombie_automation(SILENCE)))
    time.sleep(2)  # until the server's triggers know the automation
    runs = {name: uuid.uuid4() for name in DELIVERIES}
    begin = datetime.now(UTC)
    for name, delivery in DELIVERIES.items():
        for kind, seconds in delivery:
            body = [event(runs[name], kind, begin + timedelta(seconds=seconds))]
            call_prefect(partial(post, body=body))
    until(lambda: call_prefect(partial(changed, run=runs[DEAD])), 60)
    time.sleep(3)  # the others' time ended within half a second of this one's
    acted = {name for name, run in runs.items() if call_prefect(partial(changed, run=run))}
    call_prefect(lambda client: client.delete_automation(automation))
    assert acted == {DEAD}
