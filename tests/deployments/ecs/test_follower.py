"""Tasks are asked for together, and an outage of AWS loses none."""

import asyncio
from collections.abc import Mapping
from typing import Any, cast
from uuid import uuid4

import boto3
import pytest
from botocore.config import Config
from botocore.stub import Stubber
from prefect.client.schemas.objects import FlowRun
from prefect_aws import AwsCredentials

from deployments.ecs.api import EcsApi, EcsError, Task
from deployments.ecs.follower import MISSING_CHECKS, FollowedTask, TaskFollower

CLUSTER = "panelworks"


def arn(number: int) -> str:
    return f"arn:aws:ecs:us-east-1:123456789012:task/{CLUSTER}/{number:032d}"


class Credentials:
    """A block whose client is stubbed."""

    region_name = "us-east-1"

    def __init__(self, client: Any) -> None:
        self._client = client

    def get_client(self, service: str) -> Any:
        return {"ecs": self._client}[service]


class Aws:
    """Requests to ECS, answered in order by botocore's Stubber, which validates both sides."""

    def __init__(self) -> None:
        self.client = boto3.client("ecs", config=Config(retries={"total_max_attempts": 1}))
        self.stub = Stubber(self.client)
        self.stub.activate()
        credentials = Credentials(self.client)
        self.api = EcsApi(cast(AwsCredentials, credentials), CLUSTER)

    def describes(self, asked: list[str], statuses: Mapping[str, str]) -> None:
        tasks = [{"taskArn": one, "lastStatus": status} for one, status in statuses.items()]
        self.stub.add_response(
            "describe_tasks", {"tasks": tasks}, {"cluster": CLUSTER, "tasks": asked, "include": ["TAGS"]}
        )

    def fails(self, code: str) -> None:
        self.stub.add_client_error("describe_tasks", code, http_status_code=400)


class Log:
    """Records what the follower reports."""

    def __init__(self) -> None:
        self.changes: list[tuple[str, str]] = []
        self.stops: list[tuple[str, bool]] = []
        self.is_reachable = True
        self.checks = 0
        self.follower = TaskFollower(self._change, self._stop, self._checked)

    async def _change(self, followed: FollowedTask, task: Task) -> None:
        self.changes.append((followed.arn, task.status))

    async def _stop(self, followed: FollowedTask, task: Task | None) -> bool:
        self.stops.append((followed.arn, task is not None))
        return self.is_reachable

    async def _checked(self) -> None:
        self.checks += 1


@pytest.fixture
def aws() -> Aws:
    return Aws()


@pytest.fixture
def log() -> Log:
    return Log()


def followed(aws: Aws, number: int) -> FollowedTask:
    return FollowedTask(aws.api, arn(number), FlowRun(id=uuid4(), flow_id=uuid4()))


async def check(log: Log, times: int = 1) -> None:
    for _ in range(times):
        await log.follower.check()


def test_150_tasks_cost_two_requests(aws: Aws, log: Log) -> None:
    names = [log.follower.follow(followed(aws, number)).arn for number in range(150)]
    aws.describes(names[:100], dict.fromkeys(names[:100], "PENDING"))
    aws.describes(names[100:], dict.fromkeys(names[100:], "RUNNING"))
    asyncio.run(check(log))
    aws.stub.assert_no_pending_responses()
    assert len(log.changes) == 150


def test_only_changes_are_reported_and_a_stop_ends_it(aws: Aws, log: Log) -> None:
    task = log.follower.follow(followed(aws, 1))
    for status in ("PENDING", "PENDING", "RUNNING", "STOPPED"):
        aws.describes([arn(1)], {arn(1): status})
    asyncio.run(check(log, 5))
    assert [status for _, status in log.changes] == ["PENDING", "RUNNING", "STOPPED"]
    assert log.stops == [(arn(1), True)] and task.ended.is_set() and not log.follower.arns
    aws.stub.assert_no_pending_responses()


@pytest.mark.parametrize("code", ["ThrottlingException", "ServerException", "AccessDeniedException"])
def test_tasks_are_still_followed_after_an_error_of_aws(aws: Aws, log: Log, code: str) -> None:
    log.follower.follow(followed(aws, 1))
    for _ in range(MISSING_CHECKS + 1):
        aws.fails(code)
    aws.describes([arn(1)], {arn(1): "STOPPED"})
    asyncio.run(check(log, MISSING_CHECKS + 1))
    assert log.stops == [] and log.follower.arns == {arn(1)}
    asyncio.run(check(log))
    assert log.stops == [(arn(1), True)]


def test_an_unreachable_aws_is_an_error_of_ours() -> None:
    unreachable = {"endpoint_url": "http://127.0.0.1:1", "config": {"retries": {"total_max_attempts": 1}}}
    credentials = AwsCredentials(region_name="us-east-1", aws_client_parameters=cast(Any, unreachable))
    with pytest.raises(EcsError, match="EndpointConnectionError"):
        asyncio.run(EcsApi(credentials, CLUSTER).describe([arn(1)]))


def test_a_task_that_is_unknown_at_first_is_not_given_up(aws: Aws, log: Log) -> None:
    log.follower.follow(followed(aws, 1))
    for _ in range(MISSING_CHECKS - 1):
        aws.describes([arn(1)], {})
    aws.describes([arn(1)], {arn(1): "RUNNING"})
    for _ in range(MISSING_CHECKS):
        aws.describes([arn(1)], {})
    asyncio.run(check(log, MISSING_CHECKS))
    assert log.stops == []
    asyncio.run(check(log, MISSING_CHECKS))
    assert log.stops == [(arn(1), False)]


def test_a_stop_that_could_not_be_reported_is_reported_later(aws: Aws, log: Log) -> None:
    task = log.follower.follow(followed(aws, 1))
    log.is_reachable = False
    for _ in range(2):
        aws.describes([arn(1)], {arn(1): "STOPPED"})
    asyncio.run(check(log))
    assert not task.ended.is_set()
    log.is_reachable = True
    asyncio.run(check(log))
    assert task.ended.is_set() and len(log.stops) == 2


def test_throttling_is_retried_by_botocore_within_a_request() -> None:
    assert AwsCredentials().get_client("ecs").meta.config.retries["mode"] in ("legacy", "standard")
