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


def test_another_prefect_gets_the_plain_worker_and_a_warning(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(prefect, "__version__", "3.99.0")
    assert worker_type(plain=False) == "process"
    assert "Prefect is 3.99.0" in capsys.readouterr().err


def test_a_name_that_is_gone_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(ProcessManager, "get")
    assert breaches() == ["prefect.runner._process_manager:ProcessManager.get is gone."]


def test_a_parameter_that_is_gone_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def kill(self: ProcessManager, flow_run_id: str) -> None:
        """Another signature."""

    monkeypatch.setattr(ProcessManager, "kill", kill)
    assert [one.rpartition("takes no ")[2] for one in breaches()] == [
        "'grace_seconds' any more.",
        "'force' any more.",
    ]
