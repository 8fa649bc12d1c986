"""No product module changes the modules and classes of other packages."""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[1]
PRODUCT: Final = (
    "panelworks",
    "blocks",
    "orchestration",
    "tasks",
    "flows",
    "deployments",
    "service",
    "benchmarks",
)
OURS: Final = {*PRODUCT, "tests", "training"}
REASONS: Final = {
    "panelworks/archives/sandbox_child.py: sys.modules[...]": (
        "our own package, in the sandbox's process: its `__init__` is not executed there"
    ),
    "panelworks/pictures/decode.py: Image.MAX_IMAGE_PIXELS": (
        "Pillow's documented setting for the size of pictures; reset after each use"
    ),
    "panelworks/models/__init__.py: sys.modules[...]": (
        "openvino sends usage data at its import if openvino_telemetry can be imported, and has no setting for it"
    ),
    "panelworks/models/upstream.py: sys.modules[...]": (
        "basicsr imports a module that torchvision 0.17 removed (https://github.com/XPixelGroup/BasicSR/pull/624); "
        "provided only if the extra `upstream` is used"
    ),
}
"""What is assigned in spite of the rule, and why."""


class Assignments(ast.NodeVisitor):
    """Collects assignments to attributes of names that were imported from other packages."""

    def __init__(self) -> None:
        self.foreign: set[str] = set()
        """Names in the file that stand for something of another package."""
        self.found: list[str] = []

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            root = alias.name.split(".")[0]
            if root not in OURS:
                self.foreign.add(alias.asname or root)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        if node.module and node.module.split(".")[0] not in OURS:
            self.foreign |= {alias.asname or alias.name for alias in node.names}

    def visit_Assign(self, node: ast.Assign) -> None:
        for target in node.targets:
            self._check(target, node.value)
        self.generic_visit(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        self._check(node.target, node.value)
        self.generic_visit(node)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        self._check(node.target, None)
        self.generic_visit(node)

    def visit_Delete(self, node: ast.Delete) -> None:
        for target in node.targets:
            self._check(target, None)

    def visit_For(self, node: ast.For) -> None:
        if isinstance(node.target, ast.Name) and isinstance(node.iter, ast.Tuple | ast.List | ast.Set):
            for value in node.iter.elts:
                self._check(node.target, value)
        self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        if (
            isinstance(node.func, ast.Name)
            and node.func.id in ("setattr", "delattr")
            and self._is_foreign(node.args[0])
        ):
            self.found.append(ast.unparse(node.args[0]) + ".(setattr)")
        self.generic_visit(node)

    def _check(self, target: ast.expr, value: ast.expr | None) -> None:
        if isinstance(target, ast.Tuple | ast.List):
            for one in target.elts:
                self._check(one, None)
        elif isinstance(target, ast.Name) and value is not None and self._is_foreign(value):
            self.foreign.add(target.id)  # another name for the same thing
        elif isinstance(target, ast.Attribute) and self._is_foreign(target.value):
            self.found.append(ast.unparse(target))
        elif isinstance(target, ast.Subscript) and self._is_namespace(target.value):
            self.found.append(ast.unparse(target.value) + "[...]")

    def _is_foreign(self, value: ast.expr) -> bool:
        """Whether an expression names something of another package; results of calls and items are ours."""
        while isinstance(value, ast.Attribute):
            value = value.value
        return isinstance(value, ast.Name) and value.id in self.foreign

    def _is_namespace(self, value: ast.expr) -> bool:
        """Whether an item assignment changes the names of a module or class of another package."""
        if isinstance(value, ast.Call) and isinstance(value.func, ast.Name) and value.func.id == "vars":
            return bool(value.args) and self._is_foreign(value.args[0])
        if not isinstance(value, ast.Attribute) or not self._is_foreign(value):
            return False
        return value.attr == "__dict__" or ast.unparse(value) == "sys.modules"


def assignments(source: str) -> list[str]:
    """What a source assigns to other packages."""
    visitor = Assignments()
    visitor.visit(ast.parse(source))
    return visitor.found


def product_files() -> Iterator[Path]:
    for folder in PRODUCT:
        yield from sorted((ROOT / folder).rglob("*.py"))


def test_no_product_module_changes_another_package() -> None:
    found = {
        f"{path.relative_to(ROOT).as_posix()}: {target}"
        for path in product_files()
        for target in assignments(path.read_text(encoding="utf-8"))
    }
    assert found == set(REASONS)


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("import ssl\nssl.x = 1", "ssl.x"),
        ("from prefect import engine\ntheirs: Any = engine\ntheirs.run = None", "theirs.run"),
        ("import a.b\nfor module in (a.b, a.c):\n    module.print = None", "module.print"),
        ("from a import B\nsetattr(B, 'run', None)", "B.(setattr)"),
        ("import a\nvars(a)['run'] = None", "vars(a)[...]"),
        ("import sys\nsys.modules['a'] = None", "sys.modules[...]"),
        ("def f():\n    from a import b\n    b.c.d += 1", "b.c.d"),
        ("import a\ndel a.b", "a.b"),
    ],
)
def test_patches_are_found(source: str, target: str) -> None:
    assert assignments(source) == [target]


@pytest.mark.parametrize(
    "source",
    [
        "import os\nos.environ['A'] = '1'",
        "from a import make\nthing = make()\nthing.x = 1",
        "class A:\n    def f(self):\n        self.x = 1",
        "from panelworks import settings\nsettings.x = 1",
    ],
)
def test_other_assignments_pass(source: str) -> None:
    assert assignments(source) == []
