"""Direct mode: the pipeline of a page as plain calls, without a server."""

import logging
import uuid
from collections.abc import Coroutine
from contextlib import AbstractContextManager
from pathlib import Path

from panelworks.domain.formats import VariantSpec
from panelworks.domain.options import EnhanceOptions
from panelworks.domain.plan import Plan
from panelworks.domain.request import Origin, PageRequest
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
from panelworks.errors import ObjectMissing, PanelworksError, as_known_error
from panelworks.logs import log_ids
from panelworks.page import pipeline
from panelworks.page.engine import Engine, get_engine
from panelworks.progress import Progress, ignore_progress
from panelworks.quality import QualityReport
from panelworks.settings import get_settings
from panelworks.sources.fetch import inline
from panelworks.telemetry import trace_span, trace_stage
from panelworks.text import path_to_address

logger = logging.getLogger(__name__)


class DirectStages:
    """The stages as calls into an engine."""

    def __init__(self, engine: Engine, progress: Progress = ignore_progress) -> None:
        self.settings = engine.settings
        self._engine = engine
        self._progress = progress

    async def ingest(self, request: PageRequest) -> IngestedPage:
        with trace_stage("ingest"):
            return self._engine.ingest(request)

    async def recall(self, page: IngestedPage) -> Outcome | None:
        with trace_stage("recall"):
            return self._engine.recall(page)

    async def publish_preview(self, request: PageRequest, page: IngestedPage) -> None:
        self._engine.publish_preview(request, page)

    def hold_lease(self, page: IngestedPage) -> AbstractContextManager[bool]:
        return self._engine.hold_lease(page)

    async def assess(self, page: IngestedPage) -> QualityReport:
        with trace_stage("assess"):
            return self._engine.assess(page)

    async def enhance(self, page: IngestedPage, plan: Plan) -> Attempt:
        with trace_stage("enhance"):
            return self._engine.enhance(page, plan, self._progress)

    async def validate(self, page: IngestedPage, before: QualityReport, attempt: Attempt) -> Verdict:
        with trace_stage("validate"):
            return self._engine.validate(page, before, attempt)

    async def fall_back(self, page: IngestedPage, before: QualityReport, failed: Verdict) -> FallbackResult:
        with trace_stage("fallback"):
            return await pipeline.fall_back(page, before, failed, self)

    async def make_variants(
        self, master: ArtifactRef, specs: tuple[VariantSpec, ...]
    ) -> tuple[VariantArtifact, ...]:
        with trace_stage("variants"):
            return self._engine.make_variants(master, specs)

    async def remember(self, page: IngestedPage, outcome: Outcome) -> None:
        self._engine.remember(page, outcome)

    async def publish(
        self, request: PageRequest, page: IngestedPage, outcome: Outcome, *, cached: bool
    ) -> PageResult:
        with trace_stage("publish"):
            return self._engine.publish(request, page, outcome, cached=cached)

    async def record(self, request: PageRequest, result: PageResult) -> None:
        with trace_stage("record"):
            self._engine.record(request, result)


def enhance_directly(
    request: PageRequest, engine: Engine | None = None, progress: Progress = ignore_progress
) -> PageResult:
    """Process one page; every failure becomes a result with an error."""
    try:
        return deliver_directly(request, engine or get_engine(), progress)
    except Exception as error:  # noqa: BLE001 - `deliver_directly` has logged and recorded it
        return pipeline.failed(request, error)


def deliver_directly(
    request: PageRequest, engine: Engine, progress: Progress = ignore_progress
) -> PageResult:
    """Process one page; a failure is recorded, then raised.

    Raises:
        PanelworksError: the page could not be delivered.
    """
    with log_ids(job_id=request.job_id), trace_span("page", job_id=request.job_id) as span:
        try:
            try:
                result = complete(pipeline.enhance_page(request, DirectStages(engine, progress)))
            except ObjectMissing as missing:
                logger.warning("job %s is restarted: %s", request.job_id, missing)
                result = complete(pipeline.enhance_page(request, DirectStages(engine, progress)))
        except Exception as error:
            if as_known_error(error) is None:
                logger.exception("job %s failed unexpectedly", request.job_id)
            record_failure(request, pipeline.failed(request, error), engine)
            raise
        span.set(**result.trace_attributes)
        return result


def complete(pipeline: Coroutine[None, None, PageResult]) -> PageResult:
    """Run a pipeline whose stages never wait. It needs no event loop, so that notebooks can call it."""
    try:
        pipeline.send(None)
    except StopIteration as end:
        result: PageResult = end.value
        return result
    raise RuntimeError("a stage of direct mode awaited something")


def record_failure(request: PageRequest, result: PageResult, engine: Engine) -> None:
    """Record a page that was not delivered; an unavailable ledger is a warning."""
    try:
        engine.record(request, result)
    except PanelworksError as error:
        logger.warning("the failure of job %s was not recorded: %s", request.job_id, error)


def enhance_picture(
    source: str | Path | bytes,
    out: str | Path | None = None,
    *,
    options: EnhanceOptions | None = None,
    force: bool = False,
) -> PageResult:
    """Enhance one page and deliver it.

    Args:
        source: A path, an address (`https://`, `s3://`, `file://`, `data:`) or the file's bytes.
        out: Folder or `s3://bucket/prefix` to deliver to; `Settings.default_out` when None.
        options: What to do; the settings decide when None.
        force: Compute again even when the result is known.

    Returns:
        The result; look at `status`, and at `error` when it is `"error"`.
    """
    settings = get_settings()
    address = inline(source) if isinstance(source, bytes) else path_to_address(source)
    return enhance_directly(
        PageRequest(
            source=address,
            out=path_to_address(out) if out is not None else settings.default_out,
            options=options or EnhanceOptions(),
            job_id=new_job_id(),
            origin=Origin(tool="library"),
            force=force,
        )
    )


def new_job_id() -> str:
    """A new identity for one page or book."""
    return str(uuid.uuid4())
