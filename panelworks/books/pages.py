"""One page of a book: found in the cache, computed, or copied unchanged."""

from panelworks import pictures
from panelworks.books.binding import cut_page
from panelworks.books.metadata import xmp_packet
from panelworks.domain.books import BookRequest, PageDone, PageSpec, PageState, PageToDo
from panelworks.domain.fields import digest_of
from panelworks.domain.formats import VariantSpec
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
from panelworks.page.engine import Engine
from panelworks.page.stored_pictures import Destination
from panelworks.pictures import MEDIA_TYPES, fit_size
from panelworks.progress import ignore_progress
from panelworks.quality import QualityReport
from panelworks.sources.fetch import Fetched, safe_stem

_STATES: dict[Route, PageState] = {
    "upscaled": "enhanced",
    "good_quality": "good",
    "couldn't_upscale": "unimproved",
}


def ingest_page(engine: Engine, index: int, name: str, data: bytes, book: BookRequest) -> PageToDo:
    """Store and plan a page of a book; only its header is read.

    Raises:
        Rejected: it is not a picture of a supported format.
    """
    options = book.options
    header = pictures.read_header(data, engine.settings)
    fetched = Fetched(data, safe_stem(name), name)
    page = engine.page_of(
        fetched,
        header,
        options.for_page((header.width, header.height)),
        path=f"{book.source}/{name}",
        series=book.series,
    )
    spec = options.spec_for(header.format)
    key = digest_of({"page": page.content_key, "spec": spec.model_dump()})
    return PageToDo(index=index, name=name, page=page.model_copy(update={"content_key": key}), spec=spec)


def recall_page(engine: Engine, todo: PageToDo) -> PageDone | None:
    """The cached result of a page, from this book or another one; None if there is none."""
    outcome = engine.recall(todo.page)
    return None if outcome is None else _done(todo, outcome, cached=True)


def compute(engine: Engine, todo: PageToDo, *, force: bool = False) -> PageDone:
    """Compute a page. A page that cannot be enhanced keeps its original picture, with the reason."""
    try:
        return _computed(engine, todo, "memory", force=force)
    except ObjectMissing:  # its pixels were removed from memory by other large pages
        return _computed(engine, todo, "store", force=force)


def keep_original(
    engine: Engine, index: int, name: str, data: bytes, error: PanelworksError, todo: PageToDo | None = None
) -> PageDone:
    """Store the original bytes of a page that failed; the book contains these."""
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


def unreadable_page(index: int, name: str, error: PanelworksError) -> PageDone:
    """A page that cannot be read from the archive."""
    return PageDone(index=index, name=name, state="unreadable", error=ErrorInfo.of(error))


def _computed(engine: Engine, todo: PageToDo, destination: Destination, *, force: bool) -> PageDone:
    stages = _PageStages(engine, todo, destination)
    request = PageRequest(source=todo.name, out="", job_id=todo.page.content_key, force=force)
    try:
        complete(pipeline.enhance_page(request, stages))
    finally:
        engine.forget(stages.pictures)
    if stages.outcome is None:
        raise RuntimeError("the pipeline of a page ended without an outcome")
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
    """The stages of a page whose only variant is its entry in the book."""

    def __init__(self, engine: Engine, todo: PageToDo, destination: Destination) -> None:
        super().__init__(engine)
        self._todo = todo
        self._destination: Destination = destination
        self._plans: dict[str, Plan] = {}
        self._notes: tuple[str, ...] = ()
        self.pictures: list[ArtifactRef | None] = [todo.page.original]
        """All decoded and computed pictures."""
        self.outcome: Outcome | None = None
        self.known = False

    async def ingest(self, request: PageRequest) -> IngestedPage:
        return self._todo.page

    async def assess(self, page: IngestedPage) -> QualityReport:
        """Assess the page, and collect the notes from decoding it: `ingest_page` reads only its header."""
        self._notes = self._engine.notes_on(page.original)
        return self._engine.assess(page, [(self._todo.spec.width, self._todo.spec.height)])

    async def enhance(self, page: IngestedPage, plan: Plan) -> Attempt:
        attempt = self._engine.enhance(page, plan, ignore_progress, destination=self._destination)
        self._plans.setdefault(attempt.master.sha256, attempt.plan)
        self.pictures += [attempt.master, attempt.reference, attempt.faithful]
        return attempt

    async def make_variants(
        self, master: ArtifactRef, specs: tuple[VariantSpec, ...]
    ) -> tuple[VariantArtifact, ...]:
        return _parts(self._engine, self._todo, master, self._plans.get(master.sha256))

    async def remember(self, page: IngestedPage, outcome: Outcome) -> None:
        """Cache the entry of the book in place of the master, which is not used again."""
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
    """The entries of the book: the original bytes if nothing changed, otherwise the page in the format of its spec."""
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
