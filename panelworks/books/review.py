"""Reviews of books: a book that a person has to see waits in the folder `review`; approval moves it to its destination,
rejection removes it. Its source is not touched in either case."""

import logging
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from panelworks.books import publishing
from panelworks.books.register import BookRegister, review_policy
from panelworks.domain.books import BookRequest, BookResult, PageDone
from panelworks.domain.fields import digest_of
from panelworks.domain.result import Review
from panelworks.errors import Rejected
from panelworks.page.decisions import Decision, DecisionStore, StoredDecision
from panelworks.page.delivery import doubts_of
from panelworks.page.engine import Engine
from panelworks.page.review import decided
from panelworks.settings import Settings
from panelworks.storage.headers import public_url

logger = logging.getLogger(__name__)

_PREFIX: Final = "reviews/books/"
_MAX_NAMED_PAGES: Final = 20
"""Doubtful pages that the reasons of a review name."""


class BookDecision(StoredDecision):
    """A decision with its book."""

    out: str


def review_of(
    request: BookRequest, pages: Sequence[PageDone], settings: Settings, before: BookResult | None = None
) -> Review | None:
    """The review that a book needs under the policy of its request, or of the settings; None if it is published at once.

    A book that replaces one that a person approved, the result `before`, waits unless the request itself says never.
    """
    policy = review_policy(request, settings)
    reasons = [
        f"{page.name}: {reason}" for page in pages for reason in _doubts_of(page, settings.target_score)
    ]
    decided_before = before.review if before is not None else None
    if (
        decided_before is not None
        and decided_before.state == "approved"
        and request.options.page.review != "never"
    ):
        policy = "always"
        reasons.insert(0, f"it replaces a book that {decided_before.decided_by or 'somebody'} approved")
    if policy == "never" or (policy == "doubtful" and not reasons):
        return None
    if len(reasons) > _MAX_NAMED_PAGES:
        reasons = [*reasons[:_MAX_NAMED_PAGES], f"and {len(reasons) - _MAX_NAMED_PAGES} more"]
    return Review(
        requested_at=datetime.now(UTC),
        reasons=tuple(reasons) or ("all books are reviewed (option review: always)",),
    )


def _doubts_of(page: PageDone, target: float) -> tuple[str, ...]:
    """What makes a page doubtful, for people."""
    if page.outcome is None:
        what = "the archive lost it" if page.state == "unreadable" else "the original was kept"
        return (f"{what}: {page.error.message}" if page.error else what,)
    return doubts_of(page.outcome, target)


class BookReviews:
    """Decisions on the books of an engine's register."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._register = BookRegister(engine.settings)
        self.decisions = DecisionStore(engine.settings, _PREFIX, BookDecision, "book")
        """What was decided, for those who report it."""

    def decide(self, out: str, decision: Decision) -> BookResult:
        """Publish or reject the book with the destination `out`; returns its result. Deciding again in the same way changes
        nothing.

        Raises:
            Misconfigured: `exists`, another file is at the destination; nothing is decided then.
            Rejected: `unknown_book`; `not_reviewed`, it was published without a review; `already_reviewed`, the decision was
                another one; `not_found`, its file was removed.
            Transient, Misconfigured: store, ledger or destination are unavailable; the call can be repeated.
        """
        result = self._register.result_at(out)
        if result is None:
            raise Rejected("unknown_book", "There is no such book.")
        review = result.review
        if review is None:
            raise Rejected("not_reviewed", "This book was published without a review.")
        if decision.state == "approved" and result.awaits_review:
            publishing.refuse_to_overwrite(BookRequest(source=result.source, out=out), self._engine.settings)
        stored = BookDecision(out=out, decision=decision)
        identity = digest_of([out, review.requested_at.isoformat()])
        decision = self.decisions.store(identity, stored)
        if review.state != "pending":
            return result
        self.decisions.mark_unreported(identity, stored.model_copy(update={"decision": decision}))
        return self._carry_out(result, review, decision)

    def _carry_out(self, result: BookResult, review: Review, decision: Decision) -> BookResult:
        settings = self._engine.settings
        if decision.state == "approved":
            publishing.move(result.place, result.out, settings)
            self._engine.purges.request([result.out])
        else:
            publishing.remove(result.place, settings)
        url = public_url(result.out, settings) if decision.state == "approved" else None
        result = result.model_copy(update={"review": decided(review, decision), "waits_at": None, "url": url})
        self._engine.ledger.append_book_decision(result)
        self._register.enter_decision(result)
        logger.info("book %s: %s by=%s", decision.state, result.out, decision.by)
        return result
