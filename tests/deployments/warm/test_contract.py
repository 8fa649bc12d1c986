"""The private names of Prefect that the warm worker uses: complete, in one file, and checked before it starts."""

import ast
from pathlib import Path

import prefect
import pytest
from prefect.runner._hook_runner import HookRunner
from prefect.runner._process_manager import ProcessHandle
from prefect.workers.base import BaseWorker
from prefect.workers.process import ProcessJobConfiguration, ProcessWorker

from deployments.warm import contract
from deployments.warm.contract import PRIVATE_NAMES, missing_names
from service.cli.processes import worker_type

WARM = Path(contract.__file__).parent
DOCUMENTED = {"_display_name", "_description"}
"""Class attributes that Prefect documents for workers of others."""


def test_prefect_has_the_needed_names() -> None:
    assert missing_names() == []
    assert worker_type(plain=False) == "panelworks-warm"


def test_a_plain_worker_can_be_requested() -> None:
    assert worker_type(plain=True) == "process"


def test_any_version_with_the_needed_names_is_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prefect, "__version__", "3.99.0")
    assert missing_names() == []


def test_a_missing_name_selects_the_plain_worker_with_a_warning(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delattr(HookRunner, "run_cancellation_hooks")
    name = "prefect.runner._hook_runner:HookRunner.run_cancellation_hooks"
    assert missing_names() == [f"{name} does not exist."]
    assert worker_type(plain=False) == "process"
    assert f"{name} does not exist" in capsys.readouterr().err


def test_a_missing_parameter_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def without_scope(self: ProcessHandle, process: object) -> None:
        """A signature that lacks a parameter."""

    monkeypatch.setattr(ProcessHandle, "__init__", without_scope)
    assert [problem.rpartition("has no ")[2] for problem in missing_names()] == [
        "parameter 'termination_scope'."
    ]


def test_each_name_has_a_reason() -> None:
    assert all(len(needed.reason) > 10 for needed in PRIVATE_NAMES)


@pytest.mark.parametrize("path", sorted(WARM.glob("*.py")), ids=lambda path: path.stem)
def test_only_the_contract_imports_private_modules(path: Path) -> None:
    modules = {
        node.module
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and node.module
    }
    private = {name for name in modules if name.startswith("prefect.") and "._" in name}
    if path.stem == "contract":
        # `prefect._internal` is imported as the parent of `control_listener`.
        named = {needed.name.partition(":")[0] for needed in PRIVATE_NAMES}
        assert private <= named | {"prefect._internal"}
    else:
        assert not private


def test_the_worker_uses_no_private_attribute_of_prefect() -> None:
    private = {name for base in (ProcessWorker, ProcessJobConfiguration) for name in dir(base)}
    private |= set(BaseWorker.__init__.__code__.co_names)
    tree = ast.parse((WARM / "worker.py").read_text(encoding="utf-8"))
    used = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    used |= {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
    used |= {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    found = {name for name in used & private if name.startswith("_") and not name.startswith("__")}
    assert found <= DOCUMENTED
