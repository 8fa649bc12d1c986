"""Applying rules: which of them a page may match is known when it is ingested, which one it matches after it is assessed."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final

import yaml
from pydantic import ValidationError

from panelworks.domain.options import EnhanceOptions
from panelworks.domain.plan import Plan
from panelworks.domain.quality import QualityReport
from panelworks.domain.result import AppliedRule, Candidate, IngestedPage
from panelworks.domain.treatment import PageFacts, Rule, RuleFile, candidates
from panelworks.errors import Misconfigured, UnknownName
from panelworks.page.planning import chosen, plan_for
from panelworks.page.presets import with_preset
from panelworks.pictures.jpeg_xl import require_jpeg_xl
from panelworks.quality import GateDecision, decide
from panelworks.settings import Settings
from panelworks.steps.catalogue import take_inventory
from panelworks.steps.detectors import choose_detectors, identify_detectors
from panelworks.steps.inventory import Inventory, identify_weights

DAMAGED: Final = "the file is damaged"
"""First words of the note on damaged pixel data."""
BUILT_IN_FILE: Final = Path(__file__).with_name("rules.yaml")


def rules_of(options: EnhanceOptions, settings: Settings) -> tuple[Rule, ...]:
    """The rules of a request: its own, or those of PANELWORKS_RULES, or the built-in ones.

    Raises:
        Misconfigured: `bad_rules`.
    """
    if options.rules is not None:
        return options.rules
    path = settings.rules or BUILT_IN_FILE
    try:
        return _read_rules(path, path.stat().st_mtime_ns)
    except OSError as error:
        raise _bad_rules(path, f"cannot be read ({type(error).__name__}).") from error


def read_rules(path: Path) -> tuple[Rule, ...]:
    """Read a YAML file of rules.

    Raises:
        Misconfigured: `bad_rules`, it cannot be read, or a rule cannot be used; the message says which one.
    """
    try:
        given = yaml.safe_load(path.read_text(encoding="utf-8"))
        return RuleFile.model_validate(given).rules
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise _bad_rules(path, f"cannot be read ({type(error).__name__}).") from error
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"][1:]) or "the file"
        if isinstance(given, dict) and len(first["loc"]) > 1 and isinstance(first["loc"][1], int):
            rule = given["rules"][first["loc"][1]]
            name = rule.get("name") if isinstance(rule, dict) else None
            place = f"rule '{name}'" if name else f"rule {first['loc'][1] + 1}"
            place += "".join(f", {part}" for part in first["loc"][2:])
        raise _bad_rules(path, f"{place}: {first['msg'].removeprefix('Value error, ')}.") from error


@lru_cache(maxsize=8)
def _read_rules(path: Path, changed: int) -> tuple[Rule, ...]:
    """The rules of a file that was changed at the time `changed`."""
    return read_rules(path)


def _bad_rules(path: Path, reason: str) -> Misconfigured:
    return Misconfigured("bad_rules", f"The rules in {path}: {reason}")


def plan_candidates(
    facts: PageFacts,
    options: EnhanceOptions,
    settings: Settings,
    complete: Callable[[EnhanceOptions], EnhanceOptions] = lambda given: given,
) -> tuple[tuple[Candidate, ...], tuple[str, ...]]:
    """The treatments of a page, each with its plan: those of the rules that may match, and last that of the request alone.

    `complete` stores what the options name, such as the pictures of watermarks.

    Returns:
        The candidates, and a note for each weight file that was downloaded to identify the work.

    Raises:
        Misconfigured: `bad_rules`; `UnknownName`, a preset, model or action that does not exist.
    """
    notes: list[str] = []
    matching = list(candidates(rules_of(options, settings), facts))
    treated = [options.with_defaults_from(rule.then) for rule in matching]
    inventory = take_inventory(settings, *(one.model for one in (options, *treated)))

    def plan(wanted: EnhanceOptions, rule: Rule | None) -> Candidate:
        size = (facts.width, facts.height)
        resolved = complete(with_preset(wanted, settings)).resolve(settings, size)
        resolved = resolved.model_copy(
            update={"detectors": identify_detectors(_detectors(wanted, inventory))}
        )
        if any(spec.format == "jxl" for spec in resolved.variant_specs):
            require_jpeg_xl()
        steps, downloads = identify_weights(plan_for(size, resolved, inventory), settings)
        notes.extend(downloads)
        return Candidate(
            rule=rule.name if rule else None,
            when=rule.when if rule else None,
            options=resolved,
            plan=steps,
        )

    planned = [plan(wanted, rule) for wanted, rule in zip(treated, matching, strict=True)]
    if not planned or (planned[-1].when is not None and planned[-1].when.need_assessment):
        planned.append(plan(options, None))
    return tuple(planned), tuple(dict.fromkeys(notes))


def _detectors(options: EnhanceOptions, inventory: Inventory) -> tuple[str, ...]:
    """The detectors that a request asks for.

    Raises:
        UnknownName: `no_detector`.
    """
    names = choose_detectors(inventory.detectors) if options.detect != "off" else ()
    if options.detect == "inpaint" and not names:
        raise UnknownName(
            "no_detector",
            "detect: inpaint needs a detector, and none is installed; docs/how-to/providers.md describes how to add one.",
        )
    return names


def check_plan(options: EnhanceOptions, settings: Settings) -> None:
    """Refuse options for which no page can be planned; rules are not considered.

    Raises:
        UnknownName: an unknown preset or model, or an action that no installed provider performs.
    """
    facts = PageFacts(width=1, height=1, path="")
    plan_candidates(facts, options.model_copy(update={"rules": ()}), settings)


@dataclass(frozen=True)
class Work:
    """What is done to a page after it was assessed."""

    page: IngestedPage
    """With the treatment that was chosen."""
    decision: GateDecision
    plan: Plan | None
    """None: it is delivered as it is."""

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the master."""
        return self.page.size if self.plan is None else (self.plan.width, self.plan.height)


def choose_work(page: IngestedPage, report: QualityReport) -> Work:
    """The gate's decision on a page whose treatment was chosen, and the steps that follow from it."""
    options = page.options
    if report.damage is not None and not options.accept_damaged:
        reason = f"{DAMAGED}: {report.damage}"
        return Work(page, GateDecision(good=False, reason=reason), None)
    decision = decide(report, options.quality_threshold, options.technical_threshold)
    return Work(page, decision, chosen(page.plan, report, good=decision.good, size=page.size))


def choose_treatment(page: IngestedPage, report: QualityReport) -> IngestedPage:
    """The page with the options and the plan of the first candidate that it matches, and the rule that they come from."""
    candidate = next((one for one in page.candidates if _matches(one, report)), None)
    if candidate is None:  # ingested by a release without rules
        return page
    applied = None
    if candidate.rule is not None and candidate.when is not None:
        applied = AppliedRule(name=candidate.rule, when=candidate.when.describe())
    return page.model_copy(update={"options": candidate.options, "plan": candidate.plan, "rule": applied})


def _matches(candidate: Candidate, report: QualityReport) -> bool:
    return candidate.when is None or candidate.when.contradiction_in(report) is None


def explain_rules(
    rules: tuple[Rule, ...], facts: PageFacts, report: QualityReport
) -> Iterator[tuple[Rule, str | None]]:
    """Each rule up to the one that applies, with the condition that the page does not meet; None for the one that applies."""
    for rule in rules:
        reason = rule.when.contradiction(facts) or rule.when.contradiction_in(report)
        yield rule, reason
        if reason is None:
            return
