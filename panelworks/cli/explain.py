"""`panelworks enhance --explain`: which rule applies to a page and why, and the steps that follow. Nothing is enhanced."""

from collections.abc import Iterator

from panelworks.domain.options import EnhanceOptions
from panelworks.domain.request import Origin, PageRequest
from panelworks.domain.treatment import PageFacts
from panelworks.errors import PanelworksError
from panelworks.page.direct import new_job_id
from panelworks.page.engine import Engine, get_engine
from panelworks.page.planning import chosen
from panelworks.page.rules import choose_treatment, explain_rules, rules_of
from panelworks.quality import decide
from panelworks.text import to_printable


def explain_all(sources: list[str], options: EnhanceOptions) -> int:
    """Print the explanation of each source. Returns the exit code: 1 if one of them cannot be read."""
    engine, failures = get_engine(), 0
    for source in sources:
        try:
            lines = list(_explain(source, options, engine))
        except PanelworksError as error:
            failures += 1
            lines = [f"{error.message} [{error.code}]"]
        print(f"{to_printable(source)}: {to_printable(lines[0])}", flush=True)
        for line in lines[1:]:
            print(f"    {to_printable(line)}", flush=True)
    return 1 if failures else 0


def _explain(source: str, options: EnhanceOptions, engine: Engine) -> Iterator[str]:
    request = PageRequest(
        source=source, out="", options=options, job_id=new_job_id(), origin=Origin(tool="cli")
    )
    page = engine.ingest(request)
    size = (page.original.width, page.original.height)
    report = engine.assess(page.original)
    content = report.content.type.replace("_", " ") if report.content else "unknown content"
    quality = "no JPEG compression" if report.jpeg_quality is None else f"JPEG quality {report.jpeg_quality}"
    yield f"{content}, {size[0]}x{size[1]}, {quality}"
    facts = PageFacts(width=size[0], height=size[1], path=source)
    for rule, reason in explain_rules(rules_of(options, engine.settings), facts, report):
        yield f"rule '{rule.name}' {'applies: ' + rule.when.describe() if reason is None else 'does not apply: ' + reason}"
    page = choose_treatment(page, report)
    if page.rule is None:
        yield "no rule applies: the options of the request and the settings decide"
    decision = decide(report, page.options.quality_threshold, page.options.technical_threshold)
    yield decision.reason
    plan = chosen(page.plan, report, good=decision.good, size=size)
    if plan is None:
        yield "steps: none; the page is delivered as it is"
        return
    yield f"result: {plan.width}x{plan.height}, variants: " + ", ".join(
        f"{spec.name} ({spec.format})" for spec in page.options.variants
    )
    for step in plan.steps:
        strength = f", strength {step.config['strength']:g}" if "strength" in step.config else ""
        yield f"step {step.action}: {step.model}{strength}"
