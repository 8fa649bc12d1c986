"""The Prefect conductor: the stages of a page as tasks, the fallback as a subflow."""

import tasks.assess
import tasks.enhance
import tasks.ingest
import tasks.make_variants
import tasks.publish
import tasks.record
import tasks.validate
from panelworks.engine import get_engine
from panelworks.quality import QualityReport
from panelworks.records import (
    ArtifactRef,
    Attempt,
    IngestedPage,
    Outcome,
    PageRequest,
    PageResult,
    Plan,
    Rescue,
    VariantArtifact,
    Verdict,
)


class PrefectStages:
    """The stages as task runs of the flow that is running.

    Tasks are called on the flow's own thread: only there can Prefect end one that takes too long.
    """

    def __init__(self, *, refresh: bool) -> None:
        """`refresh` computes every stage anew, whatever Prefect remembers of it."""
        self.settings = get_engine().settings
        self._refresh = refresh

    async def ingest(self, request: PageRequest) -> IngestedPage:
        return tasks.ingest.ingest(request)

    async def recall(self, page: IngestedPage) -> Outcome | None:
        return get_engine().recall(page)

    async def assess(self, page: IngestedPage) -> QualityReport:
        return tasks.assess.assess.with_options(refresh_cache=self._refresh)(page)

    async def enhance(self, page: IngestedPage, plan: Plan) -> Attempt:
        return tasks.enhance.enhance.with_options(refresh_cache=self._refresh)(page, plan)

    async def validate(self, page: IngestedPage, before: QualityReport, attempt: Attempt) -> Verdict:
        return tasks.validate.validate.with_options(refresh_cache=self._refresh)(page, before, attempt)

    async def fall_back(self, page: IngestedPage, before: QualityReport, reason: str) -> Rescue:
        from flows.fall_back import fall_back

        return await fall_back(page, before, reason, self._refresh)

    async def make_variants(self, master: ArtifactRef, preset: str) -> tuple[VariantArtifact, ...]:
        return tasks.make_variants.make_variants.with_options(refresh_cache=self._refresh)(master, preset)

    async def remember(self, page: IngestedPage, outcome: Outcome) -> None:
        get_engine().remember(page, outcome)

    async def publish(
        self, request: PageRequest, page: IngestedPage, outcome: Outcome, *, cached: bool
    ) -> PageResult:
        return tasks.publish.publish(request, page, outcome, cached)

    async def record(self, request: PageRequest, result: PageResult) -> None:
        tasks.record.record(request, result)
