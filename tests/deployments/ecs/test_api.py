"""What the worker reads from ECS and CloudWatch."""

import asyncio
import time
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from moto import mock_aws
from prefect_aws import AwsCredentials

from deployments.ecs.api import Container, EcsApi, NoContainerLog, Task

GROUP = "prefect"


@pytest.fixture
def account() -> Iterator[None]:
    with mock_aws():
        yield


def task_with_log(options: dict[str, str] | None) -> Task:
    """A task whose container has these options of the driver awslogs."""
    container: dict[str, Any] = {"name": "panelworks", "image": "x", "memory": 128}
    if options is not None:
        container["logConfiguration"] = {"logDriver": "awslogs", "options": options}
    definition = boto3.client("ecs", region_name="us-east-1").register_task_definition(
        family="panelworks", containerDefinitions=[container]
    )["taskDefinition"]["taskDefinitionArn"]
    return Task("arn:aws:ecs:us-east-1:123456789012:task/panelworks/0123", definition)


def read(task: Task, lines: int, container: str | None = "panelworks") -> list[str]:
    api = EcsApi(AwsCredentials(region_name="us-east-1"), "panelworks")
    return asyncio.run(api.read_log(task, container, lines)).lines


@pytest.mark.parametrize("container", ["panelworks", None])
def test_the_last_lines_are_read_in_the_region_of_the_log(account: None, container: str | None) -> None:
    options = {"awslogs-group": GROUP, "awslogs-stream-prefix": "a", "awslogs-region": "eu-west-1"}
    logs = boto3.client("logs", region_name="eu-west-1")
    logs.create_log_group(logGroupName=GROUP)
    logs.create_log_stream(logGroupName=GROUP, logStreamName="a/panelworks/0123")
    now = int(time.time() * 1000)
    events = [{"timestamp": now + number, "message": f"line {number}\n"} for number in range(9)]
    logs.put_log_events(logGroupName=GROUP, logStreamName="a/panelworks/0123", logEvents=events)
    assert read(task_with_log(options), 3, container) == ["line 6", "line 7", "line 8"]


@pytest.mark.parametrize(
    ("options", "part"),
    [
        (None, "turn on 'CloudWatch logs'"),
        ({"awslogs-group": GROUP, "awslogs-stream-prefix": "a"}, "ResourceNotFoundException"),
    ],
)
def test_a_missing_log_is_explained(account: None, options: dict[str, str] | None, part: str) -> None:
    with pytest.raises(NoContainerLog, match=part):
        read(task_with_log(options), 3)


@pytest.mark.parametrize(
    ("partition", "region", "start"),
    [
        (
            "aws",
            "eu-west-1",
            "https://eu-west-1.console.aws.amazon.com/ecs/v2/clusters/panelworks/tasks/0123",
        ),
        ("aws-cn", "cn-north-1", "https://console.amazonaws.cn/ecs/v2/clusters/panelworks/tasks/0123"),
    ],
)
def test_the_console_of_the_partition_is_linked(partition: str, region: str, start: str) -> None:
    task = Task(f"arn:{partition}:ecs:{region}:123456789012:task/panelworks/0123")
    cluster = f"arn:{partition}:ecs:{region}:123456789012:cluster/panelworks"
    assert task.console_url(cluster) == f"{start}?region={region}"


def test_the_container_of_the_run_is_preferred_to_those_that_failed() -> None:
    task = Task("arn", containers=(Container("sidecar", 1), Container("panelworks", 0)))
    names = [found.name if (found := task.find_container(name)) else None for name in ("panelworks", None)]
    assert names == ["panelworks", "sidecar"]
