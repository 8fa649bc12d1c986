"""Would the infrastructure take the job? Asked of the libraries that talk to it, without talking to it."""

import json
import warnings
from collections.abc import Callable, Iterator
from typing import Any, Final

from deployments.names import PoolKind
from deployments.pools.kinds import worker_class
from deployments.pools.rendering import Rendered

_ANY_REGION: Final = "us-east-1"
_PREFECTS_OWN: Final = frozenset({"spec.template.spec.parallelism", "spec.template.spec.completions"})
"""Prefect's Kubernetes worker demands these in the pod, where Kubernetes has no such fields and drops them."""


def check(rendered: Rendered) -> list[str]:
    """What is wrong with a rendered job, in plain sentences; none when it would start.

    Args:
        rendered: From `render`; its configuration is not changed.
    """
    configuration = rendered.configuration
    problems = [] if configuration.command else ["There is no command to run."]
    return [*problems, *_CHECKS[rendered.kind](rendered)]


def _process(rendered: Rendered) -> Iterator[str]:
    del rendered
    yield from ()


def _docker(rendered: Rendered) -> Iterator[str]:
    """docker-py's own types build the request of POST /containers/create."""
    import docker
    from docker.errors import DockerException
    from docker.models.containers import _create_container_args

    # With a local API the worker asks the Docker daemon for its version; a check needs no daemon.
    configuration: Any = rendered.configuration.model_copy(deep=True)
    configuration.env["PREFECT_API_URL"] = "https://prefect.example/api"
    worker: Any = worker_class("docker")(work_pool_name="check")
    client = docker.DockerClient(base_url="tcp://127.0.0.1:1", version="1.43")
    try:
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            settings = worker._build_container_settings(client, configuration)
            request = _create_container_args({**settings, "version": "1.43"})
        yield from (str(one.message) for one in said)
        if not request["host_config"].get("DeviceRequests"):
            yield "No GPU is asked for: container_create_kwargs.device_requests is empty."
    except (DockerException, TypeError, ValueError) as refused:
        yield f"docker-py refuses it: {refused}"
    finally:
        client.close()


def _kubernetes(rendered: Rendered) -> Iterator[str]:
    """The Kubernetes client's models take the manifest; what they do not know, the API would drop."""
    from types import SimpleNamespace

    from kubernetes_asyncio.client import ApiClient

    manifest: dict[str, Any] = rendered.configuration.model_dump()["job_manifest"]
    client: Any = ApiClient.__new__(ApiClient)  # its __init__ wants a running event loop, for connections
    client.configuration = _client_configuration()
    try:
        job = client.deserialize(SimpleNamespace(data=json.dumps(manifest)), "V1Job")
    except (TypeError, ValueError) as refused:
        yield f"The Kubernetes client refuses it: {refused}"
        return
    known = set(_paths(client.sanitize_for_serialization(job)))
    for path in sorted(set(_paths(manifest)) - known - _PREFECTS_OWN):
        yield f"Kubernetes does not know {path}."
    limits = manifest["spec"]["template"]["spec"]["containers"][0].get("resources", {}).get("limits", {})
    if not int(limits.get("nvidia.com/gpu", 0)):
        yield "No GPU is asked for: the limit nvidia.com/gpu is missing or 0."


def _client_configuration() -> Any:
    from kubernetes_asyncio.client import Configuration

    return Configuration()


def _paths(value: Any, path: str = "") -> Iterator[str]:
    """The places of all values in nested mappings and lists; empty ones do not count."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _paths(inner, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from _paths(inner, f"{path}[{number}]")
    elif value is not None:
        yield path


def _ecs(rendered: Rendered) -> Iterator[str]:
    """botocore's validation of RegisterTaskDefinition and RunTask, as it runs before each request."""
    definition, request = ecs_requests(rendered)
    yield from (f"RegisterTaskDefinition: {wrong}" for wrong in _aws("RegisterTaskDefinition", definition))
    yield from (f"RunTask: {wrong}" for wrong in _aws("RunTask", request))
    if "FARGATE" in str(request.get("launchType") or request.get("capacityProviderStrategy") or "FARGATE"):
        yield "Fargate has no GPU: take EC2, EXTERNAL or a capacity provider."
    if rendered.configuration.model_dump()["task_run_request"].get("taskDefinition"):
        yield "With a task definition ARN every other setting of the container is without effect."
    asked = [
        need.get("type")
        for container in definition.get("containerDefinitions", [])
        for need in container.get("resourceRequirements", [])
    ]
    if "GPU" not in asked:
        yield "No GPU is asked for: resourceRequirements of the container is empty."


def ecs_requests(rendered: Rendered) -> tuple[dict[str, Any], dict[str, Any]]:
    """The parameters of RegisterTaskDefinition and RunTask that the ECS worker would send."""
    worker: Any = worker_class("ecs")(work_pool_name="check")
    configuration: Any = rendered.configuration.model_copy(deep=True)
    definition = worker._prepare_task_definition(
        configuration, region=_ANY_REGION, flow_run=rendered.flow_run
    )
    if definition.get("networkMode") == "awsvpc" and not configuration.network_configuration:
        # Else the worker looks the default VPC up in the account.
        configuration.task_run_request.setdefault(
            "networkConfiguration", {"awsvpcConfiguration": {"subnets": ["subnet-of-the-default-vpc"]}}
        )
    arn = configuration.task_run_request.get("taskDefinition") or "panelworks:1"
    return definition, worker._prepare_task_run_request(configuration, definition, arn, True)


def _aws(operation: str, parameters: dict[str, Any]) -> list[str]:
    from botocore.session import get_session
    from botocore.validate import ParamValidator

    shape = get_session().get_service_model("ecs").operation_model(operation).input_shape
    report = ParamValidator().validate(parameters, shape)
    return report.generate_report().splitlines() if report.has_errors() else []


def _runpod(rendered: Rendered) -> Iterator[str]:
    """The worker's own model of POST /pods, written after RunPod's published description."""
    configuration: Any = rendered.configuration
    try:
        configuration.pod_request()
    except ValueError as refused:
        yield f"RunPod would refuse it: {refused}"


_CHECKS: Final[dict[PoolKind, Callable[[Rendered], Iterator[str]]]] = {
    "process": _process,
    "docker": _docker,
    "kubernetes": _kubernetes,
    "ecs": _ecs,
    "runpod": _runpod,
}
