"""Accepted jobs: stored durably before the client gets an answer, so that each job is started exactly once.

A job is `pending` until the orchestrator has a run for it; then it is `settled`. Both are objects of the working store,
which all gateways and workers share. A claim names the run that processes a job.
"""

import json
import logging
from collections.abc import Collection, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from pydantic import AwareDatetime, ValidationError

from panelworks.domain.fields import Frozen, digest_of
from panelworks.domain.request import JobKey, PageRequest, job_digest
from panelworks.errors import Rejected
from panelworks.storage import ObjectFolder

logger = logging.getLogger(__name__)

MAX_PENDING_JOBS: Final = 10_000
"""Limit of accepted jobs that wait for their run."""
_JSON: Final = "application/json"
_PENDING: Final = "accepted/pending/"
_MAX_CLAIMS: Final = 1000
CANCELLED_SECONDS: Final = 300.0
"""How long a cancelled run must not start; a worker needs at most a minute to start a run."""


class AcceptedJob(Frozen):
    """A job that was accepted, and its run if it has one."""

    request: PageRequest
    queue: str
    accepted_at: AwareDatetime
    attempt: int = 1
    """Incremented when a failed job is posted again under its id."""
    settled: bool = False
    """Has the wait for a run ended?"""
    run_id: str | None = None

    @property
    def idempotency_key(self) -> str:
        """Equal for every submission of this attempt of the job."""
        return f"job:{job_digest(self.request.key)}:{self.attempt}"


class AcceptedJobs:
    """The accepted jobs of the working store."""

    def __init__(self, folder: ObjectFolder) -> None:
        self._folder = folder

    def accept(self, job: AcceptedJob) -> AcceptedJob | None:
        """Store a job; returns None if it is new, else the stored job of the same identity and attempt.

        Exactly one of several callers, in any process, gets None.
        """
        known = self.find(job.request.key)
        if known is not None and known.attempt >= job.attempt:
            return known
        if self._folder.create(_pending_name(job.request.key), _encoded(job), _JSON):
            return None
        return self.find(job.request.key) or job

    def find(self, key: JobKey) -> AcceptedJob | None:
        """The accepted job of this identity, or None. A pending attempt has precedence over a settled one."""
        for name in (_pending_name(key), _settled_name(key), _pending_name(key)):
            job = _parse_job(name, self._folder.read(name))
            if job is not None:
                return job
        return None

    def pending(self, *, skip: Collection[JobKey] = (), limit: int | None = None) -> Iterator[AcceptedJob]:
        """Jobs without a run, the newest first.

        Args:
            skip: Jobs that are not read.
            limit: Number of jobs that are read at most; None reads all.
        """
        skipped = {_pending_name(key) for key in skip}
        files = [file for file in self._folder.files(_PENDING) if file.name not in skipped]
        for file in sorted(files, key=lambda file: file.changed, reverse=True)[:limit]:
            data = self._folder.read(file.name)
            job = _parse_job(file.name, data)
            if job is not None:
                yield job
            elif data is not None:  # moved aside for a person to inspect
                self._folder.write(f"damaged/{file.name}", data, _JSON)
                self._folder.delete(file.name)

    def settle(self, job: AcceptedJob, run_id: str | None) -> AcceptedJob:
        """Record the run of a pending job; None if the job was refused and gets no run."""
        settled = job.model_copy(update={"run_id": run_id, "settled": True})
        self._folder.write(_settled_name(job.request.key), _encoded(settled), _JSON)
        self._folder.delete(_pending_name(job.request.key))
        return settled

    def claim(self, key: JobKey, run_id: str, failed_runs: frozenset[str] = frozenset()) -> str:
        """The run that processes a job: `run_id` if no other run has claimed it, except runs that failed.

        Raises:
            Rejected: `too_many_attempts`.
        """
        for number in range(_MAX_CLAIMS):
            name = f"claims/{job_digest(key)}-{number}.json"
            if self._folder.create(name, json.dumps({"run_id": run_id}).encode(), _JSON):
                return run_id
            holder = self._claimed_by(name)
            if holder is not None and holder not in failed_runs:
                return holder
        raise Rejected("too_many_attempts", f"This job failed {_MAX_CLAIMS} times.")

    def claimed_by(self, key: JobKey) -> str | None:
        """The last run that claimed a job, or None."""
        holder = None
        for number in range(_MAX_CLAIMS):
            name = f"claims/{job_digest(key)}-{number}.json"
            if not self._folder.exists(name):
                break
            holder = self._claimed_by(name)
        return holder

    def _claimed_by(self, name: str) -> str | None:
        """The run in a claim; None if the claim is damaged and therefore void."""
        run_id = _parse_fields(name, self._folder.read(name)).get("run_id")
        return None if run_id is None else str(run_id)

    def cancel_run(self, run_id: str) -> None:
        """Make a run that starts within `CANCELLED_SECONDS` end as cancelled.

        A worker can start a run that the orchestrator has just cancelled.
        """
        until = datetime.now(UTC) + timedelta(seconds=CANCELLED_SECONDS)
        self._folder.write(_cancelled_name(run_id), json.dumps({"until": until.isoformat()}).encode(), _JSON)

    def request_cancellation(self, job: AcceptedJob) -> None:
        """Have a pending job cancelled as soon as it has a run, by whichever process creates it."""
        self._folder.write(_unwanted_name(job), b"{}", _JSON)

    def take_requested_cancellation(self, job: AcceptedJob) -> bool:
        """Was the cancellation of a job requested while it had no run? True once."""
        name = _unwanted_name(job)
        if not self._folder.exists(name):
            return False
        self._folder.delete(name)
        return True

    def take_cancellation(self, run_id: str) -> bool:
        """Was this run cancelled within the last `CANCELLED_SECONDS`? Deletes the mark: the run can be repeated later."""
        name = _cancelled_name(run_id)
        until = _parse_fields(name, self._folder.read(name)).get("until")
        if until is None:
            return False
        self._folder.delete(name)
        return datetime.now(UTC) < datetime.fromisoformat(str(until))

    def grant_upload(self, owner: str | None, sha256: str) -> None:
        """Allow an API key to use an upload of its own as a source."""
        if owner is not None:
            self._folder.create(_upload_name(owner, sha256), b"{}", _JSON)

    def may_name_upload(self, owner: str, sha256: str) -> bool:
        """Did this API key upload these bytes?"""
        return self._folder.exists(_upload_name(owner, sha256))

    def same_content(self, owner: str | None, content_key: str, out: str) -> JobKey | None:
        """The last job of an API key for this content key and place."""
        name = _content_name(owner, content_key, out)
        job_id = _parse_fields(name, self._folder.read(name)).get("job_id")
        return None if job_id is None else JobKey(owner, str(job_id))

    def reserve_content(self, key: JobKey, content_key: str, out: str, *, replace: bool = False) -> bool:
        """Make a job the one for this content key and place; False if the API key has another."""
        name, data = _content_name(key.owner, content_key, out), json.dumps({"job_id": key.job_id}).encode()
        if replace:
            self._folder.write(name, data, _JSON)
            return True
        return self._folder.create(name, data, _JSON)


def _parse_job(name: str, data: bytes | None) -> AcceptedJob | None:
    """Parse a stored job; None if it does not exist or is damaged."""
    try:
        return AcceptedJob.model_validate_json(data) if data is not None else None
    except ValidationError as error:
        logger.error("accepted job %s is ignored: it is damaged: %d errors", name, error.error_count())
        return None


def _parse_fields(name: str, data: bytes | None) -> dict[str, Any]:
    """Parse a small JSON object; empty if it does not exist or is damaged."""
    try:
        fields = json.loads(data or b"{}")
    except ValueError:
        fields = None
    if isinstance(fields, dict):
        return fields
    logger.error("%s is ignored: it is damaged", name)
    return {}


def _encoded(job: AcceptedJob) -> bytes:
    return job.model_dump_json().encode()


def _pending_name(key: JobKey) -> str:
    return f"{_PENDING}{job_digest(key)}.json"


def _settled_name(key: JobKey) -> str:
    return f"accepted/settled/{job_digest(key)}.json"


def _unwanted_name(job: AcceptedJob) -> str:
    return f"accepted/unwanted/{job_digest(job.request.key)}-{job.attempt}.json"


def _content_name(owner: str | None, content_key: str, out: str) -> str:
    return f"accepted/content/{digest_of([owner, content_key, out])}.json"


def _cancelled_name(run_id: str) -> str:
    return f"cancelled/{run_id}.json"


def _upload_name(owner: str, sha256: str) -> str:
    return f"uploads/{digest_of(owner)[:32]}/{sha256}"
