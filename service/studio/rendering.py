"""HTML of the studio: templates, their filters, and the headers of every response."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, unquote, urlencode

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import HTMLResponse

from panelworks.domain.books import book_id
from panelworks.version import __version__
from service.gateway.access import Caller
from service.gateway.book_index import BookRow
from service.gateway.sessions import form_token, session_of, set_session
from service.gateway.state import GatewayState

FOLDER: Final = Path(__file__).parent
SECURITY_HEADERS: Final = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; connect-src 'self'; img-src 'self';"
        " style-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}
ROUTE_NAMES: Final = {
    "upscaled": "enhanced",
    "good_quality": "already good",
    "couldn't_upscale": "original kept",
}
"""What the routes of pages are called on the screen."""
REVIEW_NAMES: Final = {"pending": "needs review", "approved": "approved", "rejected": "rejected"}
NOTICES: Final = {
    "approved": "{page} approved and published.",
    "rejected": "{page} rejected; the original is published.",
    "discarded": "The new result was discarded; nothing changed.",
    "book_approve": "The book was approved and published.",
    "book_reject": "The book was rejected; nothing was published.",
    "used_for_series": "{page} approved and published. The next pages of its series get the same settings.",
    "series_removed": "The rule was removed; it changes no further page.",
    "same": "These options give the result that is already here.",
}
"""What happened before a page was loaded; its address names it."""


def _share(value: float | None) -> str:
    """A score as text: two decimals, or a dash."""
    return "–" if value is None else f"{value:.2f}"


def _age(moment: datetime | None) -> str:
    """How long ago something happened."""
    if moment is None:
        return "–"
    seconds = max(0, int((datetime.now(UTC) - moment).total_seconds()))
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds // length} {unit} ago"
    return f"{seconds} s ago"


def file_name(source: str | None) -> str:
    """The last part of a source's address."""
    name = (source or "").rstrip("/").rpartition("/")[2] or source or "–"
    return unquote(name) if (source or "").startswith(("stored:", "https:", "http:")) else name


def _size(count: int | None) -> str:
    """A number of bytes with its unit."""
    if count is None:
        return "–"
    for unit, length in (("MB", 10**6), ("kB", 10**3)):
        if count >= length:
            return f"{count / length:.1f} {unit}"
    return f"{count} B"


def _parent_name(source: str) -> str:
    """The name of the folder that contains a source."""
    return file_name(source.rstrip("/").rpartition("/")[0])


def _duration(seconds: float) -> str:
    """A time that a computation takes, with its unit."""
    for unit, length in (("days", 86400), ("hours", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"


def book_version(book: BookRow) -> str:
    """Part of the addresses of a book's pictures: browsers keep them until the book is processed again."""
    return "" if book.ended_at is None else f"{book.ended_at.timestamp():.0f}"


def _with_query(given: dict[str, Any], **changes: Any) -> str:
    """A query string of the given fields with some changed; empty ones are left out."""
    merged = {**given, **changes}
    return urlencode({name: value for name, value in merged.items() if value not in (None, "", 0)})


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(FOLDER / "templates"), autoescape=True, trim_blocks=True,
        lstrip_blocks=True, undefined=StrictUndefined,
    )  # fmt: skip
    environment.filters |= {
        "share": _share, "age": _age, "duration": _duration, "parent_name": _parent_name, "book_version": book_version, "book_id": book_id, "file_name": file_name, "size": _size,
        "review_name": lambda state: REVIEW_NAMES.get(state, "published"),
        "path": lambda text: quote(text, safe=""), "route_name": lambda route: ROUTE_NAMES.get(route, route or "failed"),
    }  # fmt: skip
    environment.globals |= {"version": __version__, "with_query": _with_query}
    return environment


_TEMPLATES: Final = _environment()


def render_fragment(template: str, **values: Any) -> str:
    """A part of a page."""
    return _TEMPLATES.get_template(template).render(**values)


def _notice_of(request: Request, state: GatewayState) -> str:
    """What the address says happened before."""
    given = request.query_params
    job_id, count = given.get("of", ""), given.get("count", "")
    page = file_name(state.results.name_of(job_id)) if job_id else ""
    if count.isdigit():
        page = "1 page" if count == "1" else f"{int(count[:9]):,} pages"
    return NOTICES.get(given.get("notice", ""), "").format(page=page or "The page")


def seen_by(caller: Caller) -> str | None:
    """The owner whose jobs a caller sees; None: all."""
    return None if caller.admin else caller.owner


def render_page(request: Request, template: str, status: int = 200, **values: Any) -> HTMLResponse:
    """A whole page, with the token that its forms need."""
    session, is_new = session_of(request)
    state: GatewayState = request.app.state.gateway
    caller: Caller | None = getattr(request.state, "caller", None)
    html = render_fragment(
        template, token=form_token(session), caller=caller, has_keys=bool(state.access.keys),
        here=request.url.path, is_form=request.method == "POST", in_review=request.query_params.get("review") == "pending",
        books_pending=state.books.count_pending() if caller and caller.admin else 0,
        pending=state.results.count_pending(seen_by(caller)) if caller else 0,
        notice=_notice_of(request, state), **values,
    )  # fmt: skip
    response = HTMLResponse(html, status, headers={**SECURITY_HEADERS, "Cache-Control": "no-store"})
    if is_new:
        set_session(request, response, session)
    return response
