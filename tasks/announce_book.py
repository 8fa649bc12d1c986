"""What a run of a book tells the world: the event `comic.book.enhanced`."""

import logging
from typing import Final

from prefect import runtime
from prefect.events import emit_event

from panelworks.domain.books import BookRequest, BookResult
from panelworks.domain.fields import digest_of

logger = logging.getLogger(__name__)

BOOK_ENHANCED: Final = "comic.book.enhanced"


def announce_book(request: BookRequest, result: BookResult) -> None:
    """Tell that a book is done; it is, whether that can be told or not."""
    try:
        emit_event(
            BOOK_ENHANCED,
            resource={
                "prefect.resource.id": f"comic.book.{digest_of(request.out)[:24]}",
                "comic.flow-run-id": str(runtime.flow_run.id),
            },
            payload={"run_id": request.run_id, "result": result.model_dump(mode="json")},
        )
    except Exception as error:  # noqa: BLE001 - an event that cannot be told must not cost the book
        logger.warning("the event of %s was not sent (%s)", request.out, type(error).__name__)
