"""Work pools: their kinds, the templates of their jobs, and checks that the infrastructure accepts the jobs.

The checks ask the libraries that talk to the infrastructure, without a connection to it.
"""

import json
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final, get_args
from uuid import uuid4

from jsonschema import Draft202012Validator
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.objects import FlowRun
from prefect.workers.base import BaseJobConfiguration, BaseWorker

from deployments.names import PoolKind

KINDS: Final[tuple[PoolKind, ...]] = get_args(PoolKind)
AnyWorker = BaseWorker[Any, Any, Any]

_TEMPLATES: Final = Path(__file__).with_name("work_pools")
_WORKERS: Final[dict[PoolKind, tuple[str, str]]] = {
    "process": ("prefect.workers.process", "ProcessWorker"),
    "docker": ("prefect_docker.worker", "DockerWorker"),
    "kubernetes": ("prefect_kubernetes.worker", "KubernetesWorker"),
    "ecs": ("deployments.ecs.worker", "EcsWorker"),
    "runpod": ("deployments.runpod.worker", "RunPodWorker"),
}
"""Module and class of the worker; cloud workers come with the extras of the same names."""
_EXAMPLE_REGION: Final = "us-east-1"
_PREFECT_ONLY_PATHS: Final = frozenset({"spec.template.spec.parallelism", "spec.template.spec.completions"})
"""Prefect's Kubernetes worker requires these in the pod, where Kubernetes has no such fields and drops them."""


class UnknownKind(ValueError):
    """There is no template for this kind of pool, or its worker is not installed."""


@dataclass(frozen=True)
class Rendered:
    """A job as the worker would start it."""

    kind: PoolKind
    configuration: BaseJobConfiguration
    flow_run: FlowRun
    """An example of a run."""


def kind_of(pool_type: str) -> PoolKind:
    """The kind of a pool of the server.

    Raises:
        UnknownKind: its type has no template here.
    """
    for kind in KINDS:
        if kind == pool_type:
            return kind
    raise UnknownKind(f"Pools of type '{pool_type}' are not supported, only: {', '.join(KINDS)}.")


def worker_class(kind: PoolKind) -> type[AnyWorker]:
    """The worker that serves pools of a kind.

    Raises:
        UnknownKind: its package is not installed.
    """
    module, name = _WORKERS[kind]
    try:
        found: type[AnyWorker] = getattr(import_module(module), name)
    except ImportError as missing:
        raise UnknownKind(
            f"Pools of type '{kind}' need a package: pip install 'panelworks[{kind}]' ({missing})."
        ) from missing
    return found


def template(kind: PoolKind, pool: str | None = None) -> dict[str, Any]:
    """The base job template of a kind: the configuration of a run, and the form of its variables.

    Args:
        kind: Of the pool.
        pool: Its name, which its runs record with their cost; without a name they record the kind.

    Raises:
        UnknownKind: the template is the worker's own, and its package is not installed.
    """
    path = _TEMPLATES / f"{kind}.json"
    jobs: dict[str, Any] = (
        json.loads(path.read_text(encoding="utf-8"))
        if path.is_file()
        else worker_class(kind).get_default_base_job_template()
    )
    jobs["job_configuration"]["env"]["PANELWORKS_POOL"] = pool or kind
    return jobs


async def render(
    kind: PoolKind,
    template: Mapping[str, Any],
    variables: Mapping[str, Any] | None = None,
    client: PrefectClient | None = None,
) -> Rendered:
    """Render a base job template with the worker's own classes, as a worker does when it takes a run.

    Args:
        kind: Which worker renders it.
        template: `job_configuration` and `variables`, as in the pool.
        variables: The deployment's job variables, which override the defaults of the template.
        client: Of the server that stores the blocks and variables which the template refers to; None if there are
            none.

    Raises:
        UnknownKind: the worker's package is not installed.
        ValueError: the variables or the result are invalid; errors of pydantic and jsonschema are of this type.
    """
    worker = worker_class(kind)
    given = dict(variables or {})
    for problem in _validate(template, given):
        raise ValueError(problem)
    configuration = await worker.job_configuration.from_template_and_values(
        base_job_template=dict(template), values=given, client=client or _unused_client()
    )
    flow_run = FlowRun(id=uuid4(), flow_id=uuid4(), name="a-page")
    configuration.prepare_for_flow_run(flow_run)
    return Rendered(kind, configuration, flow_run)


def _unused_client() -> PrefectClient:
    """A client that is never called; without a client, Prefect would start a server."""
    return PrefectClient("http://127.0.0.1:1/api")


def _validate(template: Mapping[str, Any], given: Mapping[str, Any]) -> list[str]:
    """The variables that the form of the template rejects."""
    schema = dict(template["variables"])
    flat = {name: value for name, value in given.items() if "." not in name}
    return [
        f"{'.'.join(map(str, error.absolute_path)) or 'variables'}: {error.message}"
        for error in Draft202012Validator(schema).iter_errors(flat)
    ]


def check(rendered: Rendered) -> list[str]:
    """The problems of a rendered job, in plain sentences; empty if the job would start.

    Args:
        rendered: From `render`; its configuration is not changed.
    """
    configuration = rendered.configuration
    problems = [] if configuration.command else ["There is no command to run."]
    return [*problems, *_CHECKS[rendered.kind](rendered)]


def _check_process(rendered: Rendered) -> Iterator[str]:
    del rendered
    yield from ()


def _check_docker(rendered: Rendered) -> Iterator[str]:
    """docker-py's own types build the request of POST /containers/create."""
    import docker
    from docker.errors import DockerException
    from docker.models.containers import _create_container_args

    # With a local API the worker asks the Docker daemon for its version; the check works without a daemon.
    configuration: Any = rendered.configuration.model_copy(deep=True)
    configuration.env["PREFECT_API_URL"] = "https://prefect.example/api"
    worker: Any = worker_class("docker")(work_pool_name="check")
    client = docker.DockerClient(base_url="tcp://127.0.0.1:1", version="1.43")
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            settings = worker._build_container_settings(client, configuration)
            request = _create_container_args({**settings, "version": "1.43"})
        yield from (str(one.message) for one in caught)
        if not request["host_config"].get("DeviceRequests"):
            yield "No GPU is requested: container_create_kwargs.device_requests is empty."
    except (DockerException, TypeError, ValueError) as error:
        yield f"docker-py rejects it: {error}"
    finally:
        client.close()


def _check_kubernetes(rendered: Rendered) -> Iterator[str]:
    """The Kubernetes client's models parse the manifest; the API would drop fields that they do not know."""
    from kubernetes_asyncio.client import ApiClient, Configuration

    manifest: dict[str, Any] = rendered.configuration.model_dump()["job_manifest"]
    client: Any = ApiClient.__new__(ApiClient)  # its __init__ needs a running event loop, for connections
    client.configuration = Configuration()
    try:
        job = client.deserialize(SimpleNamespace(data=json.dumps(manifest)), "V1Job")
    except (TypeError, ValueError) as error:
        yield f"The Kubernetes client rejects it: {error}"
        return
    known = set(_paths(client.sanitize_for_serialization(job)))
    for path in sorted(set(_paths(manifest)) - known - _PREFECT_ONLY_PATHS):
        yield f"Kubernetes does not know {path}."
    limits = manifest["spec"]["template"]["spec"]["containers"][0].get("resources", {}).get("limits", {})
    if not int(limits.get("nvidia.com/gpu", 0)):
        yield "No GPU is requested: the limit nvidia.com/gpu is missing or 0."


def _paths(value: Any, path: str = "") -> Iterator[str]:
    """The paths of all values in nested mappings and lists; empty values are skipped."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _paths(inner, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from _paths(inner, f"{path}[{number}]")
    elif value is not None:
        yield path


def _check_ecs(rendered: Rendered) -> Iterator[str]:
    """botocore validates RegisterTaskDefinition and RunTask, as before each request."""
    definition, request = ecs_requests(rendered)
    for operation, parameters in (("RegisterTaskDefinition", definition), ("RunTask", request)):
        yield from (f"{operation}: {problem}" for problem in _validate_aws(operation, parameters))
    if "FARGATE" in str(request.get("launchType") or request.get("capacityProviderStrategy") or "FARGATE"):
        yield "Fargate has no GPUs: use EC2, EXTERNAL or a capacity provider."
    if rendered.configuration.model_dump()["task_run_request"].get("taskDefinition"):
        yield "With a task definition ARN, all other settings of the container are ignored."
    requested = [
        need.get("type")
        for container in definition.get("containerDefinitions", [])
        for need in container.get("resourceRequirements", [])
    ]
    if "GPU" not in requested:
        yield "No GPU is requested: resourceRequirements of the container is empty."


def ecs_requests(rendered: Rendered) -> tuple[dict[str, Any], dict[str, Any]]:
    """The parameters of RegisterTaskDefinition and RunTask that the ECS worker would send."""
    worker: Any = worker_class("ecs")(work_pool_name="check")
    configuration: Any = rendered.configuration.model_copy(deep=True)
    definition = worker._prepare_task_definition(
        configuration, region=_EXAMPLE_REGION, flow_run=rendered.flow_run
    )
    if definition.get("networkMode") == "awsvpc" and not configuration.network_configuration:
        # Without a network configuration the worker looks up the default VPC of the account.
        configuration.task_run_request.setdefault(
            "networkConfiguration", {"awsvpcConfiguration": {"subnets": ["subnet-of-the-default-vpc"]}}
        )
    arn = configuration.task_run_request.get("taskDefinition") or "panelworks:1"
    return definition, worker._prepare_task_run_request(configuration, definition, arn, True)


def _validate_aws(operation: str, parameters: dict[str, Any]) -> list[str]:
    from botocore.session import get_session
    from botocore.validate import ParamValidator

    shape = get_session().get_service_model("ecs").operation_model(operation).input_shape
    report = ParamValidator().validate(parameters, shape)
    return report.generate_report().splitlines() if report.has_errors() else []


def _check_runpod(rendered: Rendered) -> Iterator[str]:
    """The worker's own model of POST /pods, written after RunPod's published description."""
    configuration: Any = rendered.configuration
    try:
        configuration.pod_request()
    except ValueError as error:
        yield f"RunPod would reject it: {error}"


_CHECKS: Final[dict[PoolKind, Callable[[Rendered], Iterator[str]]]] = {
    "process": _check_process,
    "docker": _check_docker,
    "kubernetes": _check_kubernetes,
    "ecs": _check_ecs,
    "runpod": _check_runpod,
}
