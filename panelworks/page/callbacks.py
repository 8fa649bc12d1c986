"""Callbacks: a signed POST to whoever asked for a page, when it has ended.

The run of a page records its callback in the working store and ends. A gateway delivers it, so that a receiver that
does not answer occupies no slot of a page. A record is `pending` until it was delivered or failed.
"""

import hashlib
import hmac
import json
import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, Literal, Self
from urllib.parse import urlsplit

from pydantic import AwareDatetime, Field, ValidationError

from panelworks.domain.fields import Frozen, OpaqueMetadata, digest_of
from panelworks.domain.request import PageRequest, job_digest
from panelworks.domain.result import ErrorInfo, PageResult
from panelworks.errors import Misconfigured, PanelworksError, Rejected, as_unexpected_error
from panelworks.settings import Settings
from panelworks.sources.web import check_address, post
from panelworks.storage.folder import ObjectFolder

logger = logging.getLogger(__name__)

SIGNATURE: Final = "X-Panelworks-Signature"
RETRY_SECONDS: Final = (2, 8, 30, 120, 600, 1800)
"""Before each retry of a callback; a callback whose last retry failed is not sent again."""
ATTEMPT_LEASE_SECONDS: Final = 30
"""For how long an attempt excludes another one, also of another gateway; longer than one takes."""
MAX_RECORD_BYTES: Final = 4 << 20
_JSON: Final = "application/json"
_PENDING: Final = "callbacks/pending/"
_MAX_HOST_CHARACTERS: Final = 253


class CallbackRecord(Frozen):
    """A callback that is to be delivered, or that failed."""

    address: str
    owner: str | None
    """Name of the API key that the job belongs to."""
    job_id: str
    panel_id: str | None = None
    comic_id: str | None = None
    metadata: OpaqueMetadata = Field(default_factory=dict)
    result: PageResult
    recorded_at: AwareDatetime
    attempts: int = 0
    """Attempts that were started."""
    due_at: AwareDatetime
    """Before this moment no attempt is started."""
    error: ErrorInfo | None = None
    """Why the last attempt failed."""

    @classmethod
    def of(cls, request: PageRequest, result: PageResult, address: str) -> Self:
        """The record of a job that has ended just now."""
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
        )

    @property
    def host(self) -> str:
        """The receiver's host name; of an address that is not well-formed, its beginning."""
        try:
            host = urlsplit(self.address).hostname
        except ValueError:
            host = None
        return (host or self.address).lower().rstrip(".")[:_MAX_HOST_CHARACTERS]


@dataclass(frozen=True)
class Attempt:
    """What became of an attempt to deliver a callback."""

    outcome: Literal["delivered", "retried", "failed", "waiting", "gone"]
    """`retried`: it failed and another attempt follows; `waiting`: it is not due yet; `gone`: it is not pending."""
    due_at: datetime | None = None
    """When the next attempt may start, where one follows."""


class Callbacks:
    """The callbacks of the working store."""

    def __init__(self, folder: ObjectFolder) -> None:
        self._folder = folder
        self._answered: set[str] = set()
        """Delivered by this process, and not yet recorded as such."""

    def record(self, request: PageRequest, result: PageResult, run_id: str) -> str | None:
        """Store the callback of a job that has ended; gives its id, None when the job has no callback.

        A run that is restarted records the same callback: it is sent once for each job, run and outcome.

        Raises:
            Transient, Misconfigured: the store cannot be written now, or at all.
        """
        if request.origin.callback is None:
            return None
        callback_id = digest_of([job_digest(request.key), run_id, result.status])
        if not any(self._folder.exists(name(callback_id)) for name in (_delivered_name, _failed_name)):
            record = CallbackRecord.of(request, result, request.origin.callback)
            self._folder.create(_pending_name(callback_id), _encoded(record), _JSON)
        return callback_id

    def pending(self) -> Iterator[str]:
        """The ids of all pending callbacks, in no order."""
        for file in self._folder.files(_PENDING):
            yield file.name.removeprefix(_PENDING).removesuffix(".json")

    def find(self, callback_id: str) -> CallbackRecord | None:
        """A pending callback; None when it is not pending.

        Raises:
            Rejected: `damaged` or `too_large`, the record cannot be used. A person may look at it.
        """
        data = self._folder.read(_pending_name(callback_id), MAX_RECORD_BYTES)
        try:
            return CallbackRecord.model_validate_json(data) if data is not None else None
        except ValidationError as error:
            raise Rejected("damaged", f"{_pending_name(callback_id)} is no record of a callback.") from error

    def attempt(self, callback_id: str, settings: Settings) -> Attempt:
        """Send a pending callback if it is due, and record the outcome.

        The attempt is recorded before it is sent: a process that is killed in between leaves a callback that is sent
        again, after `ATTEMPT_LEASE_SECONDS`.

        Raises:
            PanelworksError: the store cannot be used; the record is damaged.
        """
        record = self.find(callback_id)
        if record is None:
            return Attempt("gone")
        if callback_id in self._answered:
            return self._settle(callback_id, record)
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
            send(record, settings)
        except Exception as error:  # noqa: BLE001 - whatever it was, it is recorded, and the next attempt may succeed
            return self._postpone(callback_id, record, error)
        self._answered.add(callback_id)
        return self._settle(callback_id, record)

    def _settle(self, callback_id: str, record: CallbackRecord) -> Attempt:
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

    def _postpone(self, callback_id: str, record: CallbackRecord, error: Exception) -> Attempt:
        """Record why an attempt failed, and when the next one starts, if one does."""
        cause = error if isinstance(error, PanelworksError) else as_unexpected_error(error)
        now = datetime.now(UTC)
        record = record.model_copy(update={"error": ErrorInfo.of(cause), "due_at": now})
        # A receiver's name may be missing from the name service for a while.
        final = isinstance(cause, Rejected) and cause.code != "unknown_host"
        if final or record.attempts > len(RETRY_SECONDS):
            self._folder.write(_failed_name(callback_id), _encoded(record), _JSON)
            self._folder.delete(_pending_name(callback_id))
            logger.error(
                "callback of job %s failed: attempt %d to %s: %s [%s]; it is kept as %s",
                record.job_id,
                record.attempts,
                record.host,
                cause,
                cause.code,
                self._folder.uri(_failed_name(callback_id)),
            )
            return Attempt("failed")
        pause = RETRY_SECONDS[record.attempts - 1]
        record = record.model_copy(update={"due_at": now + timedelta(seconds=pause)})
        self._folder.write(_pending_name(callback_id), _encoded(record), _JSON)
        logger.warning(
            "callback of job %s not delivered, retry in %d s: attempt %d to %s: %s [%s]",
            record.job_id,
            pause,
            record.attempts,
            record.host,
            cause,
            cause.code,
        )
        return Attempt("retried", record.due_at)


def send(record: CallbackRecord, settings: Settings) -> None:
    """POST a callback to its address, guarded like a source's address.

    Raises:
        UnsafeSource: the address is not on the public internet.
        Transient: the receiver did not answer, or with 5xx, 408 or 429.
        Rejected: the receiver answered another 4xx or 3xx; `bad_address`, `unknown_host`.
        Misconfigured: `callback_unsigned`, there is no secret to sign with.
    """
    if settings.callback_secret is None:
        raise Misconfigured(
            "callback_unsigned", "Callbacks are signed; set PANELWORKS_CALLBACK_SECRET on the gateway."
        )
    body = json.dumps(
        {
            "event": "comic.panel.enhanced" if record.result.status == "success" else "comic.panel.failed",
            "job_id": record.job_id,
            "panel_id": record.panel_id,
            "comic_id": record.comic_id,
            "metadata": record.metadata,
            "result": record.result.model_dump(mode="json"),
        },
        ensure_ascii=False,
    ).encode()
    signature = sign(body, settings.callback_secret.get_secret_value(), int(time.time()))
    headers = {"Content-Type": "application/json", SIGNATURE: signature}
    post(record.address, body, headers, settings)


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
    """`t=UNIX_SECONDS,v1=HEX`: HMAC-SHA256 over `t.body`. The time lets a receiver refuse old ones."""
    digest = hmac.new(secret.encode(), f"{at}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={at},v1={digest}"


def verify(body: bytes, secret: str, signature: str, *, now: float, tolerance: float = 300) -> bool:
    """Is the signature ours, and no older than `tolerance` seconds? For receivers."""
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
