"""Events that no run could be created for."""

import asyncio
from typing import Any

import pytest

import flows.report_refused_event as refused
from orchestration import events
from tests.servers import emit_event, request_api, until

RESOURCE = {"prefect.resource.id": "comic.priority.interactive.cover"}
BUSY = "Unexpected status from 'run-deployment' action: 503"


def emit(**payload: Any) -> str:
    """Emit an event that no automation matches; returns its id when the server has stored it."""
    identity = emit_event(
        {
            "event": "comic.panel.test",
            "resource": RESOURCE,
            "payload": {"source": "s3://comics/cover.png", **payload},
        }
    )
    until(lambda: bool(stored_events({"id": {"id": [identity]}})))
    return identity


def stored_events(wanted: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = request_api("POST", "/events/filter", {"filter": wanted, "limit": 50})[
        "events"
    ]
    return found


def test_an_event_that_a_busy_server_refused_is_emitted_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "EMISSION_DELAY_SECONDS", 0)
    identity = emit(panel_id="cover")
    assert (
        asyncio.run(
            refused.report_refused_event(BUSY, "panelworks-panel-generated", f"prefect.event.{identity}")
        )
        is None
    )

    def again() -> list[dict[str, Any]]:
        found = stored_events({"event": {"name": ["comic.panel.test"]}})
        return [one for one in found if one["payload"].get("job_id") == identity]

    until(lambda: len(again()) == 1)
    event = again()[0]
    assert event["payload"]["emissions"] == 1 and event["payload"]["panel_id"] == "cover"
    assert event["resource"]["prefect.resource.id"] == RESOURCE["prefect.resource.id"], "the same priority"


@pytest.mark.parametrize(
    ("payload", "reason"),
    [({"emissions": 5}, BUSY), ({}, "Validation failed for field 'options'")],
    ids=["too often", "malformed"],
)
def test_an_event_that_cannot_be_emitted_again_is_reported(payload: dict[str, Any], reason: str) -> None:
    identity = emit(job_id="job-1", **payload)
    result = asyncio.run(
        refused.report_refused_event(reason, "panelworks-panel-generated", f"prefect.event.{identity}")
    )
    assert result is not None and result.error is not None
    assert (result.job_id, result.error.code) == ("job-1", "refused_event")
