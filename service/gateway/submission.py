"""From a request to a response: the known result, or else a job."""

import asyncio
import hashlib
import time
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

from panelworks import pictures
from panelworks.domain.options import EnhanceOptions
from panelworks.domain.request import JobKey, Origin, PageRequest
from panelworks.domain.result import IngestedPage, JobRecord, PageResult
from panelworks.errors import Rejected, Transient
from panelworks.logs import add_log_ids
from panelworks.page.callbacks import check_callback
from panelworks.page.delivery import review_of
from panelworks.page.direct import new_job_id
from panelworks.page.engine import Engine
from panelworks.page.entry_points import admit
from panelworks.settings import ReviewPolicy, Settings
from panelworks.sources.stored import (
    parse_stored,
    stored_original,
    stored_page,
    stored_source,
    upload_missing,
)
from panelworks.telemetry import current_span, current_traceparent
from panelworks.video.moment import names_video
from service.gateway.access import Caller
from service.gateway.bodies import Upload
from service.gateway.event_stream import EventStream
from service.gateway.jobs import Jobs, status_of
from service.gateway.metrics import Metrics
from service.gateway.outbox import Outbox
from service.gateway.schemas import ProcessRequest, ReEnhanceRequest, UploadFields

_FRESH_SECONDS: Final = 60.0
"""For how long a result is returned without checking again that its files exist."""
_MAX_KNOWN_RESULTS: Final = 2000
_MAX_AGE_IN_PROGRESS: Final = timedelta(seconds=10)
"""Age up to which an accepted job counts as in progress without reading its run."""
_APPEARANCE_SECONDS: Final = 0.5
_APPEARANCE_CHECKS: Final = 5
_Place = tuple[str | None, str, str, ReviewPolicy]
"""Owner, content key, destination, and which pages a person reviews."""
_FETCHES: Final = 4
"""Pages that are downloaded at the same time."""
_FETCH_SECONDS: Final = 20.0
"""After which the worker downloads the page instead."""


@dataclass(frozen=True)
class Known:
    """The result is known."""

    result: PageResult


@dataclass(frozen=True)
class Started:
    """A job was accepted now, or one for the same work was accepted before."""

    key: JobKey


class Submission:
    """Finds known results, and starts each job once."""

    def __init__(
        self, engine: Engine, jobs: Jobs, event_stream: EventStream, outbox: Outbox, metrics: Metrics
    ) -> None:
        self._engine = engine
        self._jobs = jobs
        self._event_stream = event_stream
        self._outbox = outbox
        self._metrics = metrics
        self._fresh: OrderedDict[_Place, tuple[float, PageResult]] = OrderedDict()
        self._starting = asyncio.Lock()
        self._fetching = ThreadPoolExecutor(_FETCHES, "panelworks-fetch")

    async def submit(self, body: ProcessRequest, caller: Caller) -> Known | Started:
        """Respond to a request that names its source.

        Raises:
            Rejected: `not_found`, it names an upload of another key, or one that does not exist.
        """
        await self.check_source(body.source, caller)
        request = make_page_request(body.source, body, self._engine.settings, caller)
        return await self._answer(request, None, body)

    async def submit_upload(self, upload: Upload, fields: UploadFields, caller: Caller) -> Known | Started:
        """Respond to a request with an uploaded picture."""
        source = await asyncio.to_thread(source_of_upload, upload, self._engine.settings)
        request = make_page_request(source, fields, self._engine.settings, caller)
        return await self._answer(request, upload.data, fields)

    async def submit_again(
        self, record: JobRecord, again: ReEnhanceRequest, caller: Caller
    ) -> Known | Started:
        """Process the stored original of a finished job again; the caller may read that job.

        Raises:
            Rejected: `unknown_job`, the job ended before its page was read.
        """
        if record.result.source is None:
            raise Rejected("unknown_job", "That job ended before its page could be read.")
        origin = record.request.origin
        fields = UploadFields(
            options=again.options,
            priority=again.priority,
            force=again.force,
            callback=again.callback,
            tool=origin.tool,
            panel_id=origin.panel_id,
            comic_id=origin.comic_id,
            metadata=origin.metadata,
        )
        source = stored_original(record.result.source)
        request = make_page_request(source, fields, self._engine.settings, caller)
        request = request.model_copy(update={"out": record.request.out})
        return await self._answer(request, None, fields)

    async def check_source(self, source: str, caller: Caller) -> None:
        """Refuse the uploads of other keys exactly as those that do not exist.

        Raises:
            Rejected: `not_found`, `bad_address`.
        """
        if not source.startswith("stored:") or caller.admin or caller.owner is None:
            return
        digest, _, _ = parse_stored(source)
        if not await asyncio.to_thread(self._engine.accepted.may_name_upload, caller.owner, digest):
            raise upload_missing()

    async def _answer(
        self, request: PageRequest, upload: bytes | None, fields: UploadFields
    ) -> Known | Started:
        try:
            page = await self._identify(request, upload)
        except (Transient, TimeoutError):
            if upload is not None:
                raise
            await self._outbox.accept(request, fields.priority)  # the worker downloads it
            return Started(request.key)
        if upload is not None or request.source.startswith("data:"):
            grant = self._engine.accepted.grant_upload
            await asyncio.to_thread(grant, request.origin.owner, page.source.sha256)
        if request.source.startswith("data:"):  # named from here on: Prefect accepts parameters up to 512 KiB
            request = request.model_copy(update={"source": stored_source_of(page)})
        again = (
            request.force or request.origin.callback is not None
        )  # a run calls back, also with a known result
        known = None if again else await asyncio.to_thread(self._find_known, request, page)
        if known is not None:
            self._metrics.count_recalled(known, request.origin.tool)
            return Known(known)
        return Started(await self._start(request, page, fields))

    async def _identify(self, request: PageRequest, upload: bytes | None) -> IngestedPage:
        """The page of a request. Downloads have threads of their own, since servers may be slow.

        Raises:
            Transient: `slow_source`, the source is a video; a worker chooses its frame.
        """
        if names_video(request.source):
            admit(request, self._engine.settings)
            raise Transient("slow_source", "A worker chooses the frame of the video.")
        if not request.source.startswith(("https:", "http:")):
            return await asyncio.to_thread(self._engine.identify, request, upload)
        fetched = asyncio.get_running_loop().run_in_executor(self._fetching, self._engine.identify, request)
        return await asyncio.wait_for(fetched, _FETCH_SECONDS)

    async def _start(self, request: PageRequest, page: IngestedPage, fields: UploadFields) -> JobKey:
        """Start the job, unless the same one of this key is in progress; a forced one, or one with a callback, is always started."""
        if not request.force and not request.origin.callback:
            async with self._starting:
                other = await asyncio.to_thread(self._reserve, request, page)
                if other is not None and await self._in_progress(other):
                    return other
                if other is not None:
                    reserve = self._engine.accepted.reserve_content
                    await asyncio.to_thread(reserve, request.key, page.content_key, request.out, replace=True)
                await self._outbox.accept(request, fields.priority)
                return request.key
        await self._outbox.accept(request, fields.priority)
        return request.key

    def _reserve(self, request: PageRequest, page: IngestedPage) -> JobKey | None:
        """Reserve the work and place of a job: None on success, else the job that holds the reservation."""
        accepted = self._engine.accepted
        if accepted.reserve_content(request.key, page.content_key, request.out):
            return None
        return accepted.same_content(request.origin.owner, page.content_key, request.out)

    async def _in_progress(self, key: JobKey) -> bool:
        """Has the job not ended? The runs of jobs that were accepted a moment ago are not read."""
        for _ in range(
            _APPEARANCE_CHECKS
        ):  # another gateway stores the job a moment after it reserved its content
            job = await asyncio.to_thread(self._engine.accepted.find, key)
            if job is not None:
                break
            await asyncio.sleep(_APPEARANCE_SECONDS / _APPEARANCE_CHECKS)
        else:
            return False
        if not job.settled:
            return True
        record = await asyncio.to_thread(self._engine.jobs.job, key)
        if self._event_stream.end_of(key, job.run_id) is not None or record is not None:
            return False
        if datetime.now(UTC) - job.accepted_at < _MAX_AGE_IN_PROGRESS or job.run_id is None:
            return job.run_id is not None
        try:
            run = await self._jobs.read(UUID(job.run_id))
        except Transient:
            return True
        return run is not None and status_of(run) in ("queued", "running")

    def _find_known(self, request: PageRequest, page: IngestedPage) -> PageResult | None:
        """The result that this key received for the same place before, or that of earlier work."""
        policy = request.options.review or self._engine.settings.review
        place = (request.origin.owner, page.content_key, request.out, policy)
        checked, result = self._fresh.get(place, (0.0, None))
        if result is not None and time.monotonic() - checked < _FRESH_SECONDS:
            return result
        try:
            outcome = self._engine.recall(page)
            if outcome is None:
                return None
            earlier = self._find_earlier(request, page)
            if earlier is not None and earlier.review is not None:
                wanted = review_of(request.options, outcome, self._engine.settings)
                if wanted is not None and earlier.review.state != "rejected":
                    return earlier
                earlier = None
            result = self._engine.publish(
                request if earlier is None else _without_review(request), page, outcome, cached=True
            )
        except Transient:
            return None
        if earlier is not None:
            result = result.model_copy(update={"job_id": earlier.job_id, "seconds": earlier.seconds})
        else:
            self._engine.record(request, result)
            self._engine.accepted.reserve_content(request.key, page.content_key, request.out, replace=True)
        if not result.awaits_review:
            self._fresh[place] = (time.monotonic(), result)
        while len(self._fresh) > _MAX_KNOWN_RESULTS:
            self._fresh.popitem(last=False)
        return result

    def _find_earlier(self, request: PageRequest, page: IngestedPage) -> PageResult | None:
        """The result of an earlier job of the same key for the same work and place."""
        owner = request.origin.owner
        delivered = self._engine.jobs.result_of(page.content_key, request.out)
        named = self._engine.accepted.same_content(owner, page.content_key, request.out)
        for key in (named, JobKey(owner, delivered.job_id) if delivered else None):
            record = self._engine.jobs.job(key) if key is not None else None
            if record is not None and record.result.content_key == page.content_key:
                return record.result
        return None


def _without_review(request: PageRequest) -> PageRequest:
    """A request for a page that was published before."""
    return request.model_copy(update={"options": request.options.model_copy(update={"review": "never"})})


def stored_source_of(page: IngestedPage) -> str:
    """The source that names the stored original of a page."""
    return stored_page(page.source.sha256, page.source.format, page.stem)


def source_of_upload(upload: Upload, settings: Settings) -> str:
    """The source that names an upload.

    Raises:
        Rejected: it is not a picture in a supported format.
    """
    header = pictures.read_header(upload.data, settings)
    return stored_source(hashlib.sha256(upload.data).hexdigest(), header.format, upload.filename)


def name_job(job_id: str) -> None:
    """Add the id of a job to the span of the HTTP request and to the lines that are logged for it."""
    add_log_ids(job_id=job_id)
    current_span().set(job_id=job_id)


def make_page_request(source: str, fields: UploadFields, settings: Settings, caller: Caller) -> PageRequest:
    """The request for a page that came over HTTP.

    Raises:
        Rejected, UnsafeSource: its callback could never be delivered.
    """
    check_callback(fields.callback, settings)
    options = fields.options
    if fields.preset:
        options = EnhanceOptions.model_validate({**options.model_dump(), "preset": fields.preset})
    request = PageRequest(
        source=source,
        out=fields.out or settings.default_out,
        options=options,
        job_id=new_job_id(),
        force=fields.force,
        origin=Origin.of_client(
            fields, owner=caller.owner, entry_point="http", traceparent=current_traceparent()
        ),
    )
    name_job(request.job_id)
    return request
