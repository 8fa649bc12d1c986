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

FLOW: Final = "enhance-page"
MAX_RUNS: Final = 3
"""How often a page that crashes is run in all."""
SILENCE: Final = timedelta(seconds=540)
"""Three heartbeats of Prefect (180 s); after as long a silence a run counts as dead."""
_OF_A_PAGE: Final = ResourceSpecification({"prefect.resource.role": "flow", "prefect.resource.name": FLOW})


def zombies(silence: timedelta = SILENCE) -> AutomationCore:
    """A run whose machine went away reports nothing: it counts as crashed when its heartbeat stops."""
    return AutomationCore(
        name="panelworks-zombie-runs",
        description="Mark a page's run as crashed when its heartbeat has stopped.",
        trigger=EventTrigger(
            after={"prefect.flow-run.heartbeat"},
            expect={"prefect.flow-run.*"},
            match=ResourceSpecification({"prefect.resource.id": "prefect.flow-run.*"}),
            match_related=_OF_A_PAGE,
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


def restart_crashed() -> AutomationCore:
    """A crash is not the page's fault: the same run starts again, its finished stages are not repeated."""
    runs = [str(count) for count in range(1, MAX_RUNS)]
    return AutomationCore(
        name="panelworks-restart-crashed",
        description=f"Start a crashed page again; at most {MAX_RUNS} runs in all.",
        trigger=EventTrigger(
            expect={"prefect.flow-run.Crashed"},
            match=ResourceSpecification(
                {"prefect.resource.id": "prefect.flow-run.*", "prefect.run-count": runs}
            ),
            match_related=_OF_A_PAGE,
            posture=Posture.Reactive,
            threshold=1,
        ),
        actions=[
            ChangeFlowRunState(
                state=StateType.SCHEDULED, name="AwaitingRetry", message="Started again after a crash."
            )
        ],
    )


def notify_failures(block_document_id: UUID, *, enabled: bool) -> AutomationCore:
    """Tell people of failed pages; `enabled` once the block knows where to send to."""
    return AutomationCore(
        name="panelworks-notify-failures",
        description="Notify of pages that failed, through the block panelworks-failures.",
        enabled=enabled,
        trigger=EventTrigger(
            expect={"prefect.flow-run.Failed", "prefect.flow-run.TimedOut"},
            match=ResourceSpecification({"prefect.resource.id": "prefect.flow-run.*"}),
            match_related=_OF_A_PAGE,
            posture=Posture.Reactive,
            threshold=1,
        ),
        actions=[
            SendNotification(
                block_document_id=block_document_id,
                subject="Panelworks: the page {{ flow_run.name }} failed",
                body="{{ flow_run.state.message }}\n{{ flow_run | ui_url }}",
            )
        ],
    )
