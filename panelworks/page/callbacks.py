"""Callbacks: a signed POST to the client of a page, or of a batch, when it has ended.

The run of a page records its callback in the working store and ends. The supervisor delivers it, so that a receiver
that does not answer occupies no slot of a page. A record is `pending` until it is delivered or has failed.
"""

import hashlib
import hmac
import json
import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal, Self
from urllib.parse import urlsplit

from pydantic import AwareDatetime, Field, ValidationError

from panelworks.domain.fields import Frozen, OpaqueMetadata, Traceparent, digest_of
from panelworks.domain.request import PageRequest, job_digest
from panelworks.domain.result import ErrorInfo, PageResult
from panelworks.errors import Misconfigured, PanelworksError, Rejected, as_unexpected_error
from panelworks.logs import log_ids
from panelworks.page.batches import Batch, BatchSummary
from panelworks.settings import Settings
from panelworks.sources.web import check_address, post
from panelworks.storage.folder import ObjectFolder
from panelworks.telemetry import current_traceparent, trace_span

logger = logging.getLogger(__name__)

BATCH_ENDED: Final = "comic.batch.ended"
SIGNATURE: Final = "X-Panelworks-Signature"
RETRY_SECONDS: Final = (2, 8, 30, 120, 600, 1800)
"""Delay before each retry of a callback. After the last one, the callback has failed."""
ATTEMPT_LEASE_SECONDS: Final = 30
"""How long an attempt excludes other attempts, of any process; longer than an attempt takes."""
MAX_RECORD_BYTES: Final = 4 << 20
_JSON: Final = "application/json"
_PENDING: Final = "callbacks/pending/"
_MAX_HOST_CHARACTERS: Final = 253


class CallbackRecord(Frozen):
    """A callback that is pending or has failed."""

    address: str
    owner: str | None
    """Name of the API key that the job belongs to."""
    job_id: str
    panel_id: str | None = None
    comic_id: str | None = None
    metadata: OpaqueMetadata = Field(default_factory=dict)
    result: PageResult | None = None
    batch: BatchSummary | None = Field(None, exclude_if=lambda given: given is None)
    """The batch that has ended; `job_id` is then its id, and there is no `result`."""
    recorded_at: AwareDatetime
    attempts: int = 0
    """Number of attempts that were started."""
    due_at: AwareDatetime
    """No attempt is started before."""
    error: ErrorInfo | None = None
    """Cause of the failure of the last attempt."""
    traceparent: Traceparent = Field(
        None, exclude_if=lambda given: given is None
    )  # earlier releases read records, too
    """The trace of the page."""

    @classmethod
    def of(cls, request: PageRequest, result: PageResult, address: str) -> Self:
        """The record of a job that ends now."""
        now, origin = datetime.now(UTC), request.origin
        return cls(
            address=address,
            owner=origin.owner,
            job_id=request.job_id,
            panel_id=origin.panel_id,
            comic_id=origin.comic_id,
            metadata=origin.metadata,
            result=result,
            recorded_at=now,
            due_at=now,
            traceparent=current_traceparent() or origin.traceparent,
        )

    @classmethod
    def of_batch(cls, batch: Batch, summary: BatchSummary, address: str) -> Self:
        """The record of a batch that ends now."""
        now, origin = datetime.now(UTC), batch.origin
        return cls(
            address=address,
            owner=origin.owner,
            job_id=batch.batch_id,
            comic_id=origin.comic_id,
            metadata=origin.metadata,
            batch=summary,
            recorded_at=now,
            due_at=now,
            traceparent=origin.traceparent,
        )

    @property
    def body(self) -> dict[str, Any]:
        """What is sent."""
        if self.batch is not None:
            return {
                "event": BATCH_ENDED,
                "batch_id": self.batch.batch_id,
                "comic_id": self.comic_id,
                "metadata": self.metadata,
                "batch": self.batch.model_dump(mode="json"),
            }
        return {
            "event": end_event(self.result) if self.result is not None else None,
            "job_id": self.job_id,
            "panel_id": self.panel_id,
            "comic_id": self.comic_id,
            "metadata": self.metadata,
            "result": self.result.model_dump(mode="json") if self.result is not None else None,
        }

    @property
    def host(self) -> str:
        """Host name of the receiver; the first characters of an address that is not well-formed."""
        try:
            host = urlsplit(self.address).hostname
        except ValueError:
            host = None
        return (host or self.address).lower().rstrip(".")[:_MAX_HOST_CHARACTERS]


@dataclass(frozen=True)
class Attempt:
    """The outcome of an attempt to deliver a callback."""

    outcome: Literal["delivered", "retried", "failed", "waiting", "gone"]
    """`retried`: it failed and will be retried; `waiting`: it is not due; `gone`: it is not pending."""
    due_at: datetime | None = None
    """When the next attempt may start; None if there is none."""


class Callbacks:
    """The callbacks of the working store."""

    def __init__(self, folder: ObjectFolder) -> None:
        self._folder = folder
        self._answered: set[str] = set()
        """Delivered by this process and not recorded as delivered yet."""

    def record(self, request: PageRequest, result: PageResult, run_id: str) -> str | None:
        """Store the callback of a job that has ended; returns its id, None if the job has no callback.

        A restarted run records the same callback: one is sent for each job, run and outcome. `run_id` is that of the run, or
        of the decision of a person.

        Raises:
            Transient, Misconfigured: the store cannot be written to.
        """
        if request.origin.callback is None:
            return None
        callback_id = digest_of([job_digest(request.key), run_id, result.status])
        if not any(self._folder.exists(name(callback_id)) for name in (_delivered_name, _failed_name)):
            record = CallbackRecord.of(request, result, request.origin.callback)
            self._folder.create(_pending_name(callback_id), _encoded(record), _JSON)
        return callback_id

    def record_batch(self, batch: Batch, summary: BatchSummary) -> str | None:
        """Store the callback of a batch that has ended; returns its id, None if the batch has no callback.

        Recorded again, it is the same callback.

        Raises:
            Transient, Misconfigured: the store cannot be written to.
        """
        if batch.callback is None:
            return None
        callback_id = digest_of(["batch", job_digest(batch.key)])
        if not any(self._folder.exists(name(callback_id)) for name in (_delivered_name, _failed_name)):
            record = CallbackRecord.of_batch(batch, summary, batch.callback)
            self._folder.create(_pending_name(callback_id), _encoded(record), _JSON)
        return callback_id

    def pending(self) -> Iterator[str]:
        """The ids of all pending callbacks, in arbitrary order."""
        for file in self._folder.files(_PENDING):
            yield file.name.removeprefix(_PENDING).removesuffix(".json")

    def find(self, callback_id: str) -> CallbackRecord | None:
        """A pending callback; None if it is not pending.

        Raises:
            Rejected: `damaged` or `too_large`, the record cannot be used.
        """
        data = self._folder.read(_pending_name(callback_id), MAX_RECORD_BYTES)
        try:
            return CallbackRecord.model_validate_json(data) if data is not None else None
        except ValidationError as error:
            raise Rejected(
                "damaged", f"{_pending_name(callback_id)} is not a record of a callback."
            ) from error

    def attempt(self, callback_id: str, settings: Settings) -> Attempt:
        """Send a pending callback if it is due, and record the outcome.

        The attempt is recorded before it is sent: after a kill in between, the callback is sent again when
        `ATTEMPT_LEASE_SECONDS` have passed.

        Raises:
            PanelworksError: the store cannot be used; the record is damaged.
        """
        record = self.find(callback_id)
        if record is None:
            return Attempt("gone")
        if callback_id in self._answered:
            return self._record_delivery(callback_id, record)
        if self._folder.exists(_delivered_name(callback_id)):
            self._folder.delete(_pending_name(callback_id))
            return Attempt("gone")
        now = datetime.now(UTC)
        if record.due_at > now:
            return Attempt("waiting", record.due_at)
        lease_end = now + timedelta(seconds=ATTEMPT_LEASE_SECONDS)
        record = record.model_copy(update={"attempts": record.attempts + 1, "due_at": lease_end})
        self._folder.write(_pending_name(callback_id), _encoded(record), _JSON)
        try:
            with (
                log_ids(job_id=record.job_id),
                trace_span(
                    "deliver callback",
                    kind="client",
                    parent=record.traceparent,
                    standard={"server.address": record.host},
                    job_id=record.job_id,
                    attempt=record.attempts,
                ),
            ):
                send(record, settings)
        except Exception as error:  # noqa: BLE001 - any failure is recorded and retried
            return self._record_failure(callback_id, record, error)
        self._answered.add(callback_id)
        return self._record_delivery(callback_id, record)

    def _record_delivery(self, callback_id: str, record: CallbackRecord) -> Attempt:
        delivered = {
            "job_id": record.job_id,
            "attempts": record.attempts,
            "delivered_at": datetime.now(UTC).isoformat(),
        }
        self._folder.write(_delivered_name(callback_id), json.dumps(delivered).encode(), _JSON)
        self._folder.delete(_pending_name(callback_id))
        self._answered.discard(callback_id)
        logger.info(
            "callback of job %s delivered to %s: attempt %d", record.job_id, record.host, record.attempts
        )
        return Attempt("delivered")

    def _record_failure(self, callback_id: str, record: CallbackRecord, error: Exception) -> Attempt:
        """Record the cause of a failed attempt, and the retry if there is one."""
        cause = error if isinstance(error, PanelworksError) else as_unexpected_error(error)
        now = datetime.now(UTC)
        record = record.model_copy(update={"error": ErrorInfo.of(cause), "due_at": now})
        # An unknown host name can be an outage of the name service.
        final = isinstance(cause, Rejected) and cause.code != "unknown_host"
        if final or record.attempts > len(RETRY_SECONDS):
            self._folder.write(_failed_name(callback_id), _encoded(record), _JSON)
            self._folder.delete(_pending_name(callback_id))
            logger.error(
                "callback of job %s failed: attempt %d to %s: %s [%s]; the record is %s",
                record.job_id,
                record.attempts,
                record.host,
                cause,
                cause.code,
                self._folder.uri(_failed_name(callback_id)),
            )
            return Attempt("failed")
        delay = RETRY_SECONDS[record.attempts - 1]
        record = record.model_copy(update={"due_at": now + timedelta(seconds=delay)})
        self._folder.write(_pending_name(callback_id), _encoded(record), _JSON)
        logger.warning(
            "callback of job %s is retried in %d s: attempt %d to %s failed: %s [%s]",
            record.job_id,
            delay,
            record.attempts,
            record.host,
            cause,
            cause.code,
        )
        return Attempt("retried", record.due_at)


def send(record: CallbackRecord, settings: Settings) -> None:
    """POST a callback to its address, with the address checks of sources.

    Raises:
        UnsafeSource: the address is not on the public internet.
        Transient: the receiver did not answer, or answered 5xx, 408 or 429.
        Rejected: the receiver answered another 4xx or 3xx; `bad_address`, `unknown_host`.
        Misconfigured: `callback_unsigned`, the secret for signatures is not set.
    """
    if settings.callback_secret is None:
        raise Misconfigured("callback_unsigned", "Callbacks are signed; set PANELWORKS_CALLBACK_SECRET.")
    body = json.dumps(record.body, ensure_ascii=False).encode()
    signature = sign(body, settings.callback_secret.get_secret_value(), int(time.time()))
    headers = {"Content-Type": "application/json", SIGNATURE: signature}
    post(record.address, body, headers, settings)


def end_event(result: PageResult) -> str:
    """The name of the event of how a page ended, or of what a person decided on it."""
    if result.review is not None and result.review.state != "pending":
        return f"comic.panel.{result.review.state}"
    return "comic.panel.enhanced" if result.status == "success" else "comic.panel.failed"


def check_callback(address: str | None, settings: Settings) -> None:
    """Refuse a callback that could never be delivered, before its job is accepted.

    Raises:
        Rejected: `callbacks_off`, there is no secret to sign with; `bad_address`.
        UnsafeSource: `plain_http`, `forbidden_address`.
    """
    if address is None:
        return
    if settings.callback_secret is None:
        raise Rejected(
            "callbacks_off", "This server sends no callbacks: PANELWORKS_CALLBACK_SECRET is not set."
        )
    check_address(address, settings)


def sign(body: bytes, secret: str, at: int) -> str:
    """`t=UNIX_SECONDS,v1=HEX`: HMAC-SHA256 over `t.body`. The time lets a receiver refuse old requests."""
    digest = hmac.new(secret.encode(), f"{at}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={at},v1={digest}"


def verify(body: bytes, secret: str, signature: str, *, now: float, tolerance: float = 300) -> bool:
    """Is the signature valid and at most `tolerance` seconds old? For receivers."""
    try:
        at = int(dict(part.split("=", 1) for part in signature.split(","))["t"])
    except (KeyError, ValueError):
        return False
    return abs(now - at) <= tolerance and hmac.compare_digest(sign(body, secret, at), signature)


def _encoded(record: CallbackRecord) -> bytes:
    return record.model_dump_json().encode()


def _pending_name(callback_id: str) -> str:
    return f"{_PENDING}{callback_id}.json"


def _delivered_name(callback_id: str) -> str:
    return f"callbacks/delivered/{callback_id}.json"


def _failed_name(callback_id: str) -> str:
    return f"callbacks/failed/{callback_id}.json"
