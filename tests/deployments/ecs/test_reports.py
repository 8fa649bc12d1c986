"""Which attempt of a run a task belongs to."""

from datetime import UTC, datetime, timedelta
from typing import cast
from uuid import uuid4

import pytest
from prefect.client.schemas.objects import FlowRun, State, StateType

from deployments.ecs.api import EcsApi, Task
from deployments.ecs.follower import FollowedTask
from deployments.ecs.reports import belongs_to

ARN = "arn:aws:ecs:us-east-1:123456789012:task/panelworks/0123"
STOPPED = datetime(2026, 11, 26, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("state", "seconds", "pid", "run_count", "belongs"),
    [
        (StateType.RUNNING, -60, f"panelworks::{ARN}", 1, True),
        (StateType.PENDING, -60, f"panelworks::{ARN}", 0, True),
        (StateType.PENDING, -60, None, 0, True),
        (StateType.RUNNING, -60, f"panelworks::{ARN}-of-the-next-attempt", 2, False),
        (StateType.PENDING, -60, f"panelworks::{ARN}", 1, False),
        (StateType.PENDING, 60, f"panelworks::{ARN}", 0, False),
        (StateType.RUNNING, -60, f"panelworks::{ARN}", 3, True),
    ],
    ids=["runs", "waits", "unrecorded", "next-task", "next-attempt", "next-attempt-after-none-ran", "retried-in-task"],
)  # fmt: skip
def test_only_the_task_of_the_current_attempt_is_reported(
    state: StateType, seconds: float, pid: str | None, run_count: int, belongs: bool
) -> None:
    current: State[None] = State(type=state, timestamp=STOPPED + timedelta(seconds=seconds))
    run = FlowRun(
        id=uuid4(),
        flow_id=uuid4(),
        state=current,
        state_type=state,
        infrastructure_pid=pid,
        run_count=run_count,
    )
    followed = FollowedTask(cast(EcsApi, None), ARN, run, attempt=0)
    assert belongs_to(run, followed, Task(ARN, status="STOPPED", stopped_at=STOPPED)) is belongs
