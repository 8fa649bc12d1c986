"""Why a task stopped: AWS's texts become one sentence that says what to do."""

import pytest

from deployments.ecs.api import Container, Task
from deployments.ecs.stopped_tasks import MAX_DETAIL_CHARACTERS, explain, explain_refusal

ARN = "arn:aws:ecs:us-east-1:123456789012:task/panelworks/0123456789abcdef"


def stopped(code: str = "", reason: str = "", *containers: Container) -> Task:
    return Task(ARN, status="STOPPED", stop_code=code, stopped_reason=reason, containers=containers)


def page(exit_code: int | None = None, reason: str = "") -> Container:
    return Container("panelworks", exit_code, reason)


ESSENTIAL = ("EssentialContainerExited", "Essential container in task exited")
FAILED = "TaskFailedToStart"
STOPPED = [
    (stopped(FAILED, "CannotPullContainerError: pull image manifest has been retried 5 time(s): denied"), "image cannot be pulled", False),
    (stopped(FAILED, "Task failed to start", page(None, "CannotPullContainerError: not found")), "image cannot be pulled", False),
    (stopped(FAILED, "CannotPullContainerError: toomanyrequests: Rate exceeded"), "registry refuses more downloads", False),
    (stopped(*ESSENTIAL, page(137, "OutOfMemoryError: Container killed due to memory usage")), "ran out of memory", False),
    (stopped("SpotInterruption", "Your Spot Task was interrupted."), "starts again on another", True),
    (stopped("TerminationNotice", ""), "starts again on another", True),
    (stopped("", "Host EC2 (instance i-0123456789abcdef0) terminated.", page(None)), "took its machine away", True),
    (stopped("SpotInterruption", "Your Spot Task was interrupted.", page(137)), "took its machine away", True),
    (stopped(FAILED, "ResourceInitializationError: unable to pull secrets or registry auth: execution resource retrieval failed"), "secret of the container cannot be read", False),
    (stopped(FAILED, "ResourceInitializationError: failed to validate logger args: create stream has been retried 1 times"), "log cannot be created", False),
    (stopped(FAILED, "ResourceInitializationError: failed to configure ENI"), "could not prepare the task", False),
    (stopped(FAILED, "ECS was unable to assume the role 'arn:aws:iam::1:role/x' that was provided for this task"), "role cannot be used", False),
    (stopped(FAILED, "RESOURCE:GPU"), "No instance has a free GPU", False),
    (stopped(FAILED, "RESOURCE:MEMORY"), "enough free CPU or memory", False),
    (stopped(FAILED, "CannotStartContainerError: Error response from daemon: OCI runtime create failed: nvidia"), "container cannot be started", False),
    (stopped("UserInitiated", "Stopped by Prefect worker", page(143)), "stopped by a request (Stopped by Prefect worker)", False),
    (stopped(*ESSENTIAL, page(0)), "exited with code 0 (Essential container in task exited): it ended before", False),
    (stopped(*ESSENTIAL, page(1)), "exited with code 1 (Essential container in task exited): see the last lines", False),
    (stopped(*ESSENTIAL, page(124)), "longer than 'Longest runtime'", False),
    (stopped(*ESSENTIAL, page(127)), "command was not found", False),
    (stopped(*ESSENTIAL, page(137)), "memory ran out", False),
    (stopped(*ESSENTIAL, Container("sidecar", 0), Container("panelworks", 3)), "Container panelworks exited with code 3", False),
    (stopped("ServiceSchedulerInitiated", "Scaling activity"), "look at the task in the console", False),
    (stopped(), "without a reason", False),
    (None, "does not know its task any more", False),
]  # fmt: skip


@pytest.mark.parametrize(("task", "part", "is_interruption"), STOPPED)
def test_a_stopped_task_is_explained(task: Task | None, part: str, is_interruption: bool) -> None:
    stop = explain(task, None if task and len(task.containers) > 1 else "panelworks")
    assert part in stop.sentence
    assert stop.is_interruption is is_interruption
    assert stop.sentence.endswith(".") and not stop.sentence.endswith("..")
    if task and task.stopped_reason:
        assert task.stopped_reason.rstrip(".") in stop.sentence, "the words of AWS are kept"


def test_a_long_text_of_aws_is_shortened() -> None:
    sentence = explain(stopped(FAILED, "CannotPullContainerError: " + "very " * 1000)).sentence
    assert len(sentence) < MAX_DETAIL_CHARACTERS + 300


@pytest.mark.parametrize(
    ("error", "part"),
    [
        ("Failed to run ECS task: RESOURCE:GPU", "No instance has a free GPU"),
        ("Failed to run ECS task: RESOURCE:CPU", "enough free CPU or memory"),
        ("Failed to run ECS task: AGENT", "No instance was available"),
        ("Failed to run ECS task: MemberOf placement constraint unsatisfied.", "instance type"),
        ("An error occurred (AccessDeniedException): not authorized to perform: iam:PassRole", "role cannot be used"),
        ("Failed to run ECS task due to a capacity provider error.", "No instance was available"),
    ],
)  # fmt: skip
def test_a_refused_task_is_explained(error: str, part: str) -> None:
    assert part.lower() in (explain_refusal(RuntimeError(error)) or "").lower()


def test_an_unknown_refusal_speaks_for_itself() -> None:
    assert explain_refusal(RuntimeError("Failed to run ECS task, cluster 'x' not found.")) is None
