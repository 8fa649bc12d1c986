"""The container files, parsed without Docker: everything that they name exists. tests/containers runs them."""

import re
from pathlib import Path
from typing import Any

import opentelemetry.environment_variables
import opentelemetry.sdk.environment_variables
import prefect.settings
import pytest
import yaml
from pydantic import AliasChoices

from deployments.names import POOL
from panelworks.settings import Settings
from tests.commands import assert_command_exists

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deployments"
COMPOSE = (FOLDER / "compose.yaml").read_text()
EXAMPLE = (FOLDER / "compose.env.example").read_text()
DOCKERFILE = (FOLDER / "Dockerfile").read_text()
SERVICES: dict[str, dict[str, Any]] = yaml.safe_load(COMPOSE)["services"]
OURS = [name for name, service in SERVICES.items() if "build" in service]
ONE_SHOT = {"bucket", "setup"}
OPENTELEMETRY = {
    value
    for module in (opentelemetry.sdk.environment_variables, opentelemetry.environment_variables)
    for value in vars(module).values()
    if isinstance(value, str) and value.startswith("OTEL_")
}
"""The variables that OpenTelemetry's SDK reads."""
REQUIRED = set(re.findall(r"\$\{(\w+):\?", COMPOSE))


def our_variables() -> set[str]:
    """All names of our settings in the environment."""
    names: set[str] = set()
    for field, info in Settings.model_fields.items():
        alias = info.validation_alias
        names |= set(map(str, alias.choices)) if isinstance(alias, AliasChoices) else set()
        names.add(f"PANELWORKS_{field.upper()}")
    return names


def stages() -> dict[str, str]:
    """The text of each stage of the Dockerfile, by name."""
    parts = re.split(r"^FROM \S+ AS (\w+)$", DOCKERFILE, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def test_the_stack_has_every_role_and_a_worker_for_each_profile() -> None:
    assert set(OURS) == {"server", "setup", "worker", "worker-cpu", "gateway", "supervisor"}
    assert {name for name, service in SERVICES.items() if "profiles" in service} == {"worker", "worker-cpu"}


@pytest.mark.parametrize("name", OURS)
def test_commands_exist(name: str) -> None:
    assert_command_exists(SERVICES[name]["command"])


def test_the_workers_serve_our_pool() -> None:
    for name in ("worker", "worker-cpu"):
        assert f"--pool={POOL}" in SERVICES[name]["command"]


@pytest.mark.parametrize("name", OURS)
def test_variables_are_settings(name: str) -> None:
    """A misspelt variable would be ignored silently."""
    for variable in SERVICES[name]["environment"]:
        if variable.startswith("PREFECT_REDIS_"):
            continue  # these are settings of prefect-redis, which only the image has
        if variable.startswith("OTEL_"):
            assert variable in OPENTELEMETRY, variable
            continue
        known = hasattr(prefect.settings, variable) or variable in our_variables()
        assert known, variable


def test_the_example_explains_each_variable_and_contains_no_secret() -> None:
    given = dict(re.findall(r"^(\w+)=(.*)$", EXAMPLE, flags=re.MULTILINE))
    asked = set(re.findall(r"\$\{(\w+)", COMPOSE))
    assert asked == given.keys() - {"COMPOSE_PROFILES"}
    assert {name for name in given if re.search("PASSWORD|SECRET|KEYS", name) and given[name]} == set()
    assert {name for name in REQUIRED if given[name]} == set()


@pytest.mark.parametrize("name", SERVICES)
def test_ports_are_published_on_loopback_only(name: str) -> None:
    for port in SERVICES[name].get("ports", []):
        assert port.startswith("127.0.0.1:")


@pytest.mark.parametrize("name", SERVICES)
def test_services_wait_for_what_they_need(name: str) -> None:
    for needed, wait in SERVICES[name].get("depends_on", {}).items():
        ends = needed in ONE_SHOT
        assert needed in SERVICES
        assert wait["condition"] == ("service_completed_successfully" if ends else "service_healthy")


@pytest.mark.parametrize("name", SERVICES)
def test_servers_have_a_health_check_and_are_restarted(name: str) -> None:
    service = SERVICES[name]
    watched = "healthcheck" in service and service.get("restart") == "unless-stopped"
    assert watched == (name not in ONE_SHOT)


@pytest.mark.parametrize("name", OURS)
def test_images_come_from_stages_that_exist(name: str) -> None:
    build = SERVICES[name]["build"]
    assert (FOLDER / build["context"] / build["dockerfile"]).samefile(FOLDER / "Dockerfile")
    assert build["target"] in stages()
    assert SERVICES[name]["image"] == f"panelworks:{build['target']}"
    for argument in build.get("args", {}):
        assert f"ARG {argument}=" in stages()[build["target"]]


@pytest.mark.parametrize("target", ["cpu", "cuda"])
def test_images_do_not_run_as_root(target: str) -> None:
    users = re.findall(r"^USER (\S+)$", stages()[target], flags=re.MULTILINE)
    assert users and users[-1] not in ("0", "root")


def test_copied_files_exist_in_the_build_context() -> None:
    admitted = (ROOT / ".dockerignore").read_text().splitlines()
    for sources in re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE, flags=re.MULTILINE):
        for source in sources.split():
            assert (ROOT / source).exists()
            assert f"!{Path(source).parts[0]}" in admitted
