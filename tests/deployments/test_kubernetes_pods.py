"""What the pods of the stack in a cluster need to start, to be replaced and to be scaled."""

from typing import Any

import pytest
from fastapi.testclient import TestClient

from deployments.api_guard import ApiGuard
from deployments.names import POOL, QUEUES
from panelworks.settings import Settings
from service.gateway.access import hash_of
from service.gateway.app import create_app
from service.gateway.metrics import Metrics, ServiceState
from service.gateway.prefect_readings import Backlog
from tests.deployments.manifests import (
    CONTAINERS,
    GPU,
    KUSTOMIZATION,
    LONG_RUNNING,
    OUR_CONTAINERS,
    OURS,
    SCALER,
    USER,
    WORKLOADS,
    Manifest,
    containers,
    labels,
    of_kind,
    option,
    pod,
    selects,
    value,
)

PROBES = ("startupProbe", "readinessProbe", "livenessProbe")


def main_container(name: str) -> Manifest:
    found: Manifest = pod(name)["containers"][0]
    return found


def probes(name: str) -> list[Manifest]:
    return [main_container(name)[one] for one in PROBES]


# Security


@pytest.mark.parametrize("name", WORKLOADS)
def test_pods_are_restricted(name: str) -> None:
    """As the level `restricted` of Kubernetes' Pod Security Standards, and with a read-only root."""
    spec = pod(name)
    security = spec["securityContext"]
    assert security["runAsNonRoot"] is True
    assert security["runAsUser"] == security["fsGroup"] == (USER if name in OURS else 999)
    assert security["seccompProfile"] == {"type": "RuntimeDefault"}
    assert spec["enableServiceLinks"] is False
    assert spec["automountServiceAccountToken"] is (name == "job-worker")
    assert not {"hostNetwork", "hostPID", "hostIPC"} & spec.keys()
    assert all(
        {"emptyDir", "persistentVolumeClaim"} & one.keys() and "hostPath" not in one
        for one in spec["volumes"]
    )


@pytest.mark.parametrize("container", CONTAINERS.values(), ids=CONTAINERS)
def test_containers_have_no_privileges(container: Manifest) -> None:
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


@pytest.mark.parametrize("container", OUR_CONTAINERS.values(), ids=OUR_CONTAINERS)
def test_processes_can_write_where_they_must(container: Manifest) -> None:
    """Temporary files, and Prefect's home below that of the user."""
    folders = {one["mountPath"] for one in container["volumeMounts"]}
    assert {"/tmp", "/home/panelworks"} <= folders  # noqa: S108 - of the container


@pytest.mark.parametrize("name", ["server", "services", "setup", "worker", "supervisor", "gateway"])
def test_the_cache_folder_is_writable(name: str) -> None:
    """The image sets PANELWORKS_CACHE_DIR to a folder below it."""
    assert "/models" in {one["mountPath"] for one in main_container(name)["volumeMounts"]}


def test_the_role_of_the_job_worker_is_small() -> None:
    rules = of_kind("Role")["job-worker"]["rules"]
    allowed = {(one, verb) for rule in rules for one in rule["resources"] for verb in rule["verbs"]}
    assert {one for one, verb in allowed if verb not in ("get", "list", "watch")} == {"jobs"}
    assert {one for one, _ in allowed} == {"jobs", "pods", "pods/log", "pods/status", "events"}
    key = value("job-worker", "PREFECT_INTEGRATIONS_KUBERNETES_WORKER_API_AUTH_STRING_SECRET_KEY")
    used = main_container("job-worker")["env"][0]["valueFrom"]["secretKeyRef"]
    assert (
        key,
        value("job-worker", "PREFECT_INTEGRATIONS_KUBERNETES_WORKER_API_AUTH_STRING_SECRET_NAME"),
    ) == (
        used["key"],
        used["name"],
    )


# Probes and resources


@pytest.mark.parametrize("name", LONG_RUNNING)
def test_every_pod_is_probed(name: str) -> None:
    container = main_container(name)
    ports = {one["name"] for one in container.get("ports", [])}
    startup, _, liveness = probes(name)
    for probe in probes(name):
        assert ("exec" in probe) != ("httpGet" in probe)
        assert "exec" in probe or probe["httpGet"]["port"] in ports
    # A busy machine or a restart of the server must not end a process.
    assert startup["periodSeconds"] * startup["failureThreshold"] >= 120
    assert liveness["periodSeconds"] * liveness["failureThreshold"] >= 120


@pytest.mark.parametrize("container", CONTAINERS.values(), ids=CONTAINERS)
def test_containers_request_what_they_use(container: Manifest) -> None:
    assert container["resources"]["requests"].keys() == {"cpu", "memory"}
    assert "memory" in container["resources"]["limits"]


@pytest.mark.parametrize("name", WORKLOADS)
def test_pods_have_time_to_stop(name: str) -> None:
    assert 10 <= pod(name)["terminationGracePeriodSeconds"] <= 120


@pytest.mark.parametrize("name", ["server", "services"])
def test_the_server_accepts_its_probes(name: str) -> None:
    """By default the header Host is the address of the pod, which the server refuses."""

    async def app(scope: Any, receive: Any, send: Any) -> None: ...

    guard = ApiGuard(app, hosts=value(name, "PANELWORKS_SERVER_HOSTS").split(","))
    for probe in probes(name):
        headers = [
            (one["name"].lower().encode(), one["value"].encode()) for one in probe["httpGet"]["httpHeaders"]
        ]
        scope = {"type": "http", "method": "GET", "path": probe["httpGet"]["path"], "headers": headers}
        assert guard.refusal(scope) is None
        assert guard.refusal(scope | {"headers": [(b"host", b"10.1.2.3:4200")]}) is not None
    paths = [probe["httpGet"]["path"] for probe in probes(name)]
    assert paths == ["/api/health", "/api/ready", "/api/health"]  # a restart does not repair the database


def test_clients_reach_the_server_by_an_accepted_name() -> None:
    guard = ApiGuard(None, hosts=value("server", "PANELWORKS_SERVER_HOSTS").split(","))  # type: ignore[arg-type] # not called
    scope = {"type": "http", "method": "GET", "path": "/api/health", "headers": [(b"host", b"server:4200")]}
    assert guard.refusal(scope) is None
    assert value("worker", "PREFECT_API_URL") == "http://server:4200/api"


def test_the_gateway_answers_its_probes_without_a_key() -> None:
    app = create_app(Settings(_env_file=None, api_keys=(f"reader:{hash_of('key')}",)), Metrics())
    client = TestClient(app, base_url="http://10.1.2.3:8200")
    for probe in probes("gateway"):
        assert client.get(probe["httpGet"]["path"]).status_code == 200


def test_probes_reach_the_address_that_the_process_listens_on() -> None:
    assert (
        value("supervisor", "PANELWORKS_HEALTH_URL")
        == f"http://127.0.0.1:{option('supervisor', '--health-port')}/health"
    )
    assert all(one["exec"]["command"][-1] == "deployments.health" for one in probes("supervisor"))
    for name in ("worker", "job-worker"):
        assert "--with-healthcheck" in main_container(name)["args"]
        assert value(name, "PREFECT_WORKER_WEBSERVER_HOST") == "0.0.0.0"  # noqa: S104 - compared only
    for name in ("server", "services", "gateway"):
        assert option(name, "--host") == "0.0.0.0"  # noqa: S104 - compared only
        assert int(option(name, "--port")) == main_container(name)["ports"][0]["containerPort"]


# Replicas and updates


def test_several_servers_share_their_messages() -> None:
    assert WORKLOADS["server"]["spec"]["replicas"] >= 2
    for setting in ("MESSAGING_BROKER", "MESSAGING_CACHE"):
        assert value("server", f"PREFECT_SERVER_EVENTS_{setting}") == "prefect_redis.messaging"
    assert value("server", "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE") == "prefect_redis.lease_storage"


def test_one_pod_runs_the_services_and_migrates() -> None:
    spec = WORKLOADS["services"]["spec"]
    assert (spec["replicas"], spec["strategy"]["type"]) == (1, "Recreate")
    assert "--services" in main_container("services")["args"]
    assert "--no-services" in main_container("server")["args"]
    assert value("server", "PREFECT_SERVER_DATABASE_MIGRATE_ON_START") == "false"
    assert value("services", "PREFECT_SERVER_DATABASE_MIGRATE_ON_START") is None


def test_servers_do_not_take_the_tasks_of_the_services() -> None:
    """A server drops the tasks that it does not know: the scheduler stopped when both had one queue."""
    queues = {name: value(name, "PREFECT_SERVER_DOCKET_NAME") for name in ("server", "services")}
    assert queues["server"] is None and queues["services"] not in (None, "prefect-server")


def test_the_setup_can_run_again() -> None:
    """The template of a Job cannot be changed: an old one must be deleted before an update."""
    spec = WORKLOADS["setup"]["spec"]
    assert spec["ttlSecondsAfterFinished"] <= 3600
    assert spec["template"]["spec"]["restartPolicy"] == "OnFailure"
    assert spec["backoffLimit"] >= 10, "the server may take minutes to start"


def test_workers_serve_our_pool_and_wait_for_it() -> None:
    assert option("worker", "--pool") == POOL
    assert f"work-pool inspect {POOL} " in pod("worker")["initContainers"][0]["args"][0]
    assert option("job-worker", "--pool") == pod("job-worker")["initContainers"][0]["args"][-1]


def test_each_worker_has_a_limit_of_its_own() -> None:
    assert WORKLOADS["worker"]["kind"] == "StatefulSet", "the names of its pods are stable"
    limits = [
        one["value"]
        for container in containers("worker")
        for one in container["env"]
        if one["name"] == "PANELWORKS_GPU_LIMIT"
    ]
    assert limits == ["gpu:$(POD_NAME)"] * 2
    assert value("worker", "PANELWORKS_GPU_LIMIT_SHARED") == "false"
    assert value("setup", "PANELWORKS_GPU_LIMIT") == "gpu:worker-0"


def test_workers_return_their_pages_before_they_are_killed() -> None:
    drain = float(option("worker", "--drain-seconds"))
    assert drain + 15 <= pod("worker")["terminationGracePeriodSeconds"]
    assert pod("worker")["shareProcessNamespace"] is True, "something must reap the processes of runs"


@pytest.mark.parametrize("name", of_kind("PodDisruptionBudget"))
def test_budgets_protect_pods_and_permit_drains(name: str) -> None:
    spec = of_kind("PodDisruptionBudget")[name]["spec"]
    assert [one for one in WORKLOADS if selects(spec["selector"], labels(one))] == [name]
    replicas = WORKLOADS[name]["spec"].get("replicas", 1)
    assert spec.get("minAvailable", 0) < replicas and spec.get("maxUnavailable", 1) > 0


def test_every_workload_with_several_pods_has_a_budget() -> None:
    several = {name for name, one in WORKLOADS.items() if one["spec"].get("replicas", 1) > 1}
    assert several == {"server", "gateway", "supervisor"}
    assert several | {"worker"} == of_kind("PodDisruptionBudget").keys()


@pytest.mark.parametrize("name", ["server", "gateway"])
def test_updates_keep_all_replicas(name: str) -> None:
    spec = WORKLOADS[name]["spec"]
    assert spec["strategy"]["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": 1}
    wait = int(main_container(name)["lifecycle"]["preStop"]["exec"]["command"][-1])
    assert wait + 15 <= pod(name)["terminationGracePeriodSeconds"]


def test_network_policies_admit_what_the_stack_needs() -> None:
    policies = {name: one["spec"] for name, one in of_kind("NetworkPolicy").items()}

    def admitted(target: str) -> list[Manifest]:
        return [
            rule
            for spec in policies.values()
            if selects(spec["podSelector"], labels(target))
            for rule in spec["ingress"]
        ]

    for name in set(WORKLOADS) - {"postgres"}:
        assert {"from": [{"podSelector": {}}]} in admitted(name)
    (rule,) = admitted("postgres")
    clients = rule["from"][0]["podSelector"]
    assert {name for name in WORKLOADS if selects(clients, labels(name))} == {"server", "services"}
    assert {"ports": [{"port": 8200}]} in admitted("gateway")


# Components


def test_the_gpu_component_changes_containers_that_exist() -> None:
    spec = GPU["spec"]["template"]["spec"]
    assert (GPU["kind"], GPU["metadata"]["name"]) == (WORKLOADS["worker"]["kind"], "worker")
    for kind in ("containers", "initContainers"):
        assert [one["name"] for one in spec[kind]] == [one["name"] for one in pod("worker")[kind]]
        assert {one["image"] for one in spec[kind]} == {"panelworks:cuda"}
    (container,) = spec["containers"]
    assert container["resources"]["limits"]["nvidia.com/gpu"] == 1
    assert container["env"] == [{"name": "DEVICE", "value": "cuda"}]


def test_the_scaler_follows_the_queues_that_the_gateway_reports() -> None:
    metrics = Metrics()
    metrics.service.state = ServiceState(backlogs=dict.fromkeys(QUEUES, Backlog(1, 60.0)))
    (family,) = [one for one in metrics.registry.collect() if one.name == "panelworks_queue_depth"]
    (trigger,) = SCALER["spec"]["triggers"]
    assert f"{family.name}{{" in trigger["metadata"]["query"]
    assert "max by (queue)" in trigger["metadata"]["query"]
    assert all("queue" in sample.labels for sample in family.samples)
    assert trigger["metadata"]["ignoreNullValues"] == "false", "an outage must not look like an empty queue"


def test_the_scaler_has_a_target_whose_replicas_no_manifest_sets() -> None:
    target = SCALER["spec"]["scaleTargetRef"]
    workload = WORKLOADS[target["name"]]
    assert (workload["kind"], workload["apiVersion"]) == (target["kind"], target["apiVersion"])
    assert "replicas" not in workload["spec"]
    assert 1 <= SCALER["spec"]["minReplicaCount"] < SCALER["spec"]["maxReplicaCount"]
    assert KUSTOMIZATION["components"] == [], "KEDA is not in every cluster"
