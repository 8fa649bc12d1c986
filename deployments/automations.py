"""Automations that belong to no single deployment: crashed and silent runs, notifications.

Those that start deployments stand in `prefect.yaml` beside them.
"""

from datetime import timedelta
from typing import Final
from uuid import UUID

from prefect.client.schemas.objects import StateType
from prefect.events.actions import ChangeFlowRunState, SendNotification
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
from prefect.events.schemas.events import ResourceSpecification

FLOWS: Final = ("enhance-page", "enhance-book", "backfill")
"""Flows whose runs are watched."""
SILENCE: Final = timedelta(seconds=540)
"""Three heartbeats of Prefect (180 s); after as long a silence a run counts as dead."""
_SIGNS_OF_LIFE: Final = (
    "heartbeat",
    "Completed",
    "Failed",
    "TimedOut",
    "Crashed",
    "Cancelled",
    "AwaitingRetry",
)
_OURS: Final = ResourceSpecification({"prefect.resource.role": "flow", "prefect.resource.name": list(FLOWS)})


def zombies(silence: timedelta = SILENCE) -> AutomationCore:
    """A run whose machine went away reports nothing: it counts as crashed when its heartbeat stops."""
    return AutomationCore(
        name="panelworks-zombie-runs",
        description="Mark a run as crashed when its heartbeat has stopped.",
        trigger=EventTrigger(
            after={"prefect.flow-run.heartbeat"},
            # Not `prefect.flow-run.*`: each event of a run would be a write, and SQLite answers 503 when it
            # is locked.
            expect={f"prefect.flow-run.{sign}" for sign in _SIGNS_OF_LIFE},
            match=ResourceSpecification({"prefect.resource.id": "prefect.flow-run.*"}),
            match_related=_OURS,
            for_each={"prefect.resource.id"},
            posture=Posture.Proactive,
            threshold=1,
            within=silence,
        ),
        actions=[
            ChangeFlowRunState(
                state=StateType.CRASHED, message="No heartbeat: the machine of this run is gone."
            )
        ],
    )


def notify_failures(block_document_id: UUID, *, enabled: bool) -> AutomationCore:
    """Tell people of failed pages and books; `enabled` once the block knows where to send to."""
    return AutomationCore(
        name="panelworks-notify-failures",
        description="Notify of pages and books that failed, through the block panelworks-failures.",
        enabled=enabled,
        trigger=EventTrigger(
            expect={"prefect.flow-run.Failed", "prefect.flow-run.TimedOut"},
            match=ResourceSpecification({"prefect.resource.id": "prefect.flow-run.*"}),
            match_related=_OURS,
            posture=Posture.Reactive,
            threshold=1,
        ),
        actions=[
            SendNotification(
                block_document_id=block_document_id,
                subject="Panelworks: {{ flow_run.name }} failed",
                body="{{ flow_run.state.message }}\n{{ flow_run | ui_url }}",
            )
        ],
    )
