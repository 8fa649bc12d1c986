"""Automations that belong to no single deployment: crashed and silent runs, notifications.

Automations that start a deployment are declared in `prefect.yaml`, with the deployment.
"""

from datetime import timedelta
from typing import Final
from uuid import UUID

from prefect.client.schemas.objects import StateType
from prefect.events.actions import ChangeFlowRunState, SendNotification
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
from prefect.events.schemas.events import ResourceSpecification

FLOWS: Final = ("enhance-page", "enhance-book", "backfill")
"""Flows whose runs are monitored."""
HEARTBEAT_TIMEOUT: Final = timedelta(seconds=540)
"""Three heartbeats of Prefect (180 s). A run without a heartbeat for this time counts as crashed."""
_LIVENESS_EVENTS: Final = (
    "heartbeat",
    "Completed",
    "Failed",
    "TimedOut",
    "Crashed",
    "Cancelled",
    "AwaitingRetry",
)
_OURS: Final = ResourceSpecification({"prefect.resource.role": "flow", "prefect.resource.name": list(FLOWS)})


def zombie_automation(timeout: timedelta = HEARTBEAT_TIMEOUT) -> AutomationCore:
    """Marks a run as crashed when its heartbeat stops: a lost machine reports nothing."""
    return AutomationCore(
        name="panelworks-zombie-runs",
        description="Mark a run as crashed when its heartbeat has stopped.",
        trigger=EventTrigger(
            after={"prefect.flow-run.heartbeat"},
            # Not `prefect.flow-run.*`: each event of a run would cause a write, and SQLite answers 503 while it
            # is locked.
            expect={f"prefect.flow-run.{name}" for name in _LIVENESS_EVENTS},
            match=ResourceSpecification({"prefect.resource.id": "prefect.flow-run.*"}),
            match_related=_OURS,
            for_each={"prefect.resource.id"},
            posture=Posture.Proactive,
            threshold=1,
            within=timeout,
        ),
        actions=[
            ChangeFlowRunState(
                state=StateType.CRASHED, message="No heartbeat: the machine of this run is unreachable."
            )
        ],
    )


def failure_notification(block_document_id: UUID, *, enabled: bool) -> AutomationCore:
    """Notifies people of failed pages and books.

    Args:
        block_document_id: The block that sends the notification.
        enabled: Whether the block has an address to send to.
    """
    return AutomationCore(
        name="panelworks-notify-failures",
        description="Notify of failed pages and books through the block panelworks-failures.",
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
