"""A cluster of ECS and its logs, simulated by moto over HTTP. Its tasks run nothing: a test decides what happens to them."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Final

import boto3
import pytest
from moto.core.responses import ActionResult
from moto.ec2.utils import generate_instance_identity_document
from moto.ecs.models import ecs_backends
from moto.ecs.responses import EC2ContainerServiceResponse
from moto.moto_api import state_manager
from moto.server import ThreadedMotoServer

REGION: Final = "us-east-1"
CONTAINER: Final = "panelworks"
_ACCOUNT: Final = "123456789012"
"""Moto's account."""
_RUN_TAG: Final = "prefect.io/flow-run-id"


class Cluster:
    """The account with one cluster that has an instance."""

    def __init__(self, name: str, url: str) -> None:
        self.name = name
        self.url = url
        self.ecs = self._client("ecs")
        self.ecs.create_cluster(clusterName=name)
        machines = boto3.resource("ec2", region_name=REGION, endpoint_url=url)
        machine = machines.create_instances(ImageId="ami-12c6146b", MinCount=1, MaxCount=1)[0]
        document = json.dumps(generate_instance_identity_document(machine))
        self.ecs.register_container_instance(cluster=name, instanceIdentityDocument=document)

    def _client(self, service: str) -> Any:
        return boto3.client(service, region_name=REGION, endpoint_url=self.url)

    def tasks(self, run: object) -> list[Any]:
        """The tasks of a run, the first one first: objects of moto that can be changed."""
        known = ecs_backends[_ACCOUNT][REGION].tasks.get(self.name, {})
        return [task for task in known.values() if {"key": _RUN_TAG, "value": str(run)} in task.tags]

    def stop(
        self, task: Any, code: str, reason: str, exit_code: int | None = None, container: str = ""
    ) -> None:
        """End a task as ECS describes it."""
        task.containers[0].exitCode = exit_code
        task.containers[0].reason = container or None
        task.stop_code, task.stopped_reason = code, reason
        task.stopped_at = datetime.now(UTC)
        self.ecs.stop_task(cluster=self.name, task=task.task_arn, reason=reason)  # frees its instance

    def write_log(self, task: Any, *lines: str) -> None:
        """Write what the container of a task would have written to its log in CloudWatch."""
        definition = self.ecs.describe_task_definition(taskDefinition=task.task_definition_arn)[
            "taskDefinition"
        ]
        options = definition["containerDefinitions"][0]["logConfiguration"]["options"]
        group, stream = options["awslogs-group"], f"{options['awslogs-stream-prefix']}/{CONTAINER}/{task.id}"
        logs = self._client("logs")
        if not logs.describe_log_groups(logGroupNamePrefix=group)["logGroups"]:
            logs.create_log_group(logGroupName=group)
        logs.create_log_stream(logGroupName=group, logStreamName=stream)
        now = int(datetime.now(UTC).timestamp() * 1000)
        events = [{"timestamp": now + number, "message": line} for number, line in enumerate(lines)]
        logs.put_log_events(logGroupName=group, logStreamName=stream, logEvents=events)


@contextmanager
def serve_cluster(name: str) -> Iterator[Cluster]:
    """Serve a cluster whose tasks change only when a test changes them."""
    state_manager.set_transition("ecs::task", {"progression": "time", "seconds": 1_000_000})
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    try:
        yield Cluster(name, f"http://{host}:{port}")
    finally:
        server.stop()
        state_manager.unset_transition("ecs::task")


def refuse_tasks(patch: pytest.MonkeyPatch, reason: str) -> None:
    """Answer RunTask as ECS does when it cannot place a task."""
    answer = ActionResult({"tasks": [], "failures": [{"arn": "arn:aws:ecs:instance", "reason": reason}]})
    patch.setattr(EC2ContainerServiceResponse, "run_task", lambda self: answer)
