"""The templates of the work pools, rendered by the real workers and checked by the libraries of each infrastructure."""

import asyncio
import json
import re
from collections.abc import Iterator
from copy import deepcopy
from typing import Any
from uuid import uuid4

import boto3
import pytest
from moto import mock_aws
from moto.ec2.utils import generate_instance_identity_document
from prefect.client.schemas.objects import WorkPool

from deployments.names import PoolKind
from deployments.pools import KINDS, UnknownKind, check, ecs_requests, kind_of, render, template


def problems(kind: PoolKind, variables: dict[str, Any] | None = None, jobs: Any = None) -> list[str]:
    return check(asyncio.run(render(kind, jobs or template(kind), variables)))


@pytest.fixture(autouse=True)
def _somewhere_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_API_URL", "https://prefect.example/api")


@pytest.mark.parametrize("kind", KINDS)
def test_every_template_is_accepted_unchanged(kind: PoolKind) -> None:
    assert problems(kind) == []


@pytest.mark.parametrize("kind", KINDS)
def test_every_variable_is_explained_and_used(kind: PoolKind) -> None:
    jobs = template(kind)
    asked = set(re.findall(r"\{\{ (\w+) \}\}", json.dumps(jobs["job_configuration"])))
    form = jobs["variables"]["properties"]
    assert asked | {"env"} == form.keys() | {"env"}, "env is merged by Prefect"
    for name, one in form.items():
        assert {"title", "description", "default"} <= one.keys() or name in ("env", "labels"), name


@pytest.mark.parametrize("kind", KINDS)
def test_the_form_has_the_fields_of_a_gpu(kind: PoolKind) -> None:
    form = template(kind)["variables"]["properties"]
    assert "price_per_gpu_hour" in form
    if kind != "process":
        assert "gpu_count" in form and "image" in form
        assert any(name.startswith("max_runtime") for name in form)


@pytest.mark.parametrize("kind", KINDS)
def test_the_variables_of_a_deployment_override_the_pool(kind: PoolKind) -> None:
    rendered = asyncio.run(
        render(kind, template(kind), {"env": {"S3_BUCKET": "comics"}, "price_per_gpu_hour": 0.43})
    )
    env = rendered.configuration.env
    assert env["S3_BUCKET"] == "comics"
    assert (env["PANELWORKS_POOL"], env["PANELWORKS_GPU_PRICE_PER_HOUR"]) == (kind, "0.43")


@pytest.mark.parametrize(
    ("kind", "variables", "problem"),
    [
        ("kubernetes", {"gpu_count": 0}, "No GPU is requested"),
        ("kubernetes", {"tolerations": [{"key": "gpu", "effects": "NoSchedule"}]}, r"does not know .*effects"),
        ("ecs", {"capacity_provider_strategy": [{"capacityProvider": "FARGATE"}]}, "Fargate has no GPU"),
        ("ecs", {"capacity_provider_strategy": [{"capacityProvider": "x", "wait": 1}]}, "Unknown parameter.*wait"),
        ("docker", {"shm_size": "plenty"}, "docker-py rejects it"),
        ("runpod", {"env": {f"V{n}": "x" for n in range(60)}}, "at most 50"),
    ],
)  # fmt: skip
def test_a_job_that_would_not_start_is_reported(
    kind: PoolKind, variables: dict[str, Any], problem: str
) -> None:
    assert any(re.search(problem, one) for one in problems(kind, variables)), problems(kind, variables)


@pytest.mark.parametrize(
    ("kind", "variables", "problem"),
    [
        ("ecs", {"gpu_count": 1}, "gpu_count: 1 is not of type 'string'"),
        ("ecs", {"launch_type": "FARGATE"}, "launch_type"),
        ("docker", {"max_runtime_minutes": 0}, "max_runtime_minutes"),
        ("kubernetes", {"image_pull_policy": "Sometimes"}, "image_pull_policy"),
        ("runpod", {"gpu_types": []}, "gpu_types"),
        ("runpod", {"cloud": "PRIVATE"}, "cloud"),
    ],
)
def test_variables_that_the_form_rejects_are_reported(
    kind: PoolKind, variables: dict[str, Any], problem: str
) -> None:
    with pytest.raises(ValueError, match=problem):
        problems(kind, variables)


def test_botocore_finds_a_number_of_gpus_that_is_not_text() -> None:
    jobs = deepcopy(template("ecs"))
    container = jobs["job_configuration"]["task_definition"]["containerDefinitions"][0]
    container["resourceRequirements"][0]["value"] = 1
    assert any(
        "RegisterTaskDefinition" in one and "resourceRequirements" in one
        for one in problems("ecs", jobs=jobs)
    )


def test_a_field_that_kubernetes_would_drop_is_found() -> None:
    jobs = deepcopy(template("kubernetes"))
    jobs["job_configuration"]["job_manifest"]["spec"]["template"]["spec"]["nodeSelectors"] = {"gpu": "l4"}
    assert problems("kubernetes", jobs=jobs) == [
        "Kubernetes does not know spec.template.spec.nodeSelectors.gpu."
    ]


@pytest.mark.parametrize("kind", ["kubernetes", "ecs"])
def test_runs_of_spot_machines_are_rescheduled(kind: PoolKind) -> None:
    rendered: Any = asyncio.run(render(kind, template(kind))).configuration
    assert rendered.env["PREFECT_FLOW_RUN_EXECUTE_SIGTERM_BEHAVIOR"] == "reschedule"


def test_a_type_without_a_template_is_rejected() -> None:
    with pytest.raises(UnknownKind, match="vertex-ai"):
        kind_of("vertex-ai")


@pytest.fixture
def ecs() -> Iterator[Any]:
    with mock_aws():
        client = boto3.client("ecs", region_name="us-east-1")
        client.create_cluster(clusterName="panelworks")
        machines = boto3.resource("ec2", region_name="us-east-1")
        machine = machines.create_instances(ImageId="ami-12c6146b", MinCount=1, MaxCount=1)[0]
        document = json.dumps(generate_instance_identity_document(machine))
        client.register_container_instance(cluster="panelworks", instanceIdentityDocument=document)
        yield client


def test_ecs_registers_and_runs_it(ecs: Any) -> None:
    definition, request = ecs_requests(asyncio.run(render("ecs", template("ecs"), {"memory": 2048})))
    known = ecs.register_task_definition(**definition)["taskDefinition"]
    needs = known["containerDefinitions"][0]["resourceRequirements"]
    assert needs == [{"value": "1", "type": "GPU"}]
    started = ecs.run_task(**{**request, "taskDefinition": known["taskDefinitionArn"]})
    assert started["failures"] == [] and len(started["tasks"]) == 1


def test_a_task_of_ecs_names_its_pool_run_and_attempt() -> None:
    """A worker finds it again by these."""
    rendered = asyncio.run(render("ecs", template("ecs")))
    pool = WorkPool(id=uuid4(), name="fleet", type="ecs", default_queue_id=uuid4())
    configuration: Any = rendered.configuration
    configuration.prepare_for_flow_run(rendered.flow_run, work_pool=pool)
    _, request = ecs_requests(rendered)
    tags = {tag["key"]: tag["value"] for tag in request["tags"]}
    assert request["startedBy"] == str(pool.id)
    assert (tags["prefect.io/flow-run-id"], tags["panelworks/run-count"]) == (str(rendered.flow_run.id), "0")
    assert (configuration.poll_seconds, configuration.log_lines) == (15, 50)
