"""The register of finished books: a backfill skips them without opening them."""

from collections.abc import Sequence
from typing import Final

from pydantic import ValidationError

from panelworks.books import publishing
from panelworks.domain.books import BookRequest, BookResult
from panelworks.domain.fields import Frozen, digest_of
from panelworks.errors import Misconfigured
from panelworks.page.planning import plan_for
from panelworks.page.rules import rules_of
from panelworks.page.series import SeriesRules
from panelworks.settings import ReviewPolicy, Settings
from panelworks.steps.catalogue import take_inventory
from panelworks.storage import open_folder
from panelworks.storage.location import Location
from panelworks.version import ENGINE_VERSION

_COSTLY_PREFIX: Final = "_books/costly/"


class _Entry(Frozen):
    """A finished book."""

    identity: str
    version: str
    """Of the published file: it may be removed or replaced later."""
    result: BookResult


class BookRegister:
    """Finished books by destination, stored in the folder of the ledger."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._folder = open_folder(settings.ledger_location, settings)
        self._series = SeriesRules(open_folder(settings.store_location, settings))

    def with_series_rule(self, request: BookRequest) -> BookRequest:
        """The request with what the rule of the book's series states; a change of the rule does not change it any more.

        Raises:
            Transient, Misconfigured: the store cannot be read.
        """
        page, _ = self._series.complete(request.options.page, None, request.series)
        options = request.options.model_copy(update={"page": page})
        return request.model_copy(update={"options": options})

    def known(self, request: BookRequest) -> BookResult | None:
        """The result of the book, if the same source with the same options was finished and the file still exists."""
        entry = self._entry(request.out)
        if (
            entry is None
            or entry.identity != self._identify(request)
            or not self._is_current(entry)
            or (entry.result.awaits_review and review_policy(request, self._settings) == "never")
        ):
            return None
        return entry.result.model_copy(update={"skipped": True})

    def result_at(self, out: str) -> BookResult | None:
        """The result of the book with the destination `out`, as it was recorded last; None if there is none."""
        entry = self._entry(out)
        return None if entry is None else entry.result

    def is_unchanged(self, result: BookResult) -> bool:
        """Is the file of a book still the one that was recorded?

        Raises:
            Transient: the bucket does not answer.
        """
        entry = self._entry(result.out)
        return entry is not None and entry.version == self._version(entry.result.place)

    def is_published(self, out: str) -> bool:
        """Is there a finished book of ours with this destination that does not wait for review?

        Raises:
            Transient: the bucket does not answer.
        """
        return self._entry(out) is not None and self._version(out) is not None

    def refuse_other_book(self, request: BookRequest) -> None:
        """Refuse to replace the finished book of another source. A source that was moved no longer exists at its old place.

        Raises:
            Misconfigured: `exists`. Transient: the bucket does not answer.
        """
        entry = self._entry(request.out)
        if (
            entry is None
            or entry.result.source == request.source
            or self._version(entry.result.place) is None
        ):
            return
        other = Location.parse(entry.result.source)
        if other.absolute() != Location.parse(request.source).absolute() and self._exists(other):
            raise Misconfigured(
                "exists", f"{request.out} is the finished book of {other}; choose another destination."
            )

    def _exists(self, source: Location) -> bool:
        if not source.is_in_bucket:
            return source.path.exists()
        parent, name = source.parent_and_name()
        folder = open_folder(parent, self._settings)
        return folder.exists(name) or next(iter(folder.files(f"{name}/")), None) is not None

    def enter(self, request: BookRequest, result: BookResult) -> None:
        """Record a book that was published or waits for review. The file of an earlier review is removed.

        Raises:
            Misconfigured, Transient: the folder is not usable.
        """
        before = self._entry(request.out)
        self._write(self._identify(request), result)
        if before is not None and before.result.waits_at not in (None, result.waits_at):
            publishing.remove(before.result.place, self._settings)

    def enter_decision(self, result: BookResult) -> None:
        """Record what a person decided on the book.

        Raises:
            Misconfigured, Transient: the folder is not usable.
        """
        before = self._entry(result.out)
        self._write(before.identity if before is not None else "", result)

    def _write(self, identity: str, result: BookResult) -> None:
        entry = _Entry(identity=identity, version=self._version(result.place) or "", result=result)
        self._folder.write(_name(result.out), entry.model_dump_json().encode(), "application/json")

    def _entry(self, out: str) -> _Entry | None:
        data = self._folder.read(_name(out))
        try:
            return _Entry.model_validate_json(data) if data else None
        except ValidationError:
            return None

    def _is_current(self, entry: _Entry) -> bool:
        """Is the file still the one that was recorded? A rejected book has none."""
        return entry.result.was_rejected or entry.version == self._version(entry.result.place)

    def enter_costly(self, request: BookRequest) -> None:
        """Record a book that exceeded a limit or crashed its parser. It is processed last, in this run and later ones.

        Raises:
            Misconfigured, Transient: the folder is not usable.
        """
        self._folder.write(_costly_name(request.source), b"{}", "application/json")

    def is_costly(self, request: BookRequest) -> bool:
        """Did the book exceed a limit, or crash its parser, in this run or an earlier one?

        Raises:
            Transient: the bucket does not answer.
        """
        return self._folder.info(_costly_name(request.source)) is not None

    def costly_last(self, requests: Sequence[BookRequest]) -> list[BookRequest]:
        """The requests in their order, with those of costly books at the end."""
        names = {file.name for file in self._folder.files(_COSTLY_PREFIX)}
        return sorted(requests, key=lambda request: _costly_name(request.source) in names)

    def _identify(self, request: BookRequest) -> str:
        return _identity(self.with_series_rule(request), self._settings)

    def _version(self, out: str) -> str | None:
        parent, name = Location.parse(out).parent_and_name()
        found = open_folder(parent, self._settings).info(name)
        return None if found is None else f"{found.bytes}-{found.version}"


def review_policy(request: BookRequest, settings: Settings) -> ReviewPolicy:
    """Which books wait for the review of a person: as the request says, or the settings."""
    return request.options.page.review or settings.review


def _identity(request: BookRequest, settings: Settings) -> str:
    """Identity of a book's result, as far as it is known without opening the book."""
    wanted = request.options.page
    page = wanted.resolve(settings)
    steps = plan_for((1, 1), page, take_inventory(settings, page.model)).steps
    return digest_of(
        {
            "engine": ENGINE_VERSION,
            "source": [request.source, request.fingerprint],
            "book": request.options.model_dump(mode="json", exclude={"page"}),
            "page": page.model_dump(mode="json"),
            # The scale of each page follows from these.
            "scale": wanted.scale or settings.upscale_scale,
            "longest_side": wanted.longest_side,
            "rules": [
                rule.model_dump(mode="json", exclude={"name"})
                for rule in rules_of(request.options.page, settings)
            ],
            "weights": [step.digest for step in steps],
            "pdf_dpi": settings.pdf_dpi,
        }
    )


def _costly_name(source: str) -> str:
    return f"{_COSTLY_PREFIX}{digest_of(source)[:40]}.json"


def _name(out: str) -> str:
    return f"_books/{digest_of(out)[:40]}.json"
