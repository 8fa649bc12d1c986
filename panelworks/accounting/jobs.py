"""Finished jobs, stored for lookup by job id, content key or picture, and one log line for each."""

import logging
import re
from typing import Final, TypeVar

from pydantic import ValidationError

from panelworks.domain.request import JobKey, PageRequest, job_digest
from panelworks.domain.result import REVIEW_FOLDER, JobRecord, PageResult
from panelworks.errors import Rejected
from panelworks.pictures import MEDIA_TYPES
from panelworks.settings import Settings
from panelworks.sources.fetch import shown
from panelworks.sources.stored import stored_original, stored_source
from panelworks.storage.folder import ObjectFolder, name_of, open_folder
from panelworks.storage.headers import headers_of

logger = logging.getLogger(__name__)
_CONTENT_KEY: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)
Record = TypeVar("Record", JobRecord, PageResult)


class FinishedJobs:
    """Stores jobs in the working store and results at their destination."""

    def __init__(self, folder: ObjectFolder, settings: Settings) -> None:
        """`folder` is the working store, which all workers and the gateway share."""
        self._folder = folder
        self._settings = settings

    def deliver_record(self, result: PageResult, out: str) -> None:
        """Write a result to the destination of its variants."""
        if result.content_key is not None:
            folder = open_folder(out, self._settings)
            under = REVIEW_FOLDER if result.awaits_review else ""
            name = f"{under}results/{result.content_key}.json"
            headers = headers_of(name, self._settings, content_key=result.content_key, route=result.route)
            folder.write(name, result.model_dump_json(indent=2).encode(), "application/json", headers)

    def store(self, request: PageRequest, result: PageResult) -> None:
        """Store a job for lookup and log its outcome. A failure does not replace a delivered page."""
        job = JobRecord(request=_replace_data_uri(request, result), result=result)
        before = self.job(request.key) if result.status == "error" else None
        if before is None or before.result.status == "error":
            name = _job_file_name(request.key)
            self._folder.write(name, job.model_dump_json().encode(), "application/json")
        smallest = min((variant.bytes for variant in result.variants), default=None)
        logger.info(
            "page %s: job_id=%s tool=%s source=%s size=%s master=%s route=%s model=%s cached=%s"
            " seconds=%s compression_ratio=%s smallest_variant=%s variants=%s error=%s",
            "delivered" if result.status == "success" else "failed",
            result.job_id,
            request.origin.tool,
            result.source.uri if result.source else shown(request.source)[:80],
            f"{result.source.width}x{result.source.height}" if result.source else None,
            f"{result.master.width}x{result.master.height}" if result.master else None,
            result.route,
            result.model,
            result.cached,
            result.seconds.get("total"),
            result.compression_ratio,
            smallest,
            ",".join(f"{v.name}:{v.width}x{v.height}:{v.format}" for v in result.variants) or None,
            result.error.code if result.error else None,
        )

    def replace(self, record: JobRecord) -> None:
        """Store what became of a finished job later."""
        name = _job_file_name(record.request.key)
        self._folder.write(name, record.model_dump_json().encode(), "application/json")

    def job(self, key: JobKey) -> JobRecord | None:
        """Look up a finished job; None while it runs or if it does not exist."""
        data = self._folder.read(_job_file_name(key))
        return _parse_record(JobRecord, data, f"the record of job {key.job_id}")

    def result_of(self, key: str, out: str) -> PageResult | None:
        """Look up the result that was delivered to `out` for a content key; last the one that waits there for review."""
        folder = open_folder(out, self._settings)
        for under in ("", REVIEW_FOLDER):
            data = folder.read(f"{under}results/{key}.json")
            if data is not None:
                return _parse_record(PageResult, data, f"the result {key}")
        return None

    def original_of(self, of: str, out: str | None, owner: str | None = None) -> tuple[str, str]:
        """The stored original of a page that was processed, and the place to deliver it to.

        Args:
            of: Job id, or content key of a page that was delivered to `out`.
            out: Place to deliver to; None takes the place of the job, else the default.
            owner: API key that the job belongs to; None for jobs of operators and events.

        Raises:
            Rejected: `unknown_job`, or the job failed before its page was read.
        """
        place = out or self._settings.default_out
        job = None if _CONTENT_KEY.fullmatch(of) else self.job(JobKey(owner, of))
        result = job.result if job else self.result_of(of, place)
        if result is None:
            raise Rejected("unknown_job", f"Neither a finished job nor a content key: {of[:80]}.")
        if result.source is None:
            raise Rejected("unknown_job", "That job ended before its page could be read.")
        return stored_original(result.source), out or (job.request.out if job else place)

    def delivered(self, result: PageResult, out: str, name: str) -> tuple[bytes, str]:
        """Read a delivered variant, or the `master`. Return its bytes and media type.

        Raises:
            Rejected: `not_found`, there is no picture of this name, or it was removed from the destination.
        """
        folder, object_name, media_type = self.place_of(result, out, name)
        data = folder.read(object_name)
        if data is None:
            raise Rejected("not_found", "The picture was removed from its destination.")
        return data, media_type

    def place_of(self, result: PageResult, out: str, name: str) -> tuple[ObjectFolder, str, str]:
        """The folder, the name in it and the media type of a delivered variant, or of the `master`.

        Raises:
            Rejected: `not_found`, there is no picture of this name.
        """
        variants = {one.name: (one.uri, MEDIA_TYPES[one.format]) for one in result.variants}
        if result.master is not None:
            variants["master"] = result.master.uri, result.master.media_type
        if name not in variants:
            raise Rejected("not_found", "The page has no picture of this name.")
        uri, media_type = variants[name]
        folder = open_folder(out, self._settings)
        return folder, name_of(uri, folder), media_type


def _parse_record(kind: type[Record], data: bytes | None, what: str) -> Record | None:
    """Parse a record; None if there is none or it is damaged."""
    try:
        return kind.model_validate_json(data) if data else None
    except ValidationError as error:
        logger.error("%s is ignored: it is damaged (%d errors)", what, error.error_count())
        return None


def _replace_data_uri(request: PageRequest, result: PageResult) -> PageRequest:
    """Replace a data URI in the request by the name of its stored copy."""
    if not request.source.startswith("data:"):
        return request
    stored = result.source and stored_source(result.source.sha256, result.source.format, "page")
    return request.model_copy(update={"source": stored or shown(request.source)})


def _job_file_name(key: JobKey) -> str:
    return f"jobs/{job_digest(key)}.json"
