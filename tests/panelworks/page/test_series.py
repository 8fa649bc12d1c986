"""Rules of series: found by owner and name, completed by nothing else, and followed by every page that is processed later."""

import logging
from pathlib import Path
from typing import Any

import pytest

from panelworks.domain.options import EnhanceOptions
from panelworks.domain.request import JobKey, Origin, PageRequest
from panelworks.domain.result import PageResult
from panelworks.domain.treatment import Rule, Treatment
from panelworks.errors import Transient, UnknownName
from panelworks.page.decisions import Decision
from panelworks.page.direct import enhance_directly
from panelworks.page.engine import Engine
from panelworks.page.preview import Previews
from panelworks.page.review import Reviews
from panelworks.page.series import SERIES_FOLDER, SeriesRule, SeriesRules
from panelworks.settings import Settings
from panelworks.storage.folder import ObjectFolder, open_folder
from tests.pages import write_page

SERIES = "akira [1982] */?/..\\ é\u3000漫画"
"""A name with characters that mean something in patterns, paths and addresses."""


@pytest.fixture
def rules(engine: Engine) -> SeriesRules:
    return engine.series


def rule(series: str, owner: str | None = None, **treatment: Any) -> SeriesRule:
    return SeriesRule(owner=owner, series=series, treatment=Treatment(**treatment), set_by="editor")


def enhance(
    engine: Engine, folder: Path, series: str | None = "akira", owner: str | None = None, **options: Any
) -> PageResult:
    source = folder / "page.png"
    if not source.exists():
        write_page(source)
    request = PageRequest(
        source=str(source), out=str(folder / "out"), job_id="job",
        options=EnhanceOptions.model_validate(options), origin=Origin(comic_id=series, owner=owner),
    )  # fmt: skip
    result = enhance_directly(request, engine)
    assert result.error is None, result.error
    return result


@pytest.mark.parametrize(
    ("series", "owner", "found"),
    [
        (SERIES, "studio", True),
        (SERIES.upper(), "studio", True),
        (SERIES, "reader", False),
        (SERIES, None, False),
        (SERIES + "x", "studio", False),
        ("akira 1982", "studio", False),
    ],
)
def test_a_rule_is_found_by_owner_and_name(
    series: str, owner: str | None, found: bool, rules: SeriesRules
) -> None:
    stored = rule(SERIES, "studio", model="lanczos", scale=1.5)
    rules.store(stored)
    assert rules.find(owner, series) == (stored if found else None)


def test_rules_are_replaced_listed_and_removed(rules: SeriesRules) -> None:
    for one in (
        rule("b", "studio", scale=2), rule("A", "studio", scale=3), rule("b", None, scale=4), rule("B", "studio", gray="on"),
    ):  # fmt: skip
        rules.store(one)
    assert [(one.series, one.treatment.describe()) for one in rules.rules_of("studio")] == [
        ("A", "scale 3"),
        ("B", "gray on"),
    ]
    assert [(one.series, one.owner) for one in rules.all_rules()] == [
        ("A", "studio"),
        ("b", None),
        ("B", "studio"),
    ]
    assert rules.remove("studio", "b")
    assert not rules.remove("studio", "b")
    assert rules.find(None, "b") is not None
    assert [one.series for one in rules.all_rules()] == ["A", "b"]


@pytest.mark.parametrize("data", [b"", b"{", b'{"owner": null}', b'{"treatment": {"scale": 9}}'])
def test_a_damaged_rule_is_ignored_with_a_log_line(
    data: bytes, rules: SeriesRules, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    rules.store(rule("akira", scale=3))
    folder: ObjectFolder = open_folder(settings.store_location, settings)
    (file,) = folder.files(SERIES_FOLDER)
    folder.write(file.name, data, "application/json")
    with caplog.at_level(logging.ERROR):
        assert rules.find(None, "akira") is None
    assert rules.all_rules() == []
    assert "is ignored: it is damaged" in caplog.text
    rules.store(rule("akira", scale=2))
    assert rules.find(None, "akira") is not None


def test_only_what_a_rule_states_is_stored(rules: SeriesRules, settings: Settings) -> None:
    rules.store(rule("akira", scale=3.0, levels=0.5))
    folder = open_folder(settings.store_location, settings)
    (file,) = folder.files(SERIES_FOLDER)
    assert b'"treatment":{"scale":3.0,"levels":0.5}' in (folder.read(file.name) or b"")


@pytest.mark.parametrize(
    ("options", "expected", "applied"),
    [
        ({}, ("lanczos", 1.5, 0.5), True),
        ({"scale": 3}, ("lanczos", 3, 0.5), True),
        ({"longest_side": 900}, ("lanczos", None, 0.5), True),
        ({"scale": "auto", "model": "panelworks-2x", "levels": 0}, ("panelworks-2x", "auto", 0), True),
        ({"rules": []}, ("auto", None, None), False),
        ({"rules": [{"name": "a"}]}, ("auto", None, None), False),
        ({"ignore_series_rule": True}, ("auto", None, None), False),
    ],
)
def test_what_a_request_states_has_precedence(
    options: dict[str, Any], expected: tuple[Any, ...], applied: bool, rules: SeriesRules
) -> None:
    rules.store(rule("akira", model="lanczos", scale=1.5, levels=0.5))
    given = EnhanceOptions.model_validate(options)
    completed, treatment = rules.complete(given, None, "akira")
    assert (completed.model, completed.scale, completed.levels) == expected
    assert (treatment is not None) == applied
    for owner, series in (("studio", "akira"), (None, None), (None, "")):
        assert rules.complete(given, owner, series)[1] is None
    rules.store(rule("akira", scale=4))
    assert rules.complete(completed, None, "akira") == (completed, None), "what is complete stays"


def test_pages_follow_the_rule_from_when_it_is_set_until_it_is_removed(
    engine: Engine, tmp_path: Path
) -> None:
    def treated(**more: Any) -> tuple[str | None, float | None, str | None]:
        result = enhance(engine, tmp_path, **more)
        shown = result.series_rule.describe() if result.series_rule else None
        return result.model, result.scale, shown

    before = treated()
    assert before == ("panelworks-2x", 2.0, None)
    engine.series.store(rule("Akira", model="lanczos", scale=1.5))
    assert treated() == ("lanczos", 1.5, "scale 1.5, model lanczos")
    assert treated(series="other") == before
    assert treated(owner="studio") == before
    assert treated(scale=3)[:2] == ("lanczos", 3.0)
    assert treated(rules=[]) == before
    engine.series.store(rule("akira", scale=1.25))
    assert treated() == ("panelworks-2x", 1.25, "scale 1.25")
    engine.series.remove(None, "akira")
    assert treated() == before


def test_other_rules_apply_to_what_the_rule_of_the_series_leaves_open(
    engine: Engine, settings: Settings, tmp_path: Path
) -> None:
    """A page is treated exactly as if its request stated what the rule states: the result is the same, and known."""
    file = tmp_path / "rules.yaml"
    file.write_text("rules: [{name: all, then: {scale: 3, gray: on}}]")
    engine = Engine(settings.model_copy(update={"rules": file}))
    stated = enhance(engine, tmp_path, None, model="lanczos", scale=1.5)
    assert not stated.cached
    engine.series.store(rule("akira", model="lanczos", scale=1.5))
    result = enhance(engine, tmp_path)
    assert (result.cached, result.content_key, result.scale) == (True, stated.content_key, 1.5)
    assert result.rule is not None and result.rule.name == "all"
    assert result.series_rule == Treatment(model="lanczos", scale=1.5)
    assert "gray" in [step.action for step in result.steps]
    assert stated.series_rule is None


def test_a_record_without_a_rule_of_a_series_is_as_before(engine: Engine, tmp_path: Path) -> None:
    """Earlier releases read records and know no such fields."""
    assert "series_rule" not in enhance(engine, tmp_path).model_dump_json()
    assert "series" not in EnhanceOptions().model_dump_json()


def test_a_store_that_cannot_be_read_can_be_retried(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise Transient("s3_unavailable", "The bucket does not answer.")

    page = PageRequest(
        source=str(write_page(tmp_path / "page.png")), out="", job_id="1", origin=Origin(comic_id="akira")
    )
    monkeypatch.setattr(engine.series, "_folder", type("Unavailable", (), {"read": fail})())
    with pytest.raises(Transient):
        engine.ingest(page)
    engine.ingest(page.model_copy(update={"origin": Origin()}))


def test_a_rule_that_names_what_does_not_exist_fails_the_page(engine: Engine, tmp_path: Path) -> None:
    engine.series.store(rule("akira", model="removed-in-this-release"))
    page = PageRequest(
        source=str(write_page(tmp_path / "page.png")), out="", job_id="1", origin=Origin(comic_id="akira")
    )
    with pytest.raises(UnknownName, match="removed-in-this-release"):
        engine.ingest(page)


def test_a_preview_follows_the_rule(engine: Engine, tmp_path: Path) -> None:
    enhance(engine, tmp_path)
    record = engine.jobs.job(JobKey(None, "job"))
    assert record is not None
    previews = Previews(engine)
    first = previews.make(record, EnhanceOptions(), 0, 0)
    engine.series.store(rule("akira", model="lanczos", scale=1.5))
    second = previews.make(record, EnhanceOptions(), 0, 0)
    assert (first.width, second.width, second.model) == (320, 240, "lanczos")
    assert previews.make(record, EnhanceOptions(ignore_series_rule=True), 0, 0).width == 320


def test_the_original_of_a_rejected_page_has_the_variants_that_the_rule_stated(
    engine: Engine, tmp_path: Path
) -> None:
    engine.series.store(rule("akira", format="png"))
    enhance(engine, tmp_path, review="always")
    engine.series.remove(None, "akira")
    record = Reviews(engine).decide(JobKey(None, "job"), Decision(state="rejected"))
    assert {variant.format for variant in record.result.variants} == {"png"}
    assert all(Path(variant.uri.removeprefix("file://")).exists() for variant in record.result.variants)


def test_the_rules_of_a_request_replace_that_of_its_series(engine: Engine, tmp_path: Path) -> None:
    """They are the only ones, also if they name the series."""
    engine.series.store(rule("akira", scale=3))
    own = Rule.model_validate({"name": "own", "when": {"series": "AKIRA"}, "then": {"scale": 1.5}})
    result = enhance(engine, tmp_path, rules=(own,))
    assert (result.scale, result.series_rule) == (1.5, None)
