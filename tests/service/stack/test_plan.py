"""The environment of the processes that `panelworks up` starts."""

import sys

import pytest

from deployments.names import gpu_limit
from panelworks.settings import Settings
from service.stack.plan import StackPlan


@pytest.mark.parametrize(
    ("existing_api_url", "python"),
    [
        (None, sys.executable),
        ("http://127.0.0.1:4200/api", sys.executable),
        ("http://localhost:4200/api", sys.executable),
        ("https://prefect.example/api", "python"),
    ],
)
def test_the_run_command_names_this_python_only_for_a_local_server(
    existing_api_url: str | None, python: str, settings: Settings
) -> None:
    plan = StackPlan(
        host="127.0.0.1", port=4200, gateway_port=8200, pages=1, gpu=None, existing_api_url=existing_api_url
    )
    assert plan.environment(settings)["PANELWORKS_RUN_COMMAND"] == f"{python} -m prefect.engine"


@pytest.mark.parametrize(
    ("existing_api_url", "given", "asks_for_tokens"),
    [
        (None, {}, False),
        (None, {"PREFECT_SERVER_CSRF_PROTECTION_ENABLED": "true"}, True),
        (None, {"PREFECT_SERVER_API_CSRF_PROTECTION_ENABLED": "true"}, True),
        ("https://prefect.example/api", {}, True),
    ],
)
def test_clients_ask_for_csrf_tokens_only_where_the_server_may_require_them(
    existing_api_url: str | None,
    given: dict[str, str],
    asks_for_tokens: bool,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    plan = StackPlan("127.0.0.1", 4200, 8200, 1, None, existing_api_url)
    assert ("PREFECT_CLIENT_CSRF_SUPPORT_ENABLED" not in plan.environment(settings)) is asks_for_tokens


@pytest.mark.parametrize(("chosen", "shared"), [(None, "false"), ("box:0", None)])
def test_only_the_limit_of_this_machine_is_not_shared(
    chosen: str | None, shared: str | None, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    if chosen is not None:
        monkeypatch.setenv("PANELWORKS_GPU_LIMIT", chosen)
    environment = StackPlan("127.0.0.1", 4200, 8200, 1, None, None).environment(settings)
    assert environment["PANELWORKS_GPU_LIMIT"] == (chosen or gpu_limit())
    assert environment.get("PANELWORKS_GPU_LIMIT_SHARED") == shared
