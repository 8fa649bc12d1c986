"""Decisions of people on pages and books.

A decision is stored before it is carried out, so that of two people one decides, and a process that ends in between can
be followed by another one. It stays `unreported` until its event and its callback are on their way.
"""

import logging
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Final, Generic, Literal, TypeVar

from pydantic import AwareDatetime, Field, ValidationError

from panelworks.domain.fields import Frozen
from panelworks.errors import Rejected
from panelworks.settings import Settings
from panelworks.storage import open_folder

logger = logging.getLogger(__name__)

MAX_COMMENT_CHARACTERS: Final = 2000
_JSON: Final = "application/json"


class Decision(Frozen):
    """What a person decided on a page or a book."""

    state: Literal["approved", "rejected"]
    by: str | None = None
    comment: str | None = Field(None, max_length=MAX_COMMENT_CHARACTERS)
    publish_original: bool = True
    """Whether a rejected page is replaced by its original, or nothing is published. Books ignore it."""
    at: AwareDatetime = Field(default_factory=lambda: datetime.now(UTC))


class StoredDecision(Frozen):
    """A decision; subclasses add what it is about."""

    decision: Decision


Stored = TypeVar("Stored", bound=StoredDecision)


class DecisionStore(Generic[Stored]):
    """The decisions in the working store whose names begin with a prefix."""

    def __init__(self, settings: Settings, prefix: str, kind: type[Stored], noun: str) -> None:
        """`prefix` ends with a slash; `kind` is the model of the stored decisions, `noun` what they are about."""
        self._folder = open_folder(settings.store_location, settings)
        self._decided, self._unreported = f"{prefix}decided/", f"{prefix}unreported/"
        self._kind, self._noun = kind, noun

    def store(self, identity: str, stored: Stored) -> Decision:
        """Store a decision; returns the one that was stored before if it is the same.

        Args:
            identity: Of the review; each review is decided once.
            stored: The decision and its subject.

        Raises:
            Rejected: `already_reviewed`, another decision was stored before.
            Transient, Misconfigured: the store is unavailable.
        """
        decision, data = stored.decision, stored.model_dump_json().encode()
        name = f"{self._decided}{identity}.json"
        if self._folder.create(name, data, _JSON):
            return decision
        known = self._read(name)
        if known is None:  # damaged: this decision replaces it
            self._folder.write(name, data, _JSON)
            return decision
        before = known.decision
        if (before.state, before.publish_original) != (decision.state, decision.publish_original):
            raise Rejected(
                "already_reviewed",
                f"{before.by or 'Somebody'} {before.state} this {self._noun} on {before.at:%Y-%m-%d at %H:%M} UTC.",
            )
        return before

    def mark_unreported(self, identity: str, stored: Stored) -> None:
        """The decision is carried out now; its event and its callback follow."""
        self._folder.write(f"{self._unreported}{identity}.json", stored.model_dump_json().encode(), _JSON)

    def unreported(self) -> Iterator[tuple[str, Stored]]:
        """The decisions whose event and callback are not on their way yet, each with its identity."""
        for file in self._folder.files(self._unreported):
            stored = self._read(file.name)
            if stored is not None:
                yield file.name.removeprefix(self._unreported).removesuffix(".json"), stored

    def mark_reported(self, identity: str) -> None:
        """The event and the callback of a decision are on their way."""
        self._folder.delete(f"{self._unreported}{identity}.json")

    def _read(self, name: str) -> Stored | None:
        data = self._folder.read(name)
        try:
            return self._kind.model_validate_json(data) if data is not None else None
        except ValidationError as error:
            logger.error("decision %s is ignored: it is damaged: %d errors", name, error.error_count())
            return None
