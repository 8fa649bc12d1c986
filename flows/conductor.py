"""The Prefect conductor: the stages of a page as tasks, the fallback as a subflow."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import tasks.assess
import tasks.enhance
import tasks.ingest
import tasks.make_variants
import tasks.publish
import tasks.record
import tasks.validate
from flows.showcase import show_verdict
from panelworks.domain.plan import Plan
from panelworks.domain.request import PageRequest
from panelworks.domain.result import (
    ArtifactRef,
    Attempt,
    IngestedPage,
    Outcome,
    PageResult,
    Rescue,
    VariantArtifact,
    Verdict,
)
from panelworks.page.engine import get_engine
from panelworks.quality import QualityReport
from tasks.announce import announced


class PrefectStages:
    """The stages as task runs of the flow that is running.

    Tasks are called on the flow's own thread: only there can Prefect end one that takes too long.
    """

    def __init__(self, *, refresh: bool) -> None:
        """`refresh` computes every stage anew, whatever Prefect remembers of it."""
        self.settings = get_engine().settings
        self._refresh = refresh

    async def ingest(self, request: PageRequest) -> IngestedPage:
        with announced("ingest"):
            return tasks.ingest.ingest(request)

    async def recall(self, page: IngestedPage) -> Outcome | None:
        with announced("recall"):
            return get_engine().recall(page)

    @contextmanager
    def alone(self, page: IngestedPage) -> Iterator[bool]:
        """Waiting for another worker is told, so that nobody takes it for a stalled run."""
        with announced("wait"):
            lease = get_engine().alone(page)
            waited = lease.__enter__()
        with ExitStack() as held:
            held.push(lease.__exit__)
            yield waited

    async def assess(self, page: IngestedPage) -> QualityReport:
        with announced("assess"):
            return tasks.assess.assess.with_options(refresh_cache=self._refresh)(page)

    async def enhance(self, page: IngestedPage, plan: Plan) -> Attempt:
        return tasks.enhance.enhance.with_options(refresh_cache=self._refresh)(page, plan)

    async def validate(self, page: IngestedPage, before: QualityReport, attempt: Attempt) -> Verdict:
        with announced("validate"):
            verdict = tasks.validate.validate.with_options(refresh_cache=self._refresh)(page, before, attempt)
        await show_verdict(attempt, verdict)
        return verdict

    async def fall_back(self, page: IngestedPage, before: QualityReport, failed: Verdict) -> Rescue:
        from flows.fall_back import fall_back

        with announced("fallback"):
            return await fall_back(page, before, failed, self._refresh)

    async def make_variants(self, master: ArtifactRef, preset: str) -> tuple[VariantArtifact, ...]:
        with announced("variants"):
            return tasks.make_variants.make_variants.with_options(refresh_cache=self._refresh)(master, preset)

    async def remember(self, page: IngestedPage, outcome: Outcome) -> None:
        get_engine().remember(page, outcome)

    async def publish(
        self, request: PageRequest, page: IngestedPage, outcome: Outcome, *, cached: bool
    ) -> PageResult:
        with announced("publish"):
            return tasks.publish.publish(request, page, outcome, cached)

    async def record(self, request: PageRequest, result: PageResult) -> None:
        with announced("record"):
            tasks.record.record(request, result)
