"""Books: the library, a book as a contact sheet, one of its pages, and the decision on a book that waits for review."""

from typing import Annotated, Final, Literal
from urllib.parse import urlencode

from fastapi import APIRouter, Form, Request, Response

from panelworks.page.views import TILE_PIXELS, count_levels
from service.gateway import books as api
from service.gateway.access import Admin
from service.gateway.book_index import BookQuery, BookState
from service.gateway.books import BookDecisionRequest, BookId, Offset
from service.gateway.results import Place
from service.gateway.state import State
from service.studio.callers import StudioRoute, go_to
from service.studio.rendering import book_version, render_page

router = APIRouter(route_class=StudioRoute, include_in_schema=False)
STATE_NAMES: Final[dict[BookState, str]] = {
    "review": "needs review",
    "failed": "failed",
    "running": "running",
    "waiting": "waiting",
    "new": "not processed",
    "done": "finished",
    "rejected": "rejected",
}
"""What the states of books are called on the screen, in the order of the list."""
PAGE_STATE_NAMES: Final = {
    "enhanced": "enhanced",
    "good": "already good",
    "unimproved": "original kept: nothing improved it",
    "damaged": "original kept: its data is damaged",
    "failed": "original kept: it could not be processed",
    "unreadable": "lost: the archive could not be read",
}


@router.get("/books")
async def library(request: Request, state: State, caller: Admin) -> Response:
    """The books, those that need a person first."""
    given = {
        name: value
        for name, value in request.query_params.items()
        if value and name in BookQuery.model_fields
    }
    query = BookQuery.model_validate(given)
    found = await api.books(state, caller, query)
    return render_page(
        request, "books.html", found=found, query=query, states=STATE_NAMES,
        given=query.model_dump(exclude_none=True, exclude={"limit", "offset"}),
    )  # fmt: skip


@router.get("/books/{book}")
async def book(book: BookId, request: Request, state: State, caller: Admin, offset: Offset = 0) -> Response:
    """A book as a contact sheet, doubtful pages first."""
    found = await api.book(book, state, caller, offset=offset)
    return render_page(
        request, "book.html", found=found, book=found.book, states=STATE_NAMES, version=book_version(found.book),
        doubtful=[page for page in found.pages if page.is_doubtful],
        others=[page for page in found.pages if not page.is_doubtful],
    )  # fmt: skip


@router.get("/books/{book}/pages/{number}")
async def book_page(book: BookId, number: Place, request: Request, state: State, caller: Admin) -> Response:
    """A page of a book: the slider over its source and the result, and what was done."""
    found = await api.book_page(book, number, state, caller)
    size = (found.width, found.height)
    return render_page(
        request, "book_page.html", found=found, book=found.book, row=found.row, page=found.page, number=number,
        size=size, levels=count_levels(size), tile=TILE_PIXELS, page_states=PAGE_STATE_NAMES,
        version=book_version(found.book),
    )  # fmt: skip


@router.post("/studio/books/{book}/decide")
async def decide(
    book: BookId, request: Request, state: State, caller: Admin,
    verdict: Annotated[Literal["approve", "reject"], Form()], comment: Annotated[str, Form()] = "",
) -> Response:  # fmt: skip
    """Approve or reject a whole book."""
    body = BookDecisionRequest(comment=comment.strip() or None)
    if verdict == "approve":
        await api.approve(book, body, state, caller)
    else:
        await api.reject(book, body, state, caller)
    return go_to(request, f"/books/{book}?{urlencode({'notice': f'book_{verdict}'})}")
