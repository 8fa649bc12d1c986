"""The stages of a page in Prefect: tasks of the flow that runs, and the fallback as a subflow."""

from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

from prefect import Task

from orchestration.artifacts import Judged
from orchestration.events import emit_preview, report_stage
from orchestration.stage_tasks import retry_transient
from panelworks.domain.formats import VariantSpec
from panelworks.domain.plan import Plan
from panelworks.domain.quality import QualityReport
from panelworks.domain.request import PageRequest
from panelworks.domain.result import (
    ArtifactRef,
    Attempt,
    FallbackResult,
    IngestedPage,
    Outcome,
    PageResult,
    VariantArtifact,
    Verdict,
)
from panelworks.domain.stages import STAGES, StageName
from panelworks.page.engine import get_engine
from panelworks.telemetry import measure_stage, trace_stage

StageTasks = Mapping[StageName, Task[..., Any]]
FallbackFlow = Callable[[IngestedPage, QualityReport, Verdict, bool], Awaitable[FallbackResult]]


class PrefectAttempts:
    """The stages of one attempt, as task runs. Implements `panelworks.page.pipeline.AttemptStages`.

    Tasks are called in the flow's own thread: only there can Prefect stop one that takes too long.
    """

    def __init__(self, tasks: StageTasks, *, refresh: bool) -> None:
        """`refresh` computes every stage, also those whose results Prefect has cached."""
        self.settings = get_engine().settings
        self._tasks, self._refresh = tasks, refresh
        self.judged: list[Judged] = []
        """Each attempt with its verdict."""

    async def enhance(self, page: IngestedPage, plan: Plan) -> Attempt:
        attempt: Attempt = self._run("enhance", page, plan)
        return attempt

    async def validate(self, page: IngestedPage, before: QualityReport, attempt: Attempt) -> Verdict:
        verdict: Verdict = self._run("validate", page, before, attempt)
        self.judged.append((attempt, verdict))
        return verdict

    def _run(self, name: StageName, *arguments: Any) -> Any:
        """Run the task of a stage and report its progress."""
        stage, task = STAGES[name], self._tasks[name]
        if stage.task is not None and stage.task.identity is not None:
            task = task.with_options(refresh_cache=self._refresh)
        with measure_stage(name):
            if stage.reports_itself:
                return task(*arguments)
            with report_stage(name):
                return task(*arguments)


class PrefectStages(PrefectAttempts):
    """All stages of a page. Implements `panelworks.page.pipeline.Stages`."""

    def __init__(self, tasks: StageTasks, fall_back: FallbackFlow, *, refresh: bool) -> None:
        super().__init__(tasks, refresh=refresh)
        self._fall_back = fall_back

    async def ingest(self, request: PageRequest) -> IngestedPage:
        page: IngestedPage = self._run("ingest", request)
        return page

    async def recall(self, page: IngestedPage) -> Outcome | None:
        with trace_stage("recall"), report_stage("recall"):
            return get_engine().recall(page)

    async def publish_preview(self, request: PageRequest, page: IngestedPage) -> None:
        """Not a task, as `record`: clients see the preview before the next stage begins."""
        with trace_stage("preview"):
            preview = get_engine().publish_preview(request, page)
        if preview is not None:
            emit_preview(request, page, preview)

    @contextmanager
    def hold_lease(self, page: IngestedPage) -> Iterator[bool]:
        """The wait for another worker is reported: the run has not stalled."""
        with trace_stage("wait"), report_stage("wait"):
            lease = get_engine().hold_lease(page)
            waited = lease.__enter__()
        with ExitStack() as stack:
            stack.push(lease.__exit__)
            yield waited

    async def assess(self, page: IngestedPage) -> QualityReport:
        report: QualityReport = self._run("assess", page)
        return report

    async def fall_back(self, page: IngestedPage, before: QualityReport, failed: Verdict) -> FallbackResult:
        with measure_stage("fallback"), report_stage("fallback"):
            return await self._fall_back(page, before, failed, self._refresh)

    async def make_variants(
        self, master: ArtifactRef, specs: tuple[VariantSpec, ...]
    ) -> tuple[VariantArtifact, ...]:
        variants: tuple[VariantArtifact, ...] = self._run("variants", master, specs)
        return variants

    async def remember(self, page: IngestedPage, outcome: Outcome) -> None:
        get_engine().remember(page, outcome)

    async def publish(
        self, request: PageRequest, page: IngestedPage, outcome: Outcome, *, cached: bool
    ) -> PageResult:
        result: PageResult = self._run("publish", request, page, outcome, cached)
        return result

    async def record(self, request: PageRequest, result: PageResult) -> None:
        """Not a task: it has nothing to cache, and its retries need no row in the UI."""
        with trace_stage("record"), report_stage("record"):
            await retry_transient(lambda: get_engine().record(request, result))
