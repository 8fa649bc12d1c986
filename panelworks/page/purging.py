"""Purging: published objects that were replaced are reported to CDNs, which remove their copies.

A replaced object is recorded in the working store, then reported by a thread of this process. What cannot be reported stays
recorded: the supervisor, or the next purge of any process, reports it. A failure never fails a page.
"""

import contextvars
import json
import logging
import threading
import time
import uuid
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from itertools import islice
from typing import Any, Final
from urllib.parse import quote, urlsplit

from pydantic import AwareDatetime, ValidationError

from panelworks.domain.fields import Frozen, digest_of
from panelworks.errors import Misconfigured, PanelworksError, Rejected, Transient, as_unexpected_error
from panelworks.page.callbacks import SIGNATURE, sign
from panelworks.settings import Settings
from panelworks.sources.web import post
from panelworks.storage.folder import ObjectFolder
from panelworks.storage.headers import delivered_name, public_url
from panelworks.storage.location import Location

logger = logging.getLogger(__name__)

PURGE_EVENT: Final = "comic.delivery.replaced"
MAX_PATHS: Final = 3000
"""Paths of one report: CloudFront invalidates as many at the same time."""
RETRY_SECONDS: Final = (1.0, 4.0)
"""Delay before each retry in the process that replaced an object."""
GIVE_UP_SECONDS: Final = 24 * 3600.0
"""A purge that could not be reported for so long has failed."""
_PENDING: Final = "purges/pending/"
_FAILED: Final = "purges/failed/"
_MAX_RECORD_BYTES: Final = 4 << 20
_JSON: Final = "application/json"
_BUSY: Final = frozenset({"TooManyInvalidationsInProgress", "Throttling", "ThrottlingException"})


class ReplacedObject(Frozen):
    """A published object with new content."""

    uri: str
    url: str | None
    """Its address at the CDN; None without PANELWORKS_PUBLIC_URL."""
    path: str
    """The path of that address, percent-encoded; without PANELWORKS_PUBLIC_URL, its key in the bucket, or its name below the default
    destination."""


class PurgeRecord(Frozen):
    """Objects that were replaced together and are not reported yet."""

    recorded_at: AwareDatetime
    objects: tuple[ReplacedObject, ...]


def replaced_object(uri: str, settings: Settings) -> ReplacedObject:
    """The record of an object, from its address."""
    url, place = public_url(uri, settings), Location.parse(uri)
    name = place.key if place.is_in_bucket else delivered_name(uri, settings) or place.path.name
    return ReplacedObject(uri=uri, url=url, path=urlsplit(url).path if url else f"/{quote(name)}")


class Purges:
    """The purges of the working store."""

    def __init__(self, folder: ObjectFolder, settings: Settings) -> None:
        self._folder = folder
        self._settings = settings
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._again = False

    @property
    def is_wanted(self) -> bool:
        """Do the settings name a CDN to report to?"""
        return bool(self._settings.purge_url or self._settings.cloudfront_distribution)

    def request(self, uris: Iterable[str]) -> None:
        """Record replaced objects, which are published, and report them in the background. Nothing is raised."""
        objects = [replaced_object(uri, self._settings) for uri in uris]
        if not objects or not self.is_wanted:
            return
        try:
            for first in range(0, len(objects), MAX_PATHS):
                chosen = tuple(objects[first : first + MAX_PATHS])
                record = PurgeRecord(recorded_at=datetime.now(UTC), objects=chosen)
                name = f"{_PENDING}{time.time_ns()}-{uuid.uuid4().hex}.json"
                self._folder.write(name, record.model_dump_json().encode(), _JSON)
        except PanelworksError as error:
            logger.error("purge of %s and others not recorded: %s [%s]", objects[0].uri, error, error.code)
            return
        with self._lock:
            self._again = True
            if self._thread is None:
                # Not a daemon: a command ends when its purges are reported, or the retries are used up.
                self._thread = threading.Thread(
                    target=contextvars.copy_context().run, args=(self._run,), name="panelworks-purge"
                )
                self._thread.start()

    def _run(self) -> None:
        while True:
            with self._lock:
                if not self._again:
                    self._thread = None
                    return
                self._again = False
            for delay in (*RETRY_SECONDS, None):
                if self.report_pending() or delay is None:
                    break
                time.sleep(delay)

    def join(self) -> None:
        """Wait until the thread that reports has ended."""
        thread = self._thread
        if thread is not None:
            thread.join()

    def report_pending(self) -> bool:
        """Report all recorded purges, as many as possible at once; False if one remains that may be retried."""
        try:
            while batch := dict(self._next_batch()):
                self._report(batch)
        except Exception as error:  # noqa: BLE001 - a purge must not fail anything; it stays recorded
            cause = error if isinstance(error, PanelworksError) else as_unexpected_error(error)
            logger.warning("replaced objects not purged: %s [%s]", cause, cause.code)
            return False
        return True

    def _next_batch(self) -> Iterator[tuple[str, PurgeRecord]]:
        """The oldest records, with at most `MAX_PATHS` objects together. Damaged records are moved to those that failed."""
        names = sorted(file.name for file in self._folder.files(_PENDING))
        count = 0
        for name in islice(names, MAX_PATHS):
            data = self._folder.read(name, _MAX_RECORD_BYTES)
            if data is None:
                continue
            try:
                record = PurgeRecord.model_validate_json(data)
            except ValidationError:
                logger.error("record of a purge is damaged: %s", self._fail(name, data))
                continue
            count += len(record.objects)
            if count > MAX_PATHS:
                return
            yield name, record

    def _report(self, batch: dict[str, PurgeRecord]) -> None:
        objects = {one.uri: one for record in batch.values() for one in record.objects}
        try:
            if self._settings.purge_url is not None:
                _post(self._settings.purge_url, tuple(objects.values()), self._settings)
            if self._settings.cloudfront_distribution is not None:
                paths = sorted({one.path for one in objects.values()})
                invalidate(
                    self._settings.cloudfront_distribution, paths, digest_of(sorted(batch)), self._settings
                )
        except Exception as error:
            self._give_up(batch, error)
            raise
        for name in batch:
            self._folder.delete(name)
        logger.info("replaced objects purged: %d", len(objects))

    def _give_up(self, batch: dict[str, PurgeRecord], error: Exception) -> None:
        """Move the records to those that failed if the receiver refused them, or they are too old."""
        for name, record in batch.items():
            age = (datetime.now(UTC) - record.recorded_at).total_seconds()
            if isinstance(error, Rejected) or age > GIVE_UP_SECONDS:
                logger.error(
                    "purge failed: %s; the record is %s",
                    error,
                    self._fail(name, record.model_dump_json().encode()),
                )

    def _fail(self, name: str, data: bytes) -> str:
        uri = self._folder.write(_FAILED + name.removeprefix(_PENDING), data, _JSON)
        self._folder.delete(name)
        return uri


def _post(address: str, objects: tuple[ReplacedObject, ...], settings: Settings) -> None:
    """POST the addresses of replaced objects, signed as callbacks are. The operator named the receiver: it may be private.

    Raises:
        Misconfigured: `callback_unsigned`. Otherwise as `post`.
    """
    if settings.callback_secret is None:
        raise Misconfigured("callback_unsigned", "Purges are signed; set PANELWORKS_CALLBACK_SECRET.")
    body = json.dumps(
        {
            "event": PURGE_EVENT,
            "urls": [one.url for one in objects if one.url],
            "paths": [one.path for one in objects],
            "uris": [one.uri for one in objects],
        },
        ensure_ascii=False,
    ).encode()
    signature = sign(body, settings.callback_secret.get_secret_value(), int(time.time()))
    trusting = settings.model_copy(update={"allow_private_addresses": True, "allow_http": True})
    post(address, body, {"Content-Type": _JSON, SIGNATURE: signature}, trusting)


def invalidate(distribution: str, paths: list[str], reference: str, settings: Settings) -> None:
    """Invalidate paths in a CloudFront distribution. The same `reference` and paths create one invalidation.

    Keys of another S3 server are not used for AWS: with S3_ENDPOINT, the AWS default chain applies.

    Raises:
        Transient: `cdn_unavailable`, CloudFront did not answer or invalidates too many paths now.
        Misconfigured: `cdn_refused`, it denied access or does not know the distribution.
    """
    import boto3
    from botocore.exceptions import BotoCoreError, ClientError

    keys: dict[str, Any] = {}
    if settings.s3_endpoint is None and settings.s3_secret_access_key is not None:
        keys["aws_access_key_id"] = settings.s3_access_key_id
        keys["aws_secret_access_key"] = settings.s3_secret_access_key.get_secret_value()
    batch = {"Paths": {"Quantity": len(paths), "Items": paths}, "CallerReference": reference}
    try:
        client = boto3.session.Session().client("cloudfront", region_name="us-east-1", **keys)
        client.create_invalidation(DistributionId=distribution, InvalidationBatch=batch)
    except ClientError as error:
        code = str(error.response.get("Error", {}).get("Code"))
        status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 500))
        if status >= 500 or code in _BUSY:
            raise Transient("cdn_unavailable", f"CloudFront did not answer ({code}).") from error
        raise Misconfigured(
            "cdn_refused", f"CloudFront refused to invalidate in {distribution} ({code})."
        ) from error
    except BotoCoreError as error:
        raise Transient("cdn_unavailable", f"CloudFront did not answer ({type(error).__name__}).") from error
