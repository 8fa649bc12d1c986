"""The house: imports point downwards only."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ALLOWED = {
    "panelworks": {"panelworks"},
    "tasks": {"tasks", "panelworks"},
    "blocks": {"blocks", "panelworks"},
    "flows": {"flows", "tasks", "blocks", "panelworks"},
    "deployments": {"deployments", "blocks"},
    "service": {"service", "flows", "tasks", "blocks", "deployments", "panelworks"},
}
OURS = {"panelworks", "tasks", "flows", "service", "training", "tests", "blocks", "deployments"}


def imports(path: Path) -> set[str]:
    """Top-level names of all modules that a file imports, anywhere in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module.split(".")[0])
    return names


@pytest.mark.parametrize("layer", ALLOWED)
def test_a_layer_imports_only_what_lies_below(layer: str) -> None:
    for path in (ROOT / layer).rglob("*.py"):
        assert imports(path) & OURS <= ALLOWED[layer], path


def test_the_engine_knows_no_prefect() -> None:
    for path in (ROOT / "panelworks").rglob("*.py"):
        assert "prefect" not in imports(path), path


def test_only_the_settings_and_the_doors_read_the_environment() -> None:
    for path in (ROOT / "panelworks").rglob("*.py"):
        assert "environ" not in path.read_text() or path.name == "settings.py", path


def test_tasks_are_short() -> None:
    for path in (ROOT / "tasks").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef) and node.decorator_list:
                assert (node.end_lineno or 0) - node.lineno <= 30, path


def test_flows_do_not_postpone_annotations() -> None:
    for path in (ROOT / "flows").rglob("*.py"):
        assert "from __future__ import annotations" not in path.read_text(), path


def test_the_public_names_are_sorted_and_exist() -> None:
    import panelworks

    assert sorted(panelworks.__all__) == sorted(set(panelworks.__all__))
    for name in panelworks.__all__:
        assert hasattr(panelworks, name)
