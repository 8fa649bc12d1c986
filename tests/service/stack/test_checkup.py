"""The check-up before `up`, and beside a stack that runs."""

from pathlib import Path

import pytest

from panelworks.settings import Settings
from service.stack import checkup
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


@pytest.mark.parametrize("has_torch", [True, False])
def test_a_gpu_without_pytorch_is_a_warning(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, settings: Settings, has_torch: bool
) -> None:
    (tmp_path / "nvidiactl").touch()
    monkeypatch.setattr(checkup, "NVIDIA_DRIVER_FILE", tmp_path / "nvidiactl")
    monkeypatch.setattr(checkup, "find_spec", lambda name: has_torch or None)
    plan = StackPlan("127.0.0.1", 1, 2, 1, None, None)
    chosen = settings.model_copy(update={"device": "auto"})
    found = {one.subject: one for one in findings(plan, chosen, {})}["device"]
    assert (found.trouble is None) is has_torch
    assert has_torch or not found.fatal


def test_buckets_whose_keys_are_at_a_server_that_does_not_run_yet_are_not_checked(settings: Settings) -> None:
    """Before, Prefect's client would have started a temporary server to read the block."""
    chosen = settings.model_copy(update={"s3_block": ("s3-bucket/pages",), "store": "s3://pages/work"})
    subjects = [one.subject for one in findings(StackPlan("127.0.0.1", 1, 2, 1, None, None), chosen, {})]
    assert "store s3://pages/work" not in subjects and any(one.startswith("delivery") for one in subjects)
