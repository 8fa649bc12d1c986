"""The register: which books are done, so that a backfill passes them by without opening them."""

from collections.abc import Sequence
from typing import Final

from pydantic import ValidationError

from panelworks.domain.books import BookRequest, BookResult
from panelworks.domain.fields import Frozen, digest_of
from panelworks.page.planning import plan_for
from panelworks.settings import Settings
from panelworks.steps.catalogue import take_inventory
from panelworks.storage import open_folder
from panelworks.storage.location import Location
from panelworks.version import ENGINE_VERSION

_COSTLY: Final = "_books/costly/"


class _Entry(Frozen):
    """A finished book."""

    identity: str
    version: str
    """Of the file that was published: it may have been removed or replaced since."""
    result: BookResult


class BookRegister:
    """Finished books by their place, beside the ledger."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._folder = open_folder(settings.ledger_location, settings)

    def known(self, request: BookRequest) -> BookResult | None:
        """How the book ended, if it was done from the same source with the same options, and still lies there."""
        data = self._folder.read(_name(request.out))
        try:
            entry = _Entry.model_validate_json(data) if data else None
        except ValidationError:
            return None
        if (
            entry is None
            or entry.identity != _identity(request, self._settings)
            or entry.version != self._version(request.out)
        ):
            return None
        return entry.result.model_copy(update={"skipped": True})

    def enter(self, request: BookRequest, result: BookResult) -> None:
        """Remember a book that was just published.

        Raises:
            Misconfigured, Transient: as the folder says.
        """
        entry = _Entry(
            identity=_identity(request, self._settings),
            version=self._version(request.out) or "",
            result=result,
        )
        self._folder.write(_name(request.out), entry.model_dump_json().encode(), "application/json")

    def enter_costly(self, request: BookRequest) -> None:
        """Remember a book that exceeded a limit or crashed its parser: it is processed last, in this run and later.

        Raises:
            Misconfigured, Transient: as the folder says.
        """
        self._folder.write(_costly_name(request.source), b"{}", "application/json")

    def is_costly(self, request: BookRequest) -> bool:
        """Did the book exceed a limit, or crash its parser, in this run or an earlier one?

        Raises:
            Transient: the bucket did not answer.
        """
        return self._folder.info(_costly_name(request.source)) is not None

    def costly_last(self, requests: Sequence[BookRequest]) -> list[BookRequest]:
        """The requests in their order, those of books that were entered as costly behind the others."""
        names = {file.name for file in self._folder.files(_COSTLY)}
        return sorted(requests, key=lambda request: _costly_name(request.source) in names)

    def _version(self, out: str) -> str | None:
        parent, name = Location.parse(out).parent_and_name()
        found = open_folder(parent, self._settings).info(name)
        return None if found is None else f"{found.bytes}-{found.version}"


def _identity(request: BookRequest, settings: Settings) -> str:
    """What decides a book's bytes, as far as it is known without opening it."""
    page = request.options.page.resolve(settings)
    steps = plan_for((1, 1), page, take_inventory(settings, page.model)).steps
    return digest_of(
        {
            "engine": ENGINE_VERSION,
            "source": [request.source, request.fingerprint],
            "book": request.options.model_dump(mode="json", exclude={"page"}),
            "page": page.model_dump(mode="json"),
            "weights": [step.digest for step in steps],
            "pdf_dpi": settings.pdf_dpi,
        }
    )


def _costly_name(source: str) -> str:
    return f"{_COSTLY}{digest_of(source)[:40]}.json"


def _name(out: str) -> str:
    return f"_books/{digest_of(out)[:40]}.json"
