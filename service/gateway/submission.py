"""From a request to an answer: the known result at once, else a job."""

import asyncio
import hashlib
import time
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from panelworks import pictures
from panelworks.direct import new_job_id
from panelworks.engine import Engine
from panelworks.errors import Transient
from panelworks.options import EnhanceOptions
from panelworks.records import IngestedPage, Origin, PageRequest, PageResult
from panelworks.settings import Settings
from panelworks.sources.stored import stored_source
from service.gateway.jobs import Jobs, status_of
from service.gateway.shapes import ProcessRequest, UploadFields

_FRESH_SECONDS: Final = 60.0
"""For how long a result is answered without looking again whether its files are still there."""
_KEPT: Final = 2000
_FETCHES: Final = 4
"""Pages that are fetched at the same time."""
_FETCH_SECONDS: Final = 20.0
"""After which fetching is left to the worker."""


@dataclass(frozen=True)
class Upload:
    """A file that came with a request."""

    data: bytes
    filename: str


@dataclass(frozen=True)
class Known:
    """The answer is there."""

    result: PageResult


@dataclass(frozen=True)
class Started:
    """A job has been started, or one that does the same is under way."""

    job_id: str


class Submission:
    """Finds known results, and starts each job once."""

    def __init__(self, engine: Engine, jobs: Jobs) -> None:
        self._engine = engine
        self._jobs = jobs
        self._fresh: OrderedDict[str, tuple[float, PageResult]] = OrderedDict()
        self._under_way: OrderedDict[str, str] = OrderedDict()
        self._starting = asyncio.Lock()
        self._fetching = ThreadPoolExecutor(_FETCHES, "panelworks-fetch")

    async def submit(self, asked: ProcessRequest) -> Known | Started:
        """Answer a request that names its source."""
        request = page_request(asked.source, asked, self._engine.settings)
        return await self._answer(request, None, asked)

    async def submit_upload(self, upload: Upload, fields: UploadFields) -> Known | Started:
        """Answer a request that brings its picture."""
        source = await asyncio.to_thread(name_upload, upload, self._engine.settings)
        request = page_request(source, fields, self._engine.settings)
        return await self._answer(request, upload.data, fields)

    async def again(self, source: str, out: str, fields: UploadFields) -> Known | Started:
        """Process a stored original once more."""
        request = page_request(source, fields, self._engine.settings).model_copy(update={"out": out})
        return await self._answer(request, None, fields)

    async def _answer(
        self, request: PageRequest, upload: bytes | None, fields: UploadFields
    ) -> Known | Started:
        try:
            page = await self._identified(request, upload)
        except (Transient, TimeoutError):
            if upload is not None:
                raise
            return Started(str(await self._jobs.submit(request, fields.priority)))  # the worker tries again
        if request.source.startswith("data:"):  # by name from here on: Prefect takes parameters up to 512 KiB
            request = request.model_copy(update={"source": kept_source(page)})
        known = None if request.force else await asyncio.to_thread(self._known, request, page)
        if known is not None:
            return Known(known)
        return Started(await self._start(request, page, fields))

    async def _identified(self, request: PageRequest, upload: bytes | None) -> IngestedPage:
        """The page of a request. Slow servers occupy threads of their own, and those not for long."""
        if not request.source.startswith(("https:", "http:")):
            return await asyncio.to_thread(self._engine.identify, request, upload)
        fetched = asyncio.get_running_loop().run_in_executor(self._fetching, self._engine.identify, request)
        return await asyncio.wait_for(fetched, _FETCH_SECONDS)

    async def _start(self, request: PageRequest, page: IngestedPage, fields: UploadFields) -> str:
        """Start the job, unless the same one is under way; a forced one, or one with a callback, always."""
        if request.force or request.origin.callback:
            return str(await self._jobs.submit(request, fields.priority))
        place = f"{page.content_key} {request.out}"
        async with self._starting:
            job_id = self._under_way.get(place)
            if job_id is None or not await self._is_under_way(job_id):
                job_id = str(await self._jobs.submit(request, fields.priority))
            self._under_way[place] = job_id
            while len(self._under_way) > _KEPT:
                self._under_way.popitem(last=False)
        return job_id

    async def _is_under_way(self, job_id: str) -> bool:
        run = await self._jobs.read(UUID(job_id))
        return run is not None and status_of(run) in ("queued", "running")

    def ended(self, job_id: str) -> None:
        """A job has ended: the next one who asks for the same, and finds no result, starts another."""
        for place in [place for place, job in self._under_way.items() if job == job_id]:
            del self._under_way[place]

    def _known(self, request: PageRequest, page: IngestedPage) -> PageResult | None:
        """The result that was delivered to the same place before, or of work that was done before."""
        place = f"{page.content_key} {request.out}"
        checked, result = self._fresh.get(place, (0.0, None))
        if result is not None and time.monotonic() - checked < _FRESH_SECONDS:
            return result
        try:
            outcome = self._engine.recall(page)
            if outcome is None:
                return None
            before = self._engine.jobs.result_of(page.content_key, request.out)
            result = self._engine.publish(request, page, outcome, cached=True)
        except Transient:
            return None
        if before is not None:
            result = result.model_copy(update={"job_id": before.job_id, "seconds": before.seconds})
        else:
            self._engine.record(request, result)
        self._fresh[place] = (time.monotonic(), result)
        while len(self._fresh) > _KEPT:
            self._fresh.popitem(last=False)
        return result


def kept_source(page: IngestedPage) -> str:
    """The source that names what the store keeps of a page."""
    return stored_source(page.source.sha256, page.source.format, page.stem)


def name_upload(upload: Upload, settings: Settings) -> str:
    """The source that names an upload.

    Raises:
        Rejected: it is no picture that we take.
    """
    header = pictures.read_header(upload.data, settings)
    return stored_source(hashlib.sha256(upload.data).hexdigest(), header.format, upload.filename)


def page_request(source: str, fields: UploadFields, settings: Settings) -> PageRequest:
    """The engine's request for what came over HTTP."""
    options = fields.options
    if fields.preset:
        options = EnhanceOptions.model_validate({**options.model_dump(), "preset": fields.preset})
    return PageRequest(
        source=source,
        out=fields.out or settings.default_out,
        options=options,
        job_id=new_job_id(),
        force=fields.force,
        origin=Origin(
            tool=fields.tool,
            panel_id=fields.panel_id,
            comic_id=fields.comic_id,
            callback=fields.callback,
            metadata=fields.metadata,
            door="http",
        ),
    )
