"""Why a task of ECS stopped or was not started: one sentence with what to do.

The texts of AWS: https://docs.aws.amazon.com/AmazonECS/latest/developerguide/stopped-task-error-codes.html
"""

import re
from dataclasses import dataclass
from typing import Final

from deployments.ecs.api import Container, Task

MAX_DETAIL_CHARACTERS: Final = 400
"""Texts of AWS can contain whole requests."""
_INTERRUPTION_CODES: Final = {"SpotInterruption", "TerminationNotice"}
_INTERRUPTIONS: Final = re.compile(
    r"^Host EC2 \(instance|Spot Task was interrupted|instance deregistration forced", re.IGNORECASE
)
"""Texts of a task whose machine was taken away without one of the codes."""
_CAUSES: Final[tuple[tuple[str, str], ...]] = (
    (
        r"toomanyrequests|pull rate limit",
        "The registry refuses more downloads of the image for now: use a registry of your own, such as ECR",
    ),
    (
        r"CannotPull\w*Error|Cannot pull|manifest unknown",
        "The image cannot be pulled: check its name in the form of the work pool, that it was pushed, and that the"
        " execution role may read it",
    ),
    (
        r"OutOfMemory",
        "The container ran out of memory: raise 'Memory' in the form of the work pool",
    ),
    (
        r"ResourceInitializationError.*(secret|ssm|parameter)",
        "A secret of the container cannot be read: check its ARN in the form of the work pool, and that the execution"
        " role has secretsmanager:GetSecretValue",
    ),
    (
        r"(ResourceInitializationError|CannotStartContainerError).*(logger|awslogs|log ?(group|stream|driver))",
        "The container's log cannot be created: give the execution role logs:CreateLogGroup, logs:CreateLogStream and"
        " logs:PutLogEvents, or turn off 'CloudWatch logs' in the form of the work pool",
    ),
    (
        r"unable to assume (the|role)|role .*(is not valid|does not exist|not be assumed)|iam:PassRole|invalid.* role",
        "A role cannot be used: check 'Execution role' and 'Task role' in the form of the work pool, that ECS may"
        " assume them, and that the worker has iam:PassRole",
    ),
    (
        r"ResourceInitializationError",
        "The machine could not prepare the task: check that its network reaches AWS, and the execution role",
    ),
    (
        r"RESOURCE:GPU",
        "No instance has a free GPU: raise the maximum of the Auto Scaling group, or choose a capacity provider that"
        " starts instances",
    ),
    (
        r"RESOURCE:(CPU|MEMORY)",
        "No instance has enough free CPU or memory: lower 'CPU' and 'Memory' in the form of the work pool, or use"
        " larger instances",
    ),
    (
        r"RESOURCE:|reached the maximum|vcpu limit|limit exceeded|MaxSpotInstanceCountExceeded",
        "A limit of the account or of the instances is reached: check the quotas of AWS, and the number of instances",
    ),
    (
        r"No Container Instances|AGENT|Capacity is unavailable|capacity provider|insufficient (instance )?capacity",
        "No instance was available: check the Auto Scaling group, its quota, and the agent of its instances",
    ),
    (
        r"ATTRIBUTE|MemberOf|placement constraint",
        "No instance fits the placement constraints: check 'Instance type' in the form of the work pool",
    ),
    (
        r"CannotCreateVolumeError|mount|volume",
        "A volume cannot be mounted: check 'Folder of the models' in the form of the work pool, and that it exists",
    ),
    (
        r"Cannot(Start|Create|Inspect)Container|ContainerRuntime\w*Error|Docker\w*Error|OCI runtime|runc",
        "The container cannot be started: check the image, its command, and the driver of the GPU on the instance",
    ),
)
"""Texts of AWS as regular expressions, and what they mean; the first match counts."""
_EXIT_CODES: Final = {
    0: "it ended before it reported how the run ended",
    124: "the run took longer than 'Longest runtime' in the form of the work pool",
    126: "its command cannot be executed: check the image",
    127: "its command was not found: check the image",
    137: "it was killed, usually because memory ran out: raise 'Memory' in the form of the work pool",
    139: "it accessed invalid memory: check the image and the driver of the GPU",
    143: "it was asked to end",
}


@dataclass(frozen=True)
class Stop:
    """Why a task stopped."""

    sentence: str
    """For the operator, with what to do."""
    is_interruption: bool = False
    """AWS took the machine away: the run did nothing wrong."""


def explain(task: Task | None, container_name: str | None = None) -> Stop:
    """Why a task stopped.

    Args:
        task: None if ECS does not know it any more.
        container_name: The container in which the run is executed.
    """
    if task is None:
        return Stop(
            "ECS does not know its task any more, and it did not report how it ended: look for its log in CloudWatch."
        )
    container = task.find_container(container_name)
    reasons = [task.stopped_reason, container.reason if container else ""]
    detail = _shorten("; ".join(dict.fromkeys(filter(None, reasons))))
    if task.stop_code in _INTERRUPTION_CODES or _INTERRUPTIONS.search(task.stopped_reason):
        return Stop(
            f"AWS took its machine away ({detail or task.stop_code}): it starts again on another one.", True
        )
    if cause := find_cause(f"{task.stop_code} {detail}"):
        return Stop(f"{cause} ({detail}).")
    if task.stop_code == "UserInitiated":
        return Stop(
            f"Its task was stopped by a request ({detail or 'without a reason'}): restart the run if needed."
        )
    if container and container.exit_code is not None:
        return Stop(_explain_exit(container, detail))
    return Stop(
        f"Its task stopped ({' '.join(filter(None, [task.stop_code, detail])) or 'without a reason'}): look at the"
        " task in the console of AWS."
    )


def find_cause(text: str) -> str | None:
    """What a text of AWS means and what to do, without the full stop; None if it is not known."""
    return next((cause for pattern, cause in _CAUSES if re.search(pattern, text, re.IGNORECASE)), None)


def explain_refusal(error: Exception) -> str | None:
    """Why ECS did not start a task, from the error of the request; None if the error must speak for itself."""
    cause = find_cause(str(error))
    return f"{cause} ({_shorten(str(error))})." if cause else None


def _explain_exit(container: Container, detail: str) -> str:
    meaning = _EXIT_CODES.get(container.exit_code or 0, "see the last lines of its log")
    reason = f" ({detail})" if detail else ""
    return f"Container {container.name} exited with code {container.exit_code}{reason}: {meaning}."


def _shorten(text: str) -> str:
    text = " ".join(text.split()).rstrip(".")
    return text if len(text) <= MAX_DETAIL_CHARACTERS else f"{text[:MAX_DETAIL_CHARACTERS]}..."
