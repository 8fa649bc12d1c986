"""The READMEs of our worker types list the modules of Prefect that these depend on."""

import ast
import re
from pathlib import Path

import pytest

DEPLOYMENTS = Path(__file__).parents[2] / "deployments"


def imported_modules(package: Path) -> set[str]:
    """Modules of Prefect that the files of a package import, anywhere in a file."""
    found: set[str] = set()
    for path in package.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module:
                found.add(node.module)
            elif isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
    return {name for name in found if name.split(".")[0] == "prefect"}


def listed_modules(readme: Path) -> set[str]:
    """Modules in the section "Prefect modules" of a README."""
    section = readme.read_text(encoding="utf-8").partition("## Prefect modules")[2].partition("\n## ")[0]
    return set(re.findall(r"`(prefect(?:\.\w+)+)`", section))


@pytest.mark.parametrize("package", ["ecs", "runpod", "warm"])
def test_the_readme_lists_the_imported_modules(package: str) -> None:
    assert listed_modules(DEPLOYMENTS / package / "README.md") == imported_modules(DEPLOYMENTS / package)
