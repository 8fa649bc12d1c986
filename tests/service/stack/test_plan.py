"""The environment of the processes that `panelworks up` starts."""

import sys

import pytest

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
