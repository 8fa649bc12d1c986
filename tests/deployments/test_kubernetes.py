"""The manifests of the stack in a cluster, without a cluster: schemas, commands, variables, references."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any, Final

import jsonschema
import kubernetes_validate
import prefect.settings
import pytest
import yaml
from prefect_kubernetes.settings import KubernetesSettings
from pydantic import BaseModel

from deployments.pools import template
from docs.generated_pages import find_process_variables
from panelworks.settings import Settings
from tests.commands import assert_command_exists
from tests.deployments.manifests import (
    COMPONENTS,
    CONTAINERS,
    FOLDER,
    GUIDE,
    KUSTOMIZATION,
    MANIFESTS,
    OUR_CONTAINERS,
    SCALER,
    VERSIONS,
    WORKLOADS,
    Manifest,
    containers,
    labels,
    named,
    of_kind,
    pod,
    selects,
    value,
    variables,
)
from tests.deployments.test_compose import SERVICES as COMPOSE
from tests.deployments.test_compose import our_variables


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("manifest", MANIFESTS, ids=named)
def test_kubernetes_accepts_each_manifest(manifest: Manifest, version: str) -> None:
    kubernetes_validate.validate(manifest, version, strict=True)


@pytest.mark.parametrize("fault", [{"replica": 2}, {"replicas": "two"}])
def test_the_schemas_reject_unknown_fields_and_wrong_types(fault: Manifest) -> None:
    broken = deepcopy(WORKLOADS["server"])
    broken["spec"] |= fault
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(broken, VERSIONS[-1], strict=True)


def _object(*required: str, **fields: Any) -> Manifest:
    return {
        "type": "object",
        "properties": fields,
        "required": list(required),
        "additionalProperties": False,
    }


COUNT: Final = {"type": "integer", "minimum": 0}
TEXT: Final = {"type": "string"}
SCALED_OBJECT: Final = _object(
    "apiVersion", "kind", "metadata", "spec",
    apiVersion={"const": "keda.sh/v1alpha1"},
    kind={"const": "ScaledObject"},
    metadata=_object("name", name=TEXT, labels={"type": "object"}),
    spec=_object(
        "scaleTargetRef", "triggers",
        scaleTargetRef=_object("name", apiVersion=TEXT, kind=TEXT, name=TEXT),
        minReplicaCount=COUNT,
        maxReplicaCount=COUNT,
        pollingInterval=COUNT,
        fallback=_object(
            "failureThreshold", "replicas", failureThreshold=COUNT, replicas=COUNT,
            behavior={"enum": ["static", "currentReplicas", "currentReplicasIfHigher", "currentReplicasIfLower"]},
        ),
        advanced=_object(horizontalPodAutoscalerConfig=_object(behavior={"type": "object"})),
        triggers={"type": "array", "minItems": 1, "items": _object(
            "type", "metadata", type={"const": "prometheus"}, metricType={"enum": ["AverageValue", "Value"]},
            metadata=_object(
                "serverAddress", "query", "threshold",
                serverAddress=TEXT, query=TEXT, threshold=TEXT, ignoreNullValues={"enum": ["true", "false"]},
            ),
        )},
    ),
)  # fmt: skip
"""The fields that we use, as KEDA documents them: no package with its schema can be installed by pip."""


def test_the_scaler_has_the_fields_of_keda() -> None:
    jsonschema.validate(SCALER, SCALED_OBJECT)
    behavior = SCALER["spec"]["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
    target = SCALER["spec"]["scaleTargetRef"]
    spec = {"scaleTargetRef": target, "maxReplicas": 1, "behavior": behavior}
    as_autoscaler = {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {},
        "spec": spec,
    }
    kubernetes_validate.validate(as_autoscaler, VERSIONS[-1], strict=True)


@pytest.mark.parametrize("component", [None, *COMPONENTS])
def test_kubectl_renders_it(component: str | None, tmp_path: Path) -> None:
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("needs kubectl")
    folder = shutil.copytree(FOLDER, tmp_path / "kubernetes")
    text = (folder / "kustomization.yaml").read_text(encoding="utf-8")
    wanted = text.replace("components: []", f"components: [{component or ''}]")
    (folder / "kustomization.yaml").write_text(wanted, encoding="utf-8")
    done = subprocess.run([kubectl, "kustomize", str(folder)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    rendered = [one for one in yaml.safe_load_all(done.stdout) if one["kind"] != "ScaledObject"]
    for manifest in rendered:
        kubernetes_validate.validate(manifest, VERSIONS[-1], strict=True)
        assert manifest["metadata"]["namespace"] == KUSTOMIZATION["namespace"]
    worker = next(one for one in rendered if named(one) == "StatefulSet-worker")
    image = worker["spec"]["template"]["spec"]["containers"][0]["image"]
    assert image == f"REGISTRY/panelworks:{'cuda' if component == 'gpu' else 'cpu'}"
    assert worker["spec"].get("replicas") == (0 if component == "jobs" else None)


def test_the_kustomization_lists_every_file() -> None:
    assert {path.name for path in FOLDER.glob("*.yaml")} == {
        "kustomization.yaml",
        *KUSTOMIZATION["resources"],
    }
    assert {path.name for path in FOLDER.iterdir() if path.is_dir()} == set(COMPONENTS)
    assert all(f"`{component}`" in GUIDE for component in COMPONENTS)


# Roles, commands and variables


def test_every_role_of_the_compose_file_has_a_counterpart() -> None:
    external = {"objects", "bucket"}  # an S3 bucket of the operator
    assert {name.removesuffix("-cpu") for name in COMPOSE} - external <= WORKLOADS.keys()
    assert all(
        COMPOSE[name]["image"] == pod(name)["containers"][0]["image"] for name in ("postgres", "redis")
    )


def commands_of(container: Manifest) -> Iterator[list[str]]:
    words = [*container.get("command", []), *container.get("args", [])]
    if words[0] != "sh":
        yield words
        return
    for found in re.findall(r"\b(?:prefect|panelworks) (?:[^&|;>]+)", words[-1]):
        yield found.split()


@pytest.mark.parametrize("container", OUR_CONTAINERS.values(), ids=OUR_CONTAINERS)
def test_commands_exist(container: Manifest) -> None:
    commands = list(commands_of(container))
    assert commands
    for command in commands:
        assert_command_exists(command)


def _integration_variables(model: type[BaseModel], prefix: str) -> Iterator[str]:
    for name, field in model.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            yield from _integration_variables(inner, f"{prefix}_{name.upper()}")
        yield f"{prefix}_{name.upper()}"


@pytest.mark.parametrize("container", OUR_CONTAINERS.values(), ids=OUR_CONTAINERS)
def test_variables_are_settings(container: Manifest) -> None:
    """A misspelt variable would be ignored silently."""
    parts = re.findall(r"\$\((\w+)\)", str(container))
    process = find_process_variables()
    of_jobs = set(_integration_variables(KubernetesSettings, "PREFECT_INTEGRATIONS_KUBERNETES"))
    for variable in variables(container):
        if variable.startswith("PREFECT_REDIS_"):
            continue  # these are settings of prefect-redis, which only the image has
        known = hasattr(prefect.settings, variable) or variable in our_variables() or variable in process
        assert known or variable in of_jobs or variable in parts, variable


@pytest.mark.parametrize("container", CONTAINERS.values(), ids=CONTAINERS)
def test_variables_refer_to_earlier_ones(container: Manifest) -> None:
    """Kubernetes leaves `$(NAME)` as it is where no earlier variable has the name."""
    known: set[str] = set()
    for name, text in variables(container).items():
        assert set(re.findall(r"\$\((\w+)\)", text or "")) <= known, name
        known.add(name)
    words = [*container.get("command", []), *container.get("args", [])]
    assert set(re.findall(r"\$\((\w+)\)", " ".join(words))) <= known


def test_the_settings_accept_the_values(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, text in variables(pod("worker")["containers"][0]).items():
        monkeypatch.setenv(name, "secret" if text is None else text)
    settings = Settings(_env_file=None)
    assert settings.store == "s3://BUCKET/work"
    assert settings.s3_endpoint is None
    assert settings.device == "cpu"


def test_the_database_accepts_any_password(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, text in variables(pod("server")["containers"][0]).items():
        monkeypatch.setenv(name, "p@ss/w:rd" if text is None else text)
    url = prefect.settings.Settings().server.database.connection_url
    assert url is not None
    assert url.get_secret_value() == "postgresql+asyncpg://prefect:p%40ss%2Fw%3Ard@postgres:5432/prefect"


# References


@pytest.mark.parametrize("name", WORKLOADS)
def test_references_exist(name: str) -> None:
    spec = pod(name)
    for container in containers(name):
        for source in container.get("envFrom", []):
            assert source["configMapRef"]["name"] in of_kind("ConfigMap")
        volumes = {one["name"] for one in spec.get("volumes", [])}
        volumes |= {
            one["metadata"]["name"] for one in WORKLOADS[name]["spec"].get("volumeClaimTemplates", [])
        }
        assert {one["name"] for one in container["volumeMounts"]} <= volumes
    claims = [
        one["persistentVolumeClaim"]["claimName"]
        for one in spec.get("volumes", [])
        if "persistentVolumeClaim" in one
    ]
    assert set(claims) <= of_kind("PersistentVolumeClaim").keys()
    if WORKLOADS[name]["kind"] == "StatefulSet":
        assert WORKLOADS[name]["spec"]["serviceName"] in of_kind("Service")
    assert spec.get("serviceAccountName", "job-worker") in of_kind("ServiceAccount")


def test_addresses_name_services_and_their_ports() -> None:
    texts = [str(text) for one in OUR_CONTAINERS.values() for text in variables(one).values()]
    found = {match for text in texts for match in re.findall(r"(?:http://|@)([a-z-]+):(\d+)", text)}
    found.add(
        (value("server", "PREFECT_SERVER_DATABASE_HOST"), value("server", "PREFECT_SERVER_DATABASE_PORT"))
    )
    services = {
        (name, str(port["port"])) for name, one in of_kind("Service").items() for port in one["spec"]["ports"]
    }
    assert found == {("server", "4200"), ("redis", "6379"), ("postgres", "5432")}
    assert found <= services


def secret_keys(*, optional: bool) -> set[str]:
    found = [
        one["valueFrom"]["secretKeyRef"]
        for container in CONTAINERS.values()
        for one in container["env"]
        if "secretKeyRef" in one.get("valueFrom", {})
    ]
    assert {one["name"] for one in found} == {"panelworks"}
    return {one["key"] for one in found if one.get("optional", False) == optional}


def test_the_guide_creates_the_secret_with_every_key() -> None:
    command = re.search(r"kubectl create secret generic panelworks (?:.*\\\n)*.*", GUIDE)
    assert command is not None
    created = set(re.findall(r"--from-literal=(\w+)=", command[0]))
    assert secret_keys(optional=False) <= created
    assert created <= secret_keys(optional=False) | secret_keys(optional=True)


def test_no_manifest_contains_a_secret() -> None:
    assert of_kind("Secret") == {}
    for container in CONTAINERS.values():
        for one in container["env"]:
            assert "value" not in one or not re.search(
                "PASSWORD|SECRET_ACCESS|API_KEYS|AUTH_STRING$", one["name"]
            )


@pytest.mark.parametrize("name", of_kind("Service"))
def test_services_select_the_pods_of_one_workload(name: str) -> None:
    spec = of_kind("Service")[name]["spec"]
    assert [one for one in WORKLOADS if selects({"matchLabels": spec["selector"]}, labels(one))] == [name]
    ports = {port["name"]: port["containerPort"] for one in containers(name) for port in one.get("ports", [])}
    for port in spec["ports"]:
        assert ports[port.get("targetPort", port["name"])] == port["port"]


@pytest.mark.parametrize("name", [name for name in WORKLOADS if name != "setup"])
def test_selectors_match_their_own_pods(name: str) -> None:
    assert selects(WORKLOADS[name]["spec"]["selector"], labels(name))


def test_the_namespace_is_the_same_everywhere() -> None:
    namespace = KUSTOMIZATION["namespace"]
    assert f"server.{namespace}.svc" in value("server", "PANELWORKS_SERVER_HOSTS").split(",")
    assert [one["namespace"] for one in of_kind("RoleBinding")["job-worker"]["subjects"]] == [namespace]
    assert value("job-worker", "PREFECT_INTEGRATIONS_KUBERNETES_OBSERVER_NAMESPACES") == namespace
    assert f'namespace="{namespace}"' in SCALER["spec"]["triggers"][0]["metadata"]["query"]
    form = template("kubernetes")["variables"]["properties"]
    assert form["namespace"]["default"] == namespace
    assert form["model_cache_claim"]["default"] in of_kind("PersistentVolumeClaim")
