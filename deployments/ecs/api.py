"""The requests of the worker to ECS and CloudWatch, and what they return about tasks and their containers."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any, Final, Self, TypeVar

import anyio
from botocore.exceptions import BotoCoreError, ClientError
from prefect_aws import AwsCredentials

Answer = TypeVar("Answer")

MAX_DESCRIBED: Final = 100
"""Tasks in one request DescribeTasks at most."""
_MAX_LOG_PAGES: Final = 5
"""CloudWatch may answer with pages that are not full."""
_CONSOLES: Final = {"aws-cn": "console.amazonaws.cn", "aws-us-gov": "console.amazonaws-us-gov.com"}
"""Addresses of the console by partition, the second word of an ARN."""


class EcsError(Exception):
    """AWS is unavailable, or refuses a request."""


class NoContainerLog(Exception):
    """The log of a container cannot be read; the message says why."""


@dataclass(frozen=True)
class Container:
    """A container of a task."""

    name: str
    exit_code: int | None = None
    """None: it has not ended, or never started."""
    reason: str = ""
    """Why it did not start, or why it was ended."""


@dataclass(frozen=True)
class Task:
    """A task of ECS."""

    arn: str
    definition_arn: str = ""
    """The task definition with its revision."""
    status: str = ""
    """PROVISIONING, PENDING, ACTIVATING, RUNNING, DEACTIVATING, STOPPING, DEPROVISIONING or STOPPED."""
    stop_code: str = ""
    stopped_reason: str = ""
    stopped_at: datetime | None = None
    containers: tuple[Container, ...] = ()
    tags: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def parse(cls, described: Mapping[str, Any]) -> Self:
        """A task of an answer of DescribeTasks."""
        return cls(
            arn=described["taskArn"],
            definition_arn=described.get("taskDefinitionArn", ""),
            status=described.get("lastStatus", ""),
            stop_code=described.get("stopCode", ""),
            stopped_reason=described.get("stoppedReason", ""),
            stopped_at=described.get("stoppedAt"),
            containers=tuple(
                Container(one.get("name", ""), one.get("exitCode"), one.get("reason", ""))
                for one in described.get("containers", [])
            ),
            tags={tag["key"]: tag.get("value", "") for tag in described.get("tags", [])},
        )

    @property
    def id(self) -> str:
        return self.arn.rpartition("/")[2]

    @property
    def definition(self) -> str:
        """Family and revision: `panelworks:7`."""
        return self.definition_arn.rpartition("/")[2]

    @property
    def has_started(self) -> bool:
        """Whether its containers run, or have run."""
        return self.status not in ("PROVISIONING", "PENDING", "ACTIVATING")

    @property
    def has_stopped(self) -> bool:
        return self.status == "STOPPED"

    def console_url(self, cluster: str) -> str:
        """The page of the task in the console of AWS.

        Args:
            cluster: Name or ARN.
        """
        _, partition, _, region, *_ = self.arn.split(":")
        console = _CONSOLES.get(partition, f"{region}.console.aws.amazon.com")
        name = cluster.rpartition("/")[2]
        return f"https://{console}/ecs/v2/clusters/{name}/tasks/{self.id}?region={region}"

    def find_container(self, name: str | None) -> Container | None:
        """The container of this name; without one, the container that explains best why the task stopped."""
        named = [one for one in self.containers if one.name == name]
        unsuccessful = [one for one in self.containers if one.exit_code != 0]
        return next(iter((*named, *unsuccessful, *self.containers)), None)


@dataclass(frozen=True)
class ContainerLog:
    """The last lines that a container wrote."""

    group: str
    stream: str
    lines: list[str]


@dataclass(frozen=True)
class EcsApi:
    """A cluster of an account."""

    credentials: AwsCredentials
    cluster: str
    """Name or ARN."""

    @property
    def key(self) -> tuple[int, str]:
        """Equal for requests that one client can send together."""
        return hash(self.credentials), self.cluster

    async def describe(self, arns: Sequence[str]) -> dict[str, Task]:
        """The tasks that ECS knows, by ARN. It forgets a task an hour after its end.

        Args:
            arns: At most MAX_DESCRIBED.

        Raises:
            EcsError: AWS is unavailable, or refuses.
        """
        answer = await self._call(
            "ecs", "describe_tasks", cluster=self.cluster, tasks=list(arns), include=["TAGS"]
        )
        return {task.arn: task for task in map(Task.parse, answer["tasks"])}

    async def list_started_by(self, started_by: str) -> list[str]:
        """ARNs of the tasks with this `startedBy` that have not been stopped.

        Raises:
            EcsError: AWS is unavailable, or refuses.
        """
        found: list[str] = []
        token: dict[str, str] = {}
        while True:
            answer = await self._call(
                "ecs", "list_tasks", cluster=self.cluster, startedBy=started_by, **token
            )
            found += answer["taskArns"]
            if not answer.get("nextToken"):
                return found
            token = {"nextToken": answer["nextToken"]}

    async def stop(self, arn: str, reason: str) -> None:
        """Stop a task: its containers receive SIGTERM, and after the stop timeout SIGKILL.

        Raises:
            EcsError: AWS is unavailable, or refuses.
        """
        await self._call("ecs", "stop_task", cluster=self.cluster, task=arn, reason=reason)

    async def read_log(self, task: Task, container: str | None, lines: int) -> ContainerLog:
        """The last lines of a container's log in CloudWatch.

        Args:
            task: With the definition that names the log.
            container: Its name; None takes the first one of the definition.
            lines: How many.

        Raises:
            NoContainerLog: the container has no such log, or it cannot be read.
        """
        try:
            described = await self._call(
                "ecs", "describe_task_definition", taskDefinition=task.definition_arn
            )
            group, stream, region = _find_log(described["taskDefinition"], task, container)
            events = await self._read_events(region, group, stream, lines)
        except EcsError as error:
            raise NoContainerLog(f"The container's log cannot be read: {error}") from error
        return ContainerLog(group, stream, events)

    async def _read_events(self, region: str | None, group: str, stream: str, lines: int) -> list[str]:
        found: list[str] = []
        token: dict[str, str] = {}
        for _ in range(_MAX_LOG_PAGES):
            answer = await self._call(
                "logs", "get_log_events", region=region, logGroupName=group, logStreamName=stream,
                limit=lines, startFromHead=False, **token,
            )  # fmt: skip
            found[:0] = [event["message"].rstrip() for event in answer["events"]]
            following = answer.get("nextBackwardToken")
            if len(found) >= lines or not following or following == token.get("nextToken"):
                break
            token = {"nextToken": following}
        return found[-lines:]

    async def _call(self, service: str, operation: str, region: str | None = None, **given: Any) -> Any:
        """Send a request from a thread; botocore repeats it when AWS throttles it.

        Raises:
            EcsError: AWS is unavailable, or refuses.
        """
        return await _in_thread(partial(self._send, service, operation, region, given))

    def _send(self, service: str, operation: str, region: str | None, given: dict[str, Any]) -> Any:
        credentials = self.credentials
        if region and region != credentials.region_name:
            credentials = credentials.model_copy(update={"region_name": region})
        try:
            return getattr(credentials.get_client(service), operation)(**given)
        except (BotoCoreError, ClientError) as error:
            raise EcsError(f"{type(error).__name__}: {error}") from error


async def _in_thread(call: Callable[[], Answer]) -> Answer:
    return await anyio.to_thread.run_sync(call, abandon_on_cancel=True)


def _find_log(
    definition: Mapping[str, Any], task: Task, container: str | None
) -> tuple[str, str, str | None]:
    """Group, stream and region of a container's log.

    Raises:
        NoContainerLog: its output is not sent to CloudWatch.
    """
    for one in _candidates(definition, container):
        log = one.get("logConfiguration", {})
        options = log.get("options", {})
        group, prefix = options.get("awslogs-group"), options.get("awslogs-stream-prefix")
        if log.get("logDriver") == "awslogs" and group and prefix:
            return group, f"{prefix}/{one['name']}/{task.id}", options.get("awslogs-region")
    raise NoContainerLog(
        "The container's output is not stored: turn on 'CloudWatch logs' in the form of the work pool."
    )


def _candidates(definition: Mapping[str, Any], container: str | None) -> Iterator[Mapping[str, Any]]:
    containers = definition.get("containerDefinitions", [])
    if container is None:
        yield from containers[:1]
    yield from (one for one in containers if one.get("name") == container)
