"""Reviewing pages: approve and reject, one page or several, and the choice between two results of a page."""

from typing import Annotated, Final, Literal
from urllib.parse import parse_qs, quote, urlencode

from fastapi import APIRouter, Form, Request, Response

from panelworks.errors import PanelworksError, Rejected
from service.gateway.access import By, Caller
from service.gateway.answers import Owner, record_of
from service.gateway.problems import public_message
from service.gateway.result_index import ResultQuery, ResultRow
from service.gateway.reviews import Approval, Rejection, approve, reject
from service.gateway.state import GatewayState, State
from service.studio.callers import StudioRoute, go_to
from service.studio.rendering import file_name, render_page, seen_by

router = APIRouter(route_class=StudioRoute, include_in_schema=False)
Verdict = Literal["approve", "reject"]
_NOTICE_OF: Final[dict[Verdict, str]] = {"approve": "approved", "reject": "rejected"}
Comment = Annotated[str, Form()]


@router.post("/studio/pages/{job_id}/decide")
async def decide(
    job_id: str, request: Request, state: State, caller: By, verdict: Annotated[Verdict, Form()],
    comment: Comment = "", owner: Owner = None,
) -> Response:  # fmt: skip
    """Approve or reject a page, then show the next one that waits, or this page if none does."""
    waiting = await list_pending(state, caller)
    await _decide(job_id, verdict, comment, state, caller, owner)
    place = next((number for number, row in enumerate(waiting) if row.job_id == job_id), 0)
    left = [row for row in waiting if row.job_id != job_id]
    notice = _NOTICE_OF[verdict]
    if not left or request.query_params.get("review") != "pending":
        return go_to(request, page_path(job_id, owner, notice=notice, of=job_id))
    following = left[min(place, len(left) - 1)]
    path = page_path(str(following.job_id), following.owner, review="pending", notice=notice, of=job_id)
    return go_to(request, path)


@router.post("/studio/review")
async def decide_several(
    request: Request, state: State, caller: By, verdict: Annotated[Verdict, Form()],
    jobs: Annotated[list[str] | None, Form()] = None, comment: Comment = "",
) -> Response:  # fmt: skip
    """Approve or reject the pages that were selected in the list; reports those that could not be decided."""
    if not jobs:
        raise Rejected("bad_request", "Select at least one page.")
    problems: list[str] = []
    for entry in jobs:
        fields = {name: values[0] for name, values in parse_qs(entry, keep_blank_values=True).items()}
        job_id = fields.get("job", "")
        try:
            await _decide(job_id, verdict, comment, state, caller, fields.get("owner"))
        except PanelworksError as error:
            problems.append(f"{file_name(state.results.name_of(job_id) or job_id)}: {public_message(error)}")
    notice, decided = _NOTICE_OF[verdict], len(jobs) - len(problems)
    if problems:
        message = " ".join((f"{decided} of {len(jobs)} pages were {notice}.", *problems))
        return render_page(request, "error.html", 409, message=message, back="/results?review=pending")
    return go_to(request, f"/results?review=pending&notice={notice}&count={decided}")


@router.post("/studio/pages/{job_id}/choose")
async def choose(
    job_id: str, request: Request, state: State, caller: By, other: Annotated[str, Form()],
    keep: Annotated[Literal["this", "other"], Form()], owner: Owner = None,
    other_owner: Annotated[str | None, Form()] = None,
) -> Response:  # fmt: skip
    """Keep the result of a job, or that of the job that processed the page again; what is not kept is not published."""
    if keep == "this":
        await discard(other, f"{job_id} was kept", state, caller, other_owner)
        return go_to(request, page_path(job_id, owner, notice="discarded"))
    await publish(other, f"chosen instead of {job_id}", state, caller, other_owner)
    await discard(job_id, f"{other} was chosen", state, caller, owner)
    return go_to(request, page_path(other, other_owner, notice="approved", of=other))


async def _decide(
    job_id: str, verdict: Verdict, comment: str, state: GatewayState, caller: Caller, owner: str | None
) -> None:
    said = comment.strip() or None
    if verdict == "approve":
        await approve(job_id, Approval(comment=said), state, caller, owner)
    else:
        await reject(job_id, Rejection(comment=said), state, caller, owner)


async def publish(job_id: str, reason: str, state: GatewayState, caller: Caller, owner: str | None) -> None:
    """Approve a page if it still waits.

    Raises:
        Rejected: `already_reviewed`, it was rejected.
    """
    review = (await record_of(job_id, caller, owner, state)).result.review
    if review is not None and review.state == "rejected":
        raise Rejected("already_reviewed", "This result was rejected before; process the page again.")
    if review is not None and review.state == "pending":
        await approve(job_id, Approval(comment=reason), state, caller, owner)


async def discard(job_id: str, reason: str, state: GatewayState, caller: Caller, owner: str | None) -> None:
    """Reject a page that still waits, without publishing its original."""
    if (await record_of(job_id, caller, owner, state)).result.awaits_review:
        await reject(job_id, Rejection(comment=reason, publish_original=False), state, caller, owner)


async def list_pending(state: GatewayState, caller: Caller) -> list[ResultRow]:
    """The pages that wait for the review of a caller, the newest first."""
    rows, _ = await state.results.read()
    query, owner = ResultQuery(review="pending"), seen_by(caller)
    return [row for row in query.select(rows) if owner in (None, row.owner)]


def page_path(job_id: str, owner: str | None, **more: str) -> str:
    """The address of a page in the studio."""
    query = urlencode({"owner": owner or "", **more})
    return f"/pages/{quote(job_id, safe='')}?{query}"
