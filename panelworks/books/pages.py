"""One page of a book: recognised, computed, or kept as it is."""

from panelworks import pictures
from panelworks.books.binding import cut_page
from panelworks.books.metadata import xmp_packet
from panelworks.domain.books import BookOptions, PageDone, PageSpec, PageState, PageToDo
from panelworks.domain.fields import digest_of
from panelworks.domain.plan import Plan, Route
from panelworks.domain.request import PageRequest
from panelworks.domain.result import (
    ArtifactRef,
    Attempt,
    ErrorInfo,
    IngestedPage,
    Outcome,
    PageResult,
    VariantArtifact,
)
from panelworks.errors import ObjectMissing, PanelworksError
from panelworks.page import pipeline
from panelworks.page.direct import DirectStages, complete
from panelworks.page.engine import Destination, Engine
from panelworks.pictures import MEDIA_TYPES, fit_size
from panelworks.progress import ignore_progress
from panelworks.quality import QualityReport
from panelworks.sources.fetch import Fetched, safe_stem

_STATES: dict[Route, PageState] = {
    "upscaled": "enhanced",
    "good_quality": "good",
    "couldn't_upscale": "unimproved",
}


def page_to_do(engine: Engine, index: int, name: str, data: bytes, options: BookOptions) -> PageToDo:
    """The work on a page, by its header alone.

    Raises:
        Rejected: it is no picture that we read.
    """
    header = pictures.read_header(data, engine.settings)
    fetched = Fetched(data, safe_stem(name), name)
    page = engine.page_of(fetched, header, options.for_page((header.width, header.height)))
    spec = options.spec_for(header.format)
    key = digest_of({"page": page.content_key, "spec": spec.model_dump()})
    return PageToDo(index=index, name=name, page=page.model_copy(update={"content_key": key}), spec=spec)


def recalled(engine: Engine, todo: PageToDo) -> PageDone | None:
    """The page as it was computed before, in this book or another one."""
    outcome = engine.recall(todo.page)
    return None if outcome is None else _done(todo, outcome, cached=True)


def compute(engine: Engine, todo: PageToDo, *, force: bool = False) -> PageDone:
    """The page, computed; one that cannot be is kept as it is, and says why."""
    try:
        return _computed(engine, todo, "memory", force=force)
    except ObjectMissing:  # many large pages at once, and its pixels had to go
        return _computed(engine, todo, "store", force=force)


def kept(
    engine: Engine, index: int, name: str, data: bytes, error: PanelworksError, todo: PageToDo | None = None
) -> PageDone:
    """A page that failed: the book gets its own bytes."""
    original = engine.store.put_file(data)
    return PageDone(
        index=index,
        name=name,
        state="failed",
        source_sha256=original.sha256,
        source_bytes=len(data),
        source_size=(todo.page.source.width, todo.page.source.height) if todo else None,
        content_key=todo.page.content_key if todo else None,
        original=original,
        error=ErrorInfo.of(error),
    )


def unreadable(index: int, name: str, error: PanelworksError) -> PageDone:
    """A page that the archive does not give."""
    return PageDone(index=index, name=name, state="unreadable", error=ErrorInfo.of(error))


def _computed(engine: Engine, todo: PageToDo, destination: Destination, *, force: bool) -> PageDone:
    stages = _PageStages(engine, todo, destination)
    request = PageRequest(source=todo.name, out="", job_id=todo.page.content_key, force=force)
    try:
        complete(pipeline.enhance_page(request, stages))
    finally:
        engine.forget(stages.pictures)
    if stages.outcome is None:
        raise RuntimeError("the story of a page ended without an outcome")
    return _done(todo, stages.outcome, cached=stages.known)


def _done(todo: PageToDo, outcome: Outcome, *, cached: bool) -> PageDone:
    source = todo.page.source
    return PageDone(
        index=todo.index,
        name=todo.name,
        state=_state_of(outcome),
        source_sha256=source.sha256,
        source_bytes=source.bytes,
        source_size=(source.width, source.height),
        content_key=todo.page.content_key,
        outcome=outcome,
        wanted=todo.spec.format,
        parts=outcome.variants,
        notes=(*todo.page.downloads, *outcome.notes, *(() if cached else outcome.downloads)),
        cached=cached,
    )


def _state_of(outcome: Outcome) -> PageState:
    kept = outcome.route == "couldn't_upscale"
    return "damaged" if kept and outcome.before.damage is not None else _STATES[outcome.route]


class _PageStages(DirectStages):
    """The stages of a page whose only variant is what its book gets of it."""

    def __init__(self, engine: Engine, todo: PageToDo, destination: Destination) -> None:
        super().__init__(engine)
        self._todo = todo
        self._destination: Destination = destination
        self._plans: dict[str, Plan] = {}
        self._notes: tuple[str, ...] = ()
        self.pictures: list[ArtifactRef | None] = [todo.page.original]
        """What was decoded or drawn on the way."""
        self.outcome: Outcome | None = None
        self.known = False

    async def ingest(self, request: PageRequest) -> IngestedPage:
        return self._todo.page

    async def assess(self, page: IngestedPage) -> QualityReport:
        """Books ingest a page by its header alone: what decoding it shows is noted here."""
        self._notes = self._engine.notes_on(page.original)
        return await super().assess(page)

    async def enhance(self, page: IngestedPage, plan: Plan) -> Attempt:
        attempt = self._engine.enhance(page, plan, ignore_progress, destination=self._destination)
        self._plans.setdefault(attempt.master.sha256, attempt.plan)
        self.pictures += [attempt.master, attempt.reference, attempt.faithful]
        return attempt

    async def make_variants(self, master: ArtifactRef, preset: str) -> tuple[VariantArtifact, ...]:
        return _parts(self._engine, self._todo, master, self._plans.get(master.sha256))

    async def remember(self, page: IngestedPage, outcome: Outcome) -> None:
        """The master was only a step: what is remembered is what the book gets."""
        self._engine.remember(
            page,
            outcome.model_copy(
                update={"master": outcome.variants[0].artifact, "notes": (*self._notes, *outcome.notes)}
            ),
        )

    async def publish(
        self, request: PageRequest, page: IngestedPage, outcome: Outcome, *, cached: bool
    ) -> PageResult:
        if not cached:
            outcome = outcome.model_copy(update={"notes": (*self._notes, *outcome.notes)})
        self.outcome, self.known = outcome, cached
        return PageResult(job_id=request.job_id, status="success")

    async def record(self, request: PageRequest, result: PageResult) -> None:
        """The book is recorded as a whole."""


def _parts(
    engine: Engine, todo: PageToDo, master: ArtifactRef, plan: Plan | None
) -> tuple[VariantArtifact, ...]:
    """What the book gets: the source's own bytes where nothing changed, else the page as its spec says."""
    spec, source = todo.spec, todo.page.source
    picture = engine.picture(master)
    untouched = master.sha256 == todo.page.original.sha256
    if untouched and spec.format == source.format and _fits(spec, picture.size):
        return (VariantArtifact(name="page", format=spec.format, artifact=todo.page.original),)
    xmp = xmp_packet(plan, todo.page.content_key) if spec.xmp else None
    return tuple(
        VariantArtifact(
            name=f"page-{number}",
            format=part.format,
            artifact=engine.store.put(part.data, MEDIA_TYPES[part.format], part.size),
        )
        for number, part in enumerate(cut_page(picture, spec, xmp), start=1)
    )


def _fits(spec: PageSpec, size: tuple[int, int]) -> bool:
    return fit_size(size, (spec.width, spec.height)) == size
