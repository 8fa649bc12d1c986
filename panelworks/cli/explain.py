"""`panelworks enhance --explain`: which rule applies to a page and why, and the steps that follow. Nothing is enhanced."""

from collections.abc import Iterable, Iterator
from typing import Any

from panelworks.cli.batches import Page, open_page
from panelworks.cli.output import print_json, shorten_source
from panelworks.domain.fields import Frozen
from panelworks.domain.options import EnhanceOptions
from panelworks.domain.plan import Step
from panelworks.domain.quality import PageType
from panelworks.domain.request import Origin, PageRequest
from panelworks.domain.result import ErrorInfo
from panelworks.domain.treatment import PageFacts
from panelworks.errors import PanelworksError, Rejected
from panelworks.page.direct import new_job_id
from panelworks.page.engine import Engine, get_engine
from panelworks.page.rules import choose_treatment, choose_work, explain_rules, rules_of
from panelworks.text import to_printable


class TriedRule(Frozen):
    """A rule, and why it does not apply to a page; None for the rule that does."""

    name: str
    when: str
    reason: str | None


class Explanation(Frozen):
    """What would be done to a page, and why."""

    width: int
    height: int
    content: PageType | None
    jpeg_quality: int | None
    rules: tuple[TriedRule, ...]
    """Up to the one that applies."""
    decision: str
    """Of the gate."""
    steps: tuple[Step, ...]
    result: tuple[int, int]
    """Width and height of the master."""
    variants: dict[str, str]
    """Format of each variant."""


def explain_all(pages: Iterable[Page], options: EnhanceOptions, *, json: bool) -> int:
    """Print the explanation of each page. Returns the exit code: 1 if one of them cannot be read."""
    engine, failures = get_engine(), 0
    for page in pages:
        source = page.name
        try:
            if page.error is not None:
                raise Rejected(page.error.code, page.error.message)
            chosen = options if page.options is None else page.options.with_defaults_from(options)
            explanation = _explain(open_page(page), chosen, engine)
        except PanelworksError as error:
            failures += 1
            _print(
                source, {"error": ErrorInfo.of(error).model_dump()}, [f"{error.message} [{error.code}]"], json
            )
        else:
            _print(source, explanation.model_dump(mode="json"), list(_lines_of(explanation)), json)
    return 1 if failures else 0


def _print(source: str, content: dict[str, Any], lines: list[str], json: bool) -> None:
    if json:
        print_json({"source": source, **content})
        return
    print(f"{shorten_source(source)}: {to_printable(lines[0])}", flush=True)
    for line in lines[1:]:
        print(f"    {to_printable(line)}", flush=True)


def _explain(source: str, options: EnhanceOptions, engine: Engine) -> Explanation:
    request = PageRequest(
        source=source, out="", options=options, job_id=new_job_id(), origin=Origin(tool="cli")
    )
    page = engine.ingest(request)
    width, height = page.size
    report = engine.assess(page)
    facts = PageFacts(width=width, height=height, path=source)
    tried = explain_rules(rules_of(options, engine.settings), facts, report)
    work = choose_work(choose_treatment(page, report), report)
    return Explanation(
        width=width,
        height=height,
        content=report.content.type if report.content else None,
        jpeg_quality=report.jpeg_quality,
        rules=tuple(
            TriedRule(name=rule.name, when=rule.when.describe(), reason=reason) for rule, reason in tried
        ),
        decision=work.decision.reason,
        steps=work.plan.steps if work.plan else (),
        result=work.size,
        variants={spec.name: spec.format for spec in work.page.options.variant_specs},
    )


def _lines_of(found: Explanation) -> Iterator[str]:
    content = (found.content or "unknown content").replace("_", " ")
    quality = "no JPEG compression" if found.jpeg_quality is None else f"JPEG quality {found.jpeg_quality}"
    yield f"{content}, {found.width}x{found.height}, {quality}"
    for rule in found.rules:
        applies = f"applies: {rule.when}" if rule.reason is None else f"does not apply: {rule.reason}"
        yield f"rule '{rule.name}' {applies}"
    if all(rule.reason is not None for rule in found.rules):
        yield "no rule applies: the options of the request and the settings decide"
    yield found.decision
    variants = ", ".join(f"{name} ({format})" for name, format in found.variants.items())
    yield f"result: {found.result[0]}x{found.result[1]}, variants: {variants}"
    for step in found.steps:
        strength = f", strength {step.config['strength']:g}" if "strength" in step.config else ""
        yield f"step {step.action}: {step.model}{strength}"
    if not found.steps:
        yield "no steps: the page is delivered as it is"
