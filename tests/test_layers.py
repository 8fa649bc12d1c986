"""The layers: imports point downwards only, and no two folders import each other."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ALLOWED = {
    "panelworks": {"panelworks"},
    "blocks": {"blocks", "panelworks"},
    "orchestration": {"orchestration", "blocks", "panelworks"},
    "tasks": {"tasks", "orchestration", "panelworks"},
    "flows": {"flows", "tasks", "orchestration", "blocks", "panelworks"},
    "deployments": {"deployments", "blocks", "panelworks"},
    "service": {"service", "flows", "tasks", "orchestration", "blocks", "deployments", "panelworks"},
}
FOLDERS = (
    "domain",
    "pictures",
    "storage",
    "sources",
    "archives",
    "video",
    "models",
    "quality",
    "steps",
    "accounting",
    "page",
    "books",
    "cli",
)
"""Folders of the library from the lowest up. Modules beside them (errors, settings ...) are below all folders."""
SERVICE_FOLDERS = ("supervisor", "gateway", "studio", "stack", "state", "bench", "cli")
"""Folders of the service from the lowest up. Modules beside them are below all folders."""
OURS = {
    "panelworks",
    "orchestration",
    "tasks",
    "flows",
    "service",
    "training",
    "tests",
    "blocks",
    "deployments",
}


def imports(path: Path) -> set[str]:
    """Top-level names of all modules that a file imports, anywhere in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module.split(".")[0])
    return names


def imported_modules(path: Path) -> Iterator[str]:
    """Full names of our modules and names that a file imports."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def folder_of(module: str, package: str, folders: tuple[str, ...]) -> str | None:
    """The folder of a module in a package; None for the modules beside the folders."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and parts[0] == package and parts[1] in folders else None


@pytest.mark.parametrize("layer", ALLOWED)
def test_a_layer_imports_only_what_lies_below(layer: str) -> None:
    for path in (ROOT / layer).rglob("*.py"):
        assert imports(path) & OURS <= ALLOWED[layer], path


def test_the_engine_knows_no_prefect() -> None:
    for path in (ROOT / "panelworks").rglob("*.py"):
        assert "prefect" not in imports(path), path


@pytest.mark.parametrize(("package", "folders"), [("panelworks", FOLDERS), ("service", SERVICE_FOLDERS)])
def test_folders_import_downwards(package: str, folders: tuple[str, ...]) -> None:
    root = ROOT / package
    assert {path.name for path in root.iterdir() if (path / "__init__.py").exists()} == set(folders)
    public = (root / "__init__.py", root / "__main__.py")
    arrows: dict[tuple[str, str], list[str]] = {}
    for path in root.rglob("*.py"):
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        importing = folder_of(module, package, folders)
        for name in imported_modules(path):
            imported = folder_of(name, package, folders)
            if imported is not None and imported != importing and path not in public:
                arrows.setdefault((importing or "(top)", imported), []).append(f"{module} imports {name}")
    graph = "\n".join(f"{lower} <- {upper}" for upper, lower in sorted(arrows))
    upward = [
        place
        for (importing, imported), places in arrows.items()
        for place in places
        if importing == "(top)" or folders.index(imported) > folders.index(importing)
    ]
    assert not upward, f"imports that point upwards: {upward}\nall:\n{graph}"


def test_only_the_settings_read_the_environment() -> None:
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
