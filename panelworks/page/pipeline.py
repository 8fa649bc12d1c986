"""The pipeline of a page: the order of the stages, the gate and the fallback policy, defined once.

It runs in two modes. `panelworks.page.direct` calls the engine; an orchestrator runs the stages as its tasks. Both
implement the protocols below, so that a page ends the same way in either mode.
"""

import logging
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Final, Protocol

from panelworks.accounting.ledger import compute_cost
from panelworks.domain.formats import VariantSpec
from panelworks.domain.plan import Plan, Route
from panelworks.domain.request import PageRequest
from panelworks.domain.result import (
    ArtifactRef,
    Attempt,
    ErrorInfo,
    Fallback,
    FallbackAttempt,
    FallbackResult,
    GpuUse,
    IngestedPage,
    Outcome,
    PageResult,
    VariantArtifact,
    Verdict,
)
from panelworks.domain.stages import StageName
from panelworks.errors import (
    Invalid,
    Misconfigured,
    ObjectMissing,
    PanelworksError,
    ResourceExhausted,
    Transient,
    UnknownName,
    as_known_error,
    as_unexpected_error,
    misconfigured_message,
)
from panelworks.page.fallbacks import alternatives, repeats_failure, repeats_networks
from panelworks.page.planning import refusal_of_size
from panelworks.page.rules import DAMAGED, choose_treatment, choose_work
from panelworks.page.variants import with_source
from panelworks.quality import QualityReport
from panelworks.settings import Settings
from panelworks.steps.catalogue import take_inventory

logger = logging.getLogger(__name__)

MIN_SCORE_GAIN: Final = 0.03
"""A later alternative of the fallback must have a score that is higher by more than this."""
MAX_RUNS: Final = 3
"""Runs of a page or book in all, when its runs crash."""


class AttemptStages(Protocol):
    """The stages of one attempt. Each does what `Engine`'s method of that name does."""

    settings: Settings

    async def enhance(self, page: IngestedPage, plan: Plan) -> Attempt: ...

    async def validate(self, page: IngestedPage, before: QualityReport, attempt: Attempt) -> Verdict: ...


class Stages(AttemptStages, Protocol):
    """All stages of a page."""

    async def ingest(self, request: PageRequest) -> IngestedPage: ...

    async def recall(self, page: IngestedPage) -> Outcome | None: ...

    async def publish_preview(self, request: PageRequest, page: IngestedPage) -> None: ...

    def hold_lease(self, page: IngestedPage) -> AbstractContextManager[bool]: ...

    async def assess(self, page: IngestedPage) -> QualityReport: ...

    async def fall_back(self, page: IngestedPage, before: QualityReport, failed: Verdict) -> FallbackResult:
        """Run `fall_back` below, as a subflow where there is one."""
        ...

    async def make_variants(
        self, master: ArtifactRef, specs: tuple[VariantSpec, ...]
    ) -> tuple[VariantArtifact, ...]: ...

    async def remember(self, page: IngestedPage, outcome: Outcome) -> None: ...

    async def publish(
        self, request: PageRequest, page: IngestedPage, outcome: Outcome, *, cached: bool
    ) -> PageResult: ...

    async def record(self, request: PageRequest, result: PageResult) -> None: ...


async def enhance_page(request: PageRequest, stages: Stages) -> PageResult:
    """One page from its source to delivered variants.

    Raises:
        PanelworksError: the page could not be delivered; `failed` makes it a result.
    """
    clock = Stopwatch()
    with clock.timing("ingest"):
        page = await stages.ingest(request)
    with clock.timing("recall"):
        known = None if request.force else await stages.recall(page)
    outcome = known
    if outcome is None:
        await stages.publish_preview(request, page)
        with stages.hold_lease(page) as waited:
            if waited and not request.force:
                known = await stages.recall(page)
            outcome = known or await _compute(page, stages, clock)
    with clock.timing("publish"):
        try:
            result = await stages.publish(request, page, outcome, cached=known is not None)
        except ObjectMissing as missing:
            if known is None:
                raise
            logger.warning("%s is computed again: %s", page.stem, missing)
            known, outcome = None, await _compute(page, stages, clock)
            result = await stages.publish(request, page, outcome, cached=False)
    seconds = clock.seconds()
    cost = compute_cost(seconds, stages.settings, cached=known is not None)
    result = result.model_copy(update={"seconds": seconds, "cost": cost})
    await stages.record(request, result)
    return result


async def fall_back(
    page: IngestedPage, before: QualityReport, failed: Verdict, stages: AttemptStages
) -> FallbackResult:
    """Try the alternatives to a plan that got the verdict `failed`, in order, and keep the best result.

    A result that passes is better than one whose score is below the target, and this is better than none. Of equal
    ones the score decides; the alternatives come in the order in which they are preferred, so that a later one must
    have a clearly higher score. The result has no attempt when the plan's own one is the best that can be delivered,
    or nothing can be.
    """
    tried: list[FallbackAttempt] = []
    best: Attempt | None = None
    best_verdict = failed if failed.deliverable else None
    winner = -1
    numeric_cause = True
    inventory = take_inventory(stages.settings)
    for name, plan in alternatives(page.plan, before, page.options.fallbacks, inventory, failed):
        repeats = repeats_networks(page.plan, plan)
        if repeats and not numeric_cause:
            logger.info("%s: %s skipped: precision does not change the failed check", page.stem, name)
            continue
        try:
            attempt, verdict = await _attempt(page, plan, before, stages, Stopwatch())
        except PanelworksError as error:
            if best_verdict is None or isinstance(error, ObjectMissing | Transient | Misconfigured):
                raise
            logger.warning("%s: %s could not be tried: %s", page.stem, name, error.message)
            attempt, verdict = None, Verdict(passed=False, reason=error.message)
        score = verdict.after.overall if verdict.after is not None else None
        tried.append(
            FallbackAttempt(
                name=name, model=plan.model, passed=verdict.passed, reason=verdict.reason, score=score
            )
        )
        if repeats and repeats_failure(failed, verdict):
            numeric_cause = False
        if attempt is not None and outranks(verdict, best_verdict):
            best, best_verdict, winner = attempt, verdict, len(tried) - 1
    attempts = tuple(one.model_copy(update={"taken": index == winner}) for index, one in enumerate(tried))
    fallback = Fallback(reason=failed.reason, attempts=attempts, checks=failed.checks)
    return FallbackResult(fallback=fallback, attempt=best, verdict=best_verdict if best is not None else None)


def outranks(verdict: Verdict, best: Verdict | None) -> bool:
    """Is a result better than the best one so far? One that passes is better than one below the target."""
    if not verdict.deliverable:
        return False
    if best is None or verdict.passed != best.passed:
        return best is None or verdict.passed
    return _score(verdict) > _score(best) + MIN_SCORE_GAIN


def _score(verdict: Verdict) -> float:
    return verdict.after.overall if verdict.after is not None else 0.0


def failed(request: PageRequest, error: Exception) -> PageResult:
    """The result of a page that could not be delivered."""
    known = as_known_error(error) or as_unexpected_error(error)
    message = known.message
    if _for_operators(known) and request.origin.entry_point != "operator":
        logger.error("job %s: %s", request.job_id, message)  # may contain local paths: not for clients
        message = misconfigured_message(known.code)
    return PageResult(job_id=request.job_id, status="error", error=ErrorInfo.of(known, message))


def _for_operators(error: PanelworksError) -> bool:
    return isinstance(error, Misconfigured) and not isinstance(error, UnknownName)


async def _compute(page: IngestedPage, stages: Stages, clock: "Stopwatch") -> Outcome:
    """Assess; enhance, validate and fall back if the gate decides so; then make the variants."""
    with clock.timing("assess"):
        before = await stages.assess(page)
    work = choose_work(choose_treatment(page, before), before)
    page, wanted, options = work.page, work.plan, work.page.options
    route: Route = "good_quality"
    master, after, plan, fallback = page.original, before, None, None
    notes: tuple[str, ...] = ()
    gpu: GpuUse | None = None
    downloads: tuple[str, ...] = ()
    damage: tuple[str, ...] = () if before.damage is None else (f"{DAMAGED}: {before.damage}",)
    if damage and not options.accept_damaged:
        route = "couldn't_upscale"
    refusal = None if wanted is None else refusal_of_size(wanted, stages.settings)
    if refusal is not None:  # every alternative makes a page of this size
        route, wanted, fallback = "couldn't_upscale", None, Fallback(reason=refusal, attempts=())
    if wanted is not None:
        page = page.model_copy(update={"plan": wanted})
        attempt, verdict = await _attempt(page, wanted, before, stages, clock)
        downloads = attempt.downloads if attempt is not None else ()
        if attempt is None or not verdict.passed:
            with clock.timing("fallback"):
                alternative = await stages.fall_back(page, before, verdict)
            fallback = alternative.fallback
            if alternative.attempt is not None or not verdict.deliverable:
                attempt, verdict = alternative.attempt, alternative.verdict or verdict
        route = "upscaled" if attempt is not None else "couldn't_upscale"
        if attempt is not None and verdict.after is not None:
            master, after, plan, notes = attempt.master, verdict.after, attempt.plan, attempt.notes
            gpu = attempt.gpu
            if not verdict.passed:
                notes = (*notes, _below_target(verdict.after, options.target_score, fallback))
    with clock.timing("variants"):
        variants = await stages.make_variants(master, with_source(options.variant_specs, page.source))
    outcome = Outcome(
        route=route,
        decision=work.decision.reason,
        before=before,
        after=after,
        plan=plan,
        rule=page.rule,
        fallback=fallback,
        master=master,
        variants=variants,
        placeholder=page.placeholder,
        preview=page.preview,
        notes=(*damage, *notes, *(variant.note for variant in variants if variant.note)),
        downloads=downloads,
        seconds=clock.seconds(),
        gpu=gpu,
    )
    await stages.remember(page, outcome)
    return outcome


def _below_target(after: QualityReport, target: float, fallback: Fallback | None) -> str:
    results = 1 + (len(fallback.attempts) if fallback else 0)
    return (
        f"below_target: the score {after.overall:.2f} is below the target of {target:.2f};"
        f" the best of {results} results was kept"
    )


async def _attempt(
    page: IngestedPage, plan: Plan, before: QualityReport, stages: AttemptStages, clock: "Stopwatch"
) -> tuple[Attempt | None, Verdict]:
    """Enhance and validate. A network whose result is unusable is a failed verdict, not an error."""
    try:
        with clock.timing("enhance"):
            attempt = await stages.enhance(page, plan)
    except (Invalid, ResourceExhausted) as error:
        return None, Verdict(passed=False, reason=error.message)
    with clock.timing("validate"):
        return attempt, await stages.validate(page, before, attempt)


class Stopwatch:
    """Seconds by stage."""

    def __init__(self) -> None:
        self._began = time.perf_counter()
        self._stages: dict[str, float] = {}

    @contextmanager
    def timing(self, stage: StageName) -> Iterator[None]:
        began = time.perf_counter()
        try:
            yield
        finally:
            self._stages[stage] = round(time.perf_counter() - began, 3)

    def seconds(self) -> dict[str, float]:
        """The stages so far and the total."""
        return {**self._stages, "total": round(time.perf_counter() - self._began, 3)}
