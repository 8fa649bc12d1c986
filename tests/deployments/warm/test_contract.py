"""The private modules of Prefect that the warm worker stands on; and what happens where they differ."""

import prefect
import pytest
from prefect.runner._process_manager import ProcessManager

from deployments.warm.contract import breaches
from service.working import worker_type


def test_prefect_is_as_the_warm_worker_needs_it() -> None:
    assert breaches() == []
    assert worker_type(plain=False) == "panelworks-warm"


def test_a_plain_worker_can_be_asked_for() -> None:
    assert worker_type(plain=True) == "process"


def test_any_version_with_the_needed_names_is_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prefect, "__version__", "3.99.0")
    assert breaches() == []


def test_a_missing_name_gets_the_plain_worker_and_a_warning(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delattr(ProcessManager, "get")
    assert breaches() == ["prefect.runner._process_manager:ProcessManager.get does not exist."]
    assert worker_type(plain=False) == "process"
    assert "ProcessManager.get does not exist" in capsys.readouterr().err


def test_a_missing_parameter_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def kill(self: ProcessManager, flow_run_id: str) -> None:
        """A signature that lacks two parameters."""

    monkeypatch.setattr(ProcessManager, "kill", kill)
    assert [breach.rpartition("has no ")[2] for breach in breaches()] == [
        "parameter 'grace_seconds'.",
        "parameter 'force'.",
    ]
