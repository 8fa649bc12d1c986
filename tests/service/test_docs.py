"""The documentation is complete: the generated reference, the model cards, the decisions, the providers."""

import re
from pathlib import Path

import pytest
import typer

import panelworks
from docs.generated_pages import (
    PAGES,
    find_error_codes,
    find_process_variables,
    make_commands_page,
    make_errors_page,
    make_metrics_page,
    make_settings_page,
    variable_of,
)
from panelworks.cli.app import build_app
from panelworks.domain.cards import ACTIONS, CARDS
from panelworks.settings import Settings
from panelworks.steps.catalogue import PROVIDERS
from service.gateway.metrics import Metrics

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"


def read_document(name: str) -> str:
    return (DOCS / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("name", CARDS)
def test_every_model_has_its_card(name: str) -> None:
    text = read_document("how-to/models.md")
    assert f"`{name}`" in text
    assert CARDS[name].licence in text


def test_every_provider_and_method_is_named() -> None:
    providers, models = read_document("how-to/providers.md"), read_document("how-to/models.md")
    for provider in PROVIDERS.values():
        assert f"`{provider.name}`" in providers
        assert all(f"`{method}`" in models for method in provider.methods), provider.name
    assert all(action in providers for action in ACTIONS if action != "enhance")


def test_the_tests_of_every_feature_exist() -> None:
    rows = [line for line in read_document("reference/features.md").splitlines() if line.startswith("| ")]
    tests = [re.findall(r"`(tests/[^`]+)`", row.rpartition(" | ")[2]) for row in rows if "tests |" not in row]
    assert len(tests) > 25 and all(tests)
    assert [name for names in tests for name in names if not (ROOT / name).is_file()] == []


def test_the_reference_has_every_public_name() -> None:
    documented = set(
        re.findall(r"^::: panelworks\.(?:\w+\.)*(\w+)$", read_document("reference/python.md"), re.M)
    )
    versions = {"ENGINE_VERSION", "__version__"}
    assert "version" in documented
    assert set(panelworks.__all__) - versions == documented - {"version"}


def test_the_reference_has_every_setting_with_a_meaning() -> None:
    page = make_settings_page()
    assert page.startswith("# Settings")
    assert "\n## " in page
    for name, field in Settings.model_fields.items():
        entry = re.search(rf"^`{variable_of(name, field)}` .*\n:   (.+)$", page, re.M)
        assert entry is not None, name
        assert len(entry[1]) > 10, name


def test_the_reference_has_every_variable_that_is_not_a_setting() -> None:
    page = make_settings_page()
    variables = find_process_variables()
    assert "PANELWORKS_WARM_DRAIN_SECONDS" in variables
    assert all(f"| `{variable}` |" in page for variable in variables)


def test_the_reference_has_every_command_with_its_options() -> None:
    page = make_commands_page()
    commands = typer.main.get_command(build_app()).commands  # type: ignore[attr-defined] # it is a group
    for name, command in commands.items():
        for path in [f"{name} {one}" for one in getattr(command, "commands", {})] or [name]:
            assert f"### `panelworks {path}`" in page
    assert "`--fix-artifacts" in page


def test_the_reference_has_every_error_code() -> None:
    page = make_errors_page()
    codes = {one.code for one in find_error_codes()}
    assert {"bad_setting", "missing_extra", "unknown_job"} <= codes
    assert all(f"| `{code}` |" in page for code in codes)


def test_the_reference_has_every_metric() -> None:
    page = make_metrics_page()
    for family in Metrics().registry.collect():
        suffix = "_total" if family.type == "counter" else ""
        assert f"| `{family.name}{suffix}` | {family.type} |" in page


def test_the_navigation_has_every_document() -> None:
    navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    written = {path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")}
    missing = [name for name in sorted(written | set(PAGES)) if f" {name}\n" not in f"{navigation}\n"]
    assert missing == []


def test_every_file_that_documents_name_exists() -> None:
    documents = [
        *DOCS.rglob("*.md"),
        *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")),
    ]
    missing = [
        f"{document.name}: {path}"
        for document in documents
        for path in re.findall(
            r"`((?:[\w.]+/)+\w+\.(?:py|md|yaml|json))`", document.read_text(encoding="utf-8")
        )
        if not any((base / path).is_file() for base in (ROOT, ROOT / "panelworks"))
    ]
    assert missing == []


def test_every_decision_is_in_the_list_and_complete() -> None:
    index = read_document("decisions/index.md")
    for path in sorted((DOCS / "decisions").glob("0*.md")):
        text = path.read_text(encoding="utf-8")
        assert f"({path.name})" in index
        assert all(f"\n## {part}\n" in text for part in ("Context", "Decision", "Consequences")), path.name
