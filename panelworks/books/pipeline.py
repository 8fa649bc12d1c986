"""The pipeline of a book: read its pages, find or compute their results, bind and record the book. Defined once.

A `PageRunner` computes the pages: in threads of this process, or as tasks of an orchestrator.
"""

import logging
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import PurePosixPath
from typing import Final, Protocol

from panelworks import pictures
from panelworks.archives.member import ARCHIVES, Archive
from panelworks.archives.sandbox import FATAL
from panelworks.books import publishing
from panelworks.books.metadata import COMIC_INFO, created, is_comic_info
from panelworks.books.pages import (
    compute,
    ingest_page,
    keep_original,
    recall_page,
    unreadable_page,
)
from panelworks.books.register import BookRegister
from panelworks.books.review import review_of
from panelworks.books.shelf import open_book
from panelworks.domain.books import BookRequest, BookResult, PageDone, PageState, PageToDo, Refusal
from panelworks.domain.fields import digest_of
from panelworks.domain.result import ArtifactRef, ErrorInfo
from panelworks.errors import (
    Misconfigured,
    ObjectMissing,
    PanelworksError,
    Rejected,
    Transient,
    as_known_error,
    as_unexpected_error,
)
from panelworks.page.engine import Engine
from panelworks.page.rules import rules_of
from panelworks.pictures import PICTURE_SUFFIXES, count_tiff_pages, is_picture, missing_tiff_pages, split_tiff
from panelworks.steps.tone import measure_tone_points, share_tone_points
from panelworks.storage.headers import public_url

logger = logging.getLogger(__name__)

MAX_TIFF_PAGES: Final = 1000
"""Pages of one TIFF file that are read at most."""
_MAX_NAMED: Final = 50
"""Skipped files that a note names."""
_TONE_SAMPLE_PAGES: Final = 12
"""Pages of a book whose paper and ink are measured."""
_MAX_TIFF_GROWTH: Final = 2
"""Largest ratio of the bytes of all pages to the bytes of their TIFF file."""


class PendingPage(Protocol):
    """A page that is being computed."""

    def result(self) -> PageDone:
        """Wait for the page and return it."""
        ...


class PageRunner(Protocol):
    """How the pages of a book are computed."""

    window: int
    """Pages that may be computed at once: enough to keep the network busy, few enough for memory."""

    def submit(self, todo: PageToDo, *, force: bool) -> PendingPage:
        """Start a page."""
        ...

    def pages_found(self, count: int) -> None:
        """The number of pages that the listing shows."""
        ...

    def page_ended(self, page: PageDone) -> None:
        """A page has ended."""
        ...

    def must_release_device(self) -> bool:
        """Must the device be released? Then the running pages are finished first."""
        ...

    def release_device(self) -> None:
        """Release the device until the next page starts; no page runs now."""
        ...


def enhance_book(request: BookRequest, engine: Engine, runner: PageRunner) -> BookResult:
    """Process one book, from its archive to the finished CBZ.

    Raises:
        PanelworksError: the book could not be opened or written.
    """
    register = BookRegister(engine.settings)
    request = register.with_series_rule(request)
    known = None if request.force else register.known(request)
    if known is not None:
        return known
    with engine.leases.holding(f"book-{digest_of(request.out)}") as waited:
        known = register.known(request) if waited and not request.force else None
        if known is not None:
            return known
        try:
            return _process(request, engine, runner, register)
        except ObjectMissing as missing:
            logger.warning("book %s is restarted: %s", request.source, missing)
            return _process(request, engine, runner, register)


def _process(request: BookRequest, engine: Engine, runner: PageRunner, register: BookRegister) -> BookResult:
    began = time.perf_counter()
    settings = engine.settings
    if request.options.name_encoding:
        settings = settings.model_copy(update={"name_encoding": request.options.name_encoding})
    with open_book(request.source, settings) as archive:
        publishing.refuse_to_overwrite(request, engine.settings)
        register.refuse_other_book(request)
        pages, extras, lost = _pages(archive, _share_tones(archive, request, engine), engine, runner)
        nested = [name for name, _ in extras if PurePosixPath(name).suffix.lower() in ARCHIVES]
        if not pages:
            inside = " Archives inside it are not opened; unpack it first." if nested else ""
            raise Rejected("no_pages", f"There is no picture in this book.{inside}")
        if any(page.error is not None and page.error.code in FATAL for page in pages):
            register.enter_costly(request)
        extras = [*extras, *_created_metadata(archive, extras, engine)]
        _refuse_without_readable_page(pages)
        review = review_of(request, pages, engine.settings, register.result_at(request.out))
        waits_at = None if review is None else publishing.waiting_place(request.out)
        try:
            finished = publishing.publish(request, pages, extras, engine, waits_at or request.out)
        except ObjectMissing:
            _check_stored(pages, engine)
            raise
    refused = (*archive.refused, *lost)
    states = _count_states(pages)
    result = BookResult(
        source=request.source,
        out=request.out,
        status="incomplete" if refused or states.get("unreadable") else "success",
        pages=len(pages),
        states=states,
        cached=sum(page.cached for page in pages),
        bytes_before=sum(page.source_bytes for page in pages),
        bytes_after=finished.bytes,
        seconds=round(time.perf_counter() - began, 3),
        notes=(
            *finished.notes,
            *(
                f"{name}: an archive inside the book was copied and not opened [nested_archive]"
                for name in nested
            ),
            *archive.notes,
            *_notes_on_skipped(archive.skipped),
        ),
        refused=refused,
        review=review,
        waits_at=waits_at,
        url=public_url(request.out, engine.settings) if waits_at is None else None,
    )
    engine.ledger.append_book(request, pages, result, engine.settings)
    register.enter(request, result)
    return result


def _share_tones(archive: Archive, book: BookRequest, engine: Engine) -> BookRequest:
    """The book with the paper and ink of a sample of its pages, if its pages may be treated with `levels`."""
    options = book.options.page
    wanted = options.levels or any(rule.then.levels for rule in rules_of(options, engine.settings))
    if not wanted or options.tone_points is not None:
        return book
    indices = [member.index for member in archive.members if is_page(member.name)]
    sample = indices[:: max(1, -(-len(indices) // _TONE_SAMPLE_PAGES))]
    points = []
    for _, content in archive.read(sample):
        with suppress(Rejected):
            if isinstance(content, bytes):
                points.append(measure_tone_points(pictures.decode(content, engine.settings).picture))
    page = options.model_copy(update={"tone_points": share_tone_points(points)})
    return book.model_copy(update={"options": book.options.model_copy(update={"page": page})})


def _check_stored(pages: list[PageDone], engine: Engine) -> None:
    """Read all pages, so that the store detects all damaged ones, not only the first."""
    for artifact in (one for page in pages for one in publishing.contents_of(page)):
        with suppress(ObjectMissing):
            engine.store.get(artifact)


def _refuse_without_readable_page(pages: list[PageDone]) -> None:
    """Refuse to publish a book none of whose pages could be read or processed.

    Raises:
        Rejected: `no_readable_page`, with the reason of the first page.
    """
    if any(page.outcome is not None for page in pages):
        return
    first = next(page for page in pages if page.error is not None)
    reason = f"{first.error.message} [{first.error.code}]" if first.error else ""
    raise Rejected(
        "no_readable_page", f"None of the {len(pages)} pages can be read. The first, {first.name}: {reason}"
    )


def _notes_on_skipped(names: tuple[str, ...]) -> list[str]:
    """One note that lists the system files of the source; they are not part of the book."""
    if not names:
        return []
    more = f" and {len(names) - _MAX_NAMED} more" if len(names) > _MAX_NAMED else ""
    return [f"{len(names)} system files were skipped: {', '.join(names[:_MAX_NAMED])}{more}"]


def _created_metadata(
    archive: Archive, extras: Sequence[tuple[str, ArtifactRef]], engine: Engine
) -> list[tuple[str, ArtifactRef]]:
    """A ComicInfo.xml with the metadata of an EPUB or a PDF, unless the source contains one."""
    data = None if any(is_comic_info(name) for name, _ in extras) else created(archive.info)
    return [] if data is None else [(COMIC_INFO, engine.store.put_file(data))]


def failed(request: BookRequest, error: Exception, engine: Engine) -> BookResult:
    """The result of a book that could not be processed. It is recorded if the ledger is available."""
    known_error = as_known_error(error) or as_unexpected_error(error)
    info = ErrorInfo.of(known_error)
    try:
        if known_error.code in FATAL:
            BookRegister(engine.settings).enter_costly(request)
        engine.ledger.append_failed_book(request, info)
    except PanelworksError as unreachable:
        logger.warning("failure of %s was not recorded: %s", request.source, unreachable)
    return BookResult(source=request.source, out=request.out, status="error", error=info)


def _pages(
    archive: Archive, request: BookRequest, engine: Engine, runner: PageRunner
) -> tuple[list[PageDone], list[tuple[str, ArtifactRef]], list[Refusal]]:
    """All pages in reading order, the other files with their names, and the files that cannot be read."""
    position = {member.index: number for number, member in enumerate(archive.members)}
    runner.pages_found(sum(is_page(member.name) for member in archive.members))
    done: list[PageDone] = []
    extras: list[tuple[str, ArtifactRef]] = []
    lost: list[Refusal] = []
    in_progress: deque[tuple[PageToDo, bytes, PendingPage]] = deque()

    def end(page: PageDone) -> None:
        done.append(page)
        runner.page_ended(page)

    def wait_until(count: int) -> None:
        while len(in_progress) > count:
            end(_wait_for_page(engine, *in_progress.popleft()))

    for member, content in archive.read(position.keys()):
        number = position[member.index]
        if not isinstance(content, bytes):
            if is_page(member.name):
                end(unreadable_page(number, member.name, content))
            else:
                lost.append(Refusal(name=member.name, code=content.code, message=content.message))
            continue
        if not is_page(member.name) and not is_picture(content, engine.settings):
            extras.append((member.name, engine.store.put_file(content)))
            continue
        lost += _missing_pages(member.name, content)
        for part, (name, page) in enumerate(pages_of_file(member.name, content)):
            index = number * MAX_TIFF_PAGES + part
            try:
                todo = ingest_page(engine, index, name, page, request)
            except (Rejected, MemoryError) as error:
                known_error = error if isinstance(error, Rejected) else as_unexpected_error(error)
                end(keep_original(engine, index, name, page, known_error))
                continue
            known = None if request.force else recall_page(engine, todo)
            if known is not None:
                end(known)
                continue
            if runner.must_release_device():
                wait_until(0)
                runner.release_device()
            in_progress.append((todo, page, runner.submit(todo, force=request.force)))
            wait_until(runner.window - 1)
    wait_until(0)
    runner.release_device()
    done.sort(key=lambda page: page.index)
    return [page.model_copy(update={"index": number}) for number, page in enumerate(done)], extras, lost


def pages_of_file(name: str, data: bytes) -> Iterator[tuple[str, bytes]]:
    """Name and bytes of each page in a file: several for a multi-page TIFF, otherwise the file itself."""
    pages = _tiff_pages(data)
    if len(pages) < 2:
        yield name, data
        return
    stem, dot, extension = name.rpartition(".")
    stem, extension = (stem, f".{extension}") if dot and stem else (name, "")
    for number, page in enumerate(pages, start=1):
        yield f"{stem}-page-{number:0{max(2, len(str(len(pages))))}d}{extension}", page


def _missing_pages(name: str, data: bytes) -> list[Refusal]:
    """The pages that are missing in a damaged or truncated TIFF."""
    try:
        reason = missing_tiff_pages(data, MAX_TIFF_PAGES)
    except Rejected:
        return []  # decoding the file as one page reports the error
    return (
        []
        if reason is None
        else [Refusal(name=name, code="truncated", message=f"Pages are missing: {reason}.")]
    )


def _tiff_pages(data: bytes) -> list[bytes]:
    """The pages of a multi-page TIFF; empty for other files, and for a TIFF whose pages share their data."""
    try:
        if count_tiff_pages(data, MAX_TIFF_PAGES) < 2:
            return []
        pages, total_bytes = [], 0
        for page in split_tiff(data, MAX_TIFF_PAGES):
            pages.append(page)
            total_bytes += len(page)
            if total_bytes > _MAX_TIFF_GROWTH * len(data):
                return []
    except Rejected:
        return []  # decoding the file as one page reports the error
    return pages


def _wait_for_page(engine: Engine, todo: PageToDo, content: bytes, pending: PendingPage) -> PageDone:
    """Wait for a page. A page that could not be computed keeps its original bytes."""
    try:
        return pending.result()
    except (Transient, Misconfigured):
        raise
    except ObjectMissing as missing:
        logger.warning("page %s is computed again: %s", todo.name, missing)
        return _compute_again(engine, todo, content)
    except PanelworksError as error:
        return keep_original(engine, todo.index, todo.name, content, error, todo)
    except Exception as error:
        if (
            known := as_known_error(error)
        ) is not None:  # a missing optional dependency: no page could be computed
            raise known from error
        logger.exception("page %s failed unexpectedly", todo.name)
        return keep_original(engine, todo.index, todo.name, content, as_unexpected_error(error), todo)


def _compute_again(engine: Engine, todo: PageToDo, content: bytes) -> PageDone:
    """Store the original of a page again after it was damaged, and compute the page."""
    source = todo.page.source
    engine.store.put(content, todo.page.original.media_type, (source.width, source.height))
    try:
        return compute(engine, todo)
    except (Transient, Misconfigured):
        raise
    except PanelworksError as error:
        return keep_original(engine, todo.index, todo.name, content, error, todo)


def is_page(name: str) -> bool:
    """Does the name have the extension of a picture?"""
    return "." + name.rpartition(".")[2].lower() in PICTURE_SUFFIXES


def _count_states(pages: list[PageDone]) -> dict[PageState, int]:
    counted: dict[PageState, int] = {}
    for page in pages:
        counted[page.state] = counted.get(page.state, 0) + 1
    return counted


def pages_of(archive: Archive) -> Iterator[str]:
    """Names of the pages in the listing."""
    return (member.name for member in archive.members if is_page(member.name))
