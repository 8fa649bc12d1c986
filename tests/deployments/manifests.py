"""The manifests of `deployments/kubernetes`, parsed, and how tests read them."""

from pathlib import Path
from typing import Any, Final

import yaml

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deployments" / "kubernetes"
GUIDE = (ROOT / "docs/how-to/deploy.md").read_text(encoding="utf-8")
COMPONENTS: Final = ("gpu", "keda", "jobs")
VERSIONS: Final = ("1.29", "1.37")
"""The oldest Kubernetes that the manifests are written for, and the newest with a schema."""
USER: Final = 10001
Manifest = dict[str, Any]


def read(path: Path) -> list[Manifest]:
    return [one for one in yaml.safe_load_all(path.read_text(encoding="utf-8")) if one]


KUSTOMIZATION = read(FOLDER / "kustomization.yaml")[0]
BASE = [one for name in KUSTOMIZATION["resources"] for one in read(FOLDER / name)]
JOBS = read(FOLDER / "jobs" / "job_worker.yaml")
SCALER = read(FOLDER / "keda" / "autoscaling.yaml")[0]
GPU = read(FOLDER / "gpu" / "worker.yaml")[0]
MANIFESTS = [*BASE, *JOBS]
WORKLOADS = {
    one["metadata"]["name"]: one for one in MANIFESTS if one["kind"] in ("Deployment", "StatefulSet", "Job")
}
LONG_RUNNING = [name for name, one in WORKLOADS.items() if one["kind"] != "Job"]


def of_kind(kind: str) -> dict[str, Manifest]:
    return {one["metadata"]["name"]: one for one in MANIFESTS if one["kind"] == kind}


def pod(name: str) -> Manifest:
    found: Manifest = WORKLOADS[name]["spec"]["template"]["spec"]
    return found


def labels(name: str) -> dict[str, str]:
    found: dict[str, str] = WORKLOADS[name]["spec"]["template"]["metadata"]["labels"]
    return found


def containers(name: str) -> list[Manifest]:
    return [*pod(name).get("initContainers", []), *pod(name)["containers"]]


def variables(container: Manifest) -> dict[str, Any]:
    """The variables of a container in their order; None for those whose value a Secret or the pod provides."""
    given: dict[str, Any] = {}
    for source in container.get("envFrom", []):
        given |= of_kind("ConfigMap")[source["configMapRef"]["name"]]["data"]
    return given | {one["name"]: one.get("value") for one in container["env"]}


def value(name: str, variable: str) -> Any:
    return variables(pod(name)["containers"][0]).get(variable)


def option(name: str, key: str) -> str:
    """The value of an option in the arguments of a workload."""
    arguments = pod(name)["containers"][0]["args"]
    return str(next(one.partition("=")[2] for one in arguments if one.startswith(f"{key}=")))


def named(manifest: Manifest) -> str:
    return f"{manifest['kind']}-{manifest['metadata']['name']}"


OURS = [name for name in WORKLOADS if pod(name)["containers"][0]["image"].startswith("panelworks:")]
CONTAINERS = {f"{name}-{one['name']}": one for name in WORKLOADS for one in containers(name)}
OUR_CONTAINERS = {f"{name}-{one['name']}": one for name in OURS for one in containers(name)}


def selects(selector: Manifest, given: dict[str, str]) -> bool:
    """Does a label selector match the labels of a pod?"""
    if any(given.get(key) != wanted for key, wanted in selector.get("matchLabels", {}).items()):
        return False
    return all(
        (given.get(rule["key"]) in rule["values"]) == (rule["operator"] == "In")
        for rule in selector.get("matchExpressions", [])
    )
