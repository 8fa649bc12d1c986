"""Rules read from files, applied to pages, and explained."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from panelworks.cli.batches import Page
from panelworks.cli.explain import explain_all
from panelworks.domain.options import EnhanceOptions
from panelworks.domain.request import Origin, PageRequest
from panelworks.domain.result import PageResult
from panelworks.domain.treatment import PageFacts, Rule
from panelworks.errors import Misconfigured, UnsafeSource
from panelworks.page.direct import enhance_directly
from panelworks.page.engine import Engine
from panelworks.page.entry_points import admit
from panelworks.page.rules import BUILT_IN_FILE, plan_candidates, read_rules, rules_of
from panelworks.settings import Settings
from tests.pages import drawn, file_of, write_page


def write_rules(folder: Path, *rules: dict[str, Any]) -> Path:
    path = folder / "rules.yaml"
    path.write_text(yaml.safe_dump({"rules": list(rules)}))
    return path


def parse_rules(*rules: dict[str, Any]) -> tuple[Rule, ...]:
    return tuple(Rule.model_validate(one) for one in rules)


def enhance(engine: Engine, source: Path, rules: tuple[Rule, ...] | None, **options: Any) -> PageResult:
    wanted = EnhanceOptions(rules=rules, **options)
    request = PageRequest(source=str(source), out=str(source.parent / "out"), options=wanted, job_id="job")
    result = enhance_directly(request, engine)
    assert result.error is None, result.error
    return result


def noisy_gray_scan(path: Path, paper: tuple[int, int, int]) -> Path:
    """A gray page whose colour channels differ by noise, on paper of a colour."""
    pixels = drawn(look="screentone", width=240, height=300).rgb() / 255 * np.array(paper)
    pixels += np.random.default_rng(1).integers(-3, 4, pixels.shape)
    path.write_bytes(file_of(Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)), "JPEG", quality=80))
    return path


def test_the_built_in_rules_are_a_file_as_any_other(settings: Settings) -> None:
    assert rules_of(EnhanceOptions(), settings) == read_rules(BUILT_IN_FILE)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (
            "rules: [{name: a, then: {scale: 9}}]",
            r"rule 'a', then, scale: it must be 'auto' or a number from 1 to 4",
        ),
        ("rules: [{when: {}}]", "rule 1, name: Field required"),
        ("rules: [{name: a, when: {size: 3}}]", "rule 'a', when, size: Extra inputs"),
        ("rules: [{name: a}, {name: b}]", "'a' has no condition"),
        ("- name: a", "the file: Input should be"),
        ("", "the file: Input should be"),
        ("rules: [", "cannot be read"),
    ],
)
def test_a_file_that_cannot_be_used_says_where(tmp_path: Path, text: str, reason: str) -> None:
    path = tmp_path / "rules.yaml"
    path.write_text(text)
    with pytest.raises(Misconfigured, match=reason) as caught:
        read_rules(path)
    assert caught.value.code == "bad_rules" and str(path) in caught.value.message


def test_the_words_on_and_off_need_no_quotes(tmp_path: Path) -> None:
    path = tmp_path / "rules.yaml"
    path.write_text("rules: [{name: a, then: {gray: on, fix_artifacts: off}}]")
    treatment = read_rules(path)[0].then
    assert (treatment.gray, treatment.fix_artifacts) == ("on", "off")


def test_a_file_that_changes_or_disappears_is_noticed(tmp_path: Path, settings: Settings) -> None:
    path = write_rules(tmp_path, {"name": "first"})
    configured = settings.model_copy(update={"rules": path})
    assert [rule.name for rule in rules_of(EnhanceOptions(), configured)] == ["first"]
    write_rules(tmp_path, {"name": "second"})
    assert [rule.name for rule in rules_of(EnhanceOptions(), configured)] == ["second"]
    path.unlink()
    with pytest.raises(Misconfigured, match="cannot be read"):
        rules_of(EnhanceOptions(), configured)


def test_the_first_rule_that_matches_decides(engine: Engine, tmp_path: Path) -> None:
    rules = parse_rules(
        {"name": "huge", "when": {"min_width": 5000}, "then": {"scale": 1}},
        {"name": "gray", "when": {"content": ["gray", "line_art", "screentone"]}, "then": {"scale": 1.5}},
        {"name": "colour", "when": {"content": "colour"}, "then": {"scale": 3, "model": "lanczos", "format": "png"}},
    )  # fmt: skip
    result = enhance(engine, write_page(tmp_path / "page.png"), rules)
    assert result.rule is not None and (result.rule.name, result.rule.when) == ("colour", "content colour")
    assert (result.scale, result.model) == (3.0, "lanczos")
    assert {variant.format for variant in result.variants} == {"png"}
    again = enhance(engine, tmp_path / "page.png", rules)
    assert again.cached and again.rule == result.rule


def test_a_page_that_no_rule_matches_gets_the_treatment_of_the_request(
    engine: Engine, tmp_path: Path
) -> None:
    rules = parse_rules({"name": "photographs", "when": {"content": "photograph"}, "then": {"scale": 4}})
    result = enhance(engine, write_page(tmp_path / "page.png"), rules, scale=1.25)
    assert (result.rule, result.scale) == (None, 1.25)


def test_the_work_is_the_same_whatever_a_rule_is_called(settings: Settings, tmp_path: Path) -> None:
    facts = PageFacts(width=100, height=100, path="page.png")

    def key(*rules: dict[str, Any]) -> str:
        engine = Engine(settings)
        source = write_page(tmp_path / "page.png")
        options = EnhanceOptions(rules=parse_rules(*rules))
        assert plan_candidates(facts, options, settings)
        return engine.ingest(PageRequest(source=str(source), out="", options=options, job_id="1")).content_key

    small = {"when": {"max_width": 500}, "then": {"scale": 3}}
    assert key({"name": "a", **small}) == key({"name": "b", **small}) != key()
    assert key({"name": "a", "when": {"min_width": 500}, "then": {"scale": 3}}) == key()


def test_clients_cannot_name_weight_files_in_rules(settings: Settings) -> None:
    rules = parse_rules({"name": "a", "then": {"model": "/etc/passwd.pth"}})
    request = PageRequest(
        source="https://example.org/page.png",
        out=settings.default_out,
        job_id="1",
        options=EnhanceOptions(rules=rules),
        origin=Origin(entry_point="http"),
    )
    with pytest.raises(UnsafeSource) as caught:
        admit(request, settings)
    assert caught.value.code == "forbidden_model"


@pytest.mark.parametrize(
    ("paper", "channels"),
    [((250, 250, 250), 1), ((228, 206, 160), 3)],
    ids=["neutral paper", "yellowed paper"],
)
def test_colour_noise_of_gray_scans_is_removed_and_yellowed_paper_is_kept(
    engine: Engine, tmp_path: Path, paper: tuple[int, int, int], channels: int
) -> None:
    result = enhance(engine, noisy_gray_scan(tmp_path / "scan.jpg", paper), None)
    assert result.rule is not None and result.rule.name == "gray pages"
    assert result.master is not None
    assert engine.picture(result.master).pixels.shape[2] == channels


def test_every_rule_is_explained_and_nothing_is_enhanced(
    engine: Engine, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rules = parse_rules(
        {"name": "wide", "when": {"min_width": 5000}},
        {"name": "photographs", "when": {"content": "photograph"}},
        {"name": "small", "when": {"max_width": 900}, "then": {"scale": 3, "levels": 0.5}},
    )
    source = write_page(tmp_path / "page.png")
    addresses, options = (str(source), str(tmp_path / "missing.png")), EnhanceOptions(rules=rules)
    pages = [Page(address, address) for address in addresses]
    assert explain_all(pages, options, json=False) == 1
    shown = capsys.readouterr().out
    for part in (
        "page.png: colour, 160x200, no JPEG compression",
        "rule 'wide' does not apply: the width 160 is below 5000",
        "rule 'photographs' does not apply: the page is colour, not photograph",
        "rule 'small' applies: max_width 900",
        "result: 480x600",
        "[not_found]",
    ):
        assert part in shown, shown
    assert explain_all(pages, options, json=True) == 1
    found, missing = map(json.loads, capsys.readouterr().out.splitlines())
    assert [rule["reason"] is None for rule in found["rules"]] == [False, False, True]
    assert (found["result"], found["steps"][0]["action"]) == ([480, 600], "levels")
    assert missing["error"]["code"] == "not_found"
    assert not (tmp_path / "out").exists()
