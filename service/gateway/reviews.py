"""Reviews: routes that publish or reject the pages that wait for the decision of a person."""

import asyncio

from fastapi import APIRouter
from pydantic import Field

from panelworks.domain.options import EnhanceOptions
from panelworks.domain.request import JobKey
from panelworks.domain.result import JobRecord, Review
from panelworks.errors import Rejected
from panelworks.page.decisions import MAX_COMMENT_CHARACTERS, Decision
from service.gateway.access import By, Caller, GuardedRoute
from service.gateway.answers import Owner, finished, job_of, key_for
from service.gateway.schemas import Job, ReEnhanceRequest, Schema
from service.gateway.state import GatewayState, State
from service.gateway.submission import Known

router = APIRouter(prefix="/api/results", tags=["results"], route_class=GuardedRoute)


class Approval(Schema):
    """Publish a page."""

    comment: str | None = Field(None, max_length=MAX_COMMENT_CHARACTERS)


class Rejection(Schema):
    """Do not publish a page."""

    comment: str | None = Field(None, max_length=MAX_COMMENT_CHARACTERS)
    publish_original: bool = Field(True, description="Deliver the original in its place; otherwise nothing.")
    again: EnhanceOptions | None = Field(
        None, description="Process the page again with these options; nothing is published until then."
    )


class Reviewed(Schema):
    """A page on which a person decided."""

    review: Review
    page: Job
    next: Job | None = Field(None, description="The job that processes the page again.")


@router.post("/{job_id}/approve")
async def approve(job_id: str, body: Approval, state: State, caller: By, owner: Owner = None) -> Reviewed:
    """Publish a page that waits for review. Approving it again changes nothing."""
    decision = Decision(state="approved", by=caller.name, comment=body.comment)
    return await _decide(await key_for(job_id, caller, owner, state), decision, state)


@router.post("/{job_id}/reject")
async def reject(job_id: str, body: Rejection, state: State, caller: By, owner: Owner = None) -> Reviewed:
    """Reject a page that waits for review: its original is published, or the page is processed again, or neither."""
    key = await key_for(job_id, caller, owner, state)
    keeps_original = body.publish_original and body.again is None
    decision = Decision(
        state="rejected", by=caller.name, comment=body.comment, publish_original=keeps_original
    )
    answer = await _decide(key, decision, state)
    if body.again is None:
        return answer
    record = await asyncio.to_thread(state.engine.jobs.job, key)
    return answer if record is None else await _process_again(record, body.again, state, caller)


async def _decide(key: JobKey, decision: Decision, state: GatewayState) -> Reviewed:
    record = await asyncio.to_thread(state.reviews.decide, key, decision)
    state.results.expire()
    await state.decisions.report_soon()
    return await _reviewed(record, state)


async def _reviewed(record: JobRecord, state: GatewayState, next_job: Job | None = None) -> Reviewed:
    if record.result.review is None:
        raise Rejected("not_reviewed", "This page was published without a review.")
    page = await finished(record.result, state.settings)
    return Reviewed(review=record.result.review, page=page, next=next_job)


async def _process_again(
    record: JobRecord, options: EnhanceOptions, state: GatewayState, caller: Caller
) -> Reviewed:
    """Start the job that replaces a rejected page. Its result is reviewed, too, unless the options say otherwise."""
    if options.review is None:
        options = options.model_copy(update={"review": "always"})
    again = ReEnhanceRequest(options=options, callback=record.request.origin.callback)
    answer = await state.submission.submit_again(record, again, caller)
    key = JobKey(caller.owner, answer.result.job_id) if isinstance(answer, Known) else answer.key
    linked = await asyncio.to_thread(state.reviews.set_next_job, record.request.key, key.job_id)
    return await _reviewed(linked or record, state, await job_of(key, state))
