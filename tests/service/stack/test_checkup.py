"""The check-up before `up`, and beside a stack that runs."""

import pytest

from panelworks.settings import Settings
from service.stack.checkup import Finding, findings
from service.stack.plan import StackPlan
from tests.service.gateway.conftest import Open, gateway

__all__ = ["gateway"]


def port_of(gateway_port: int, settings: Settings, *, starting: bool) -> Finding:
    plan = StackPlan("127.0.0.1", 1, gateway_port, 1, None, None)
    found = findings(plan, settings, {}, starting=starting)
    return next(finding for finding in found if finding.subject == "gateway port")


@pytest.mark.parametrize("starting", [True, False])
def test_a_gateway_that_runs_already_is_a_fault_only_when_one_is_started(
    gateway: Open, settings: Settings, starting: bool
) -> None:
    """Before, `up --check` beside a running stack ended with exit code 1: its own gateway's port was taken."""
    port = gateway().base_url.port
    assert port is not None
    trouble = port_of(port, settings, starting=starting).trouble
    assert (trouble is not None) is starting
    assert trouble is None or "a stack that is running" in trouble


def test_a_port_that_another_program_listens_on_is_a_fault(settings: Settings) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as other:
        trouble = port_of(other.getsockname()[1], settings, starting=False).trouble
    assert trouble is not None and "a stack that is running" not in trouble
