"""Credentials of buckets in blocks of prefect-aws, which operators create and rotate in Prefect's UI.

A reference is `TYPE/NAME`, as Prefect writes it: `s3-bucket/pages`, `aws-credentials/studio`. A block is read again when a
run begins, when it is older than `MAX_AGE_SECONDS`, and when its bucket denies access.
"""

import math
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final, cast

import httpx
from prefect.blocks.core import Block
from prefect.exceptions import PrefectException

from panelworks.domain.fields import digest_of
from panelworks.errors import Misconfigured, Transient
from panelworks.page.engine import renew_engine
from panelworks.settings import get_settings
from panelworks.storage.location import Location
from panelworks.storage.s3 import make_client

if TYPE_CHECKING:
    from prefect_aws import AwsCredentials, MinIOCredentials, S3Bucket

MAX_AGE_SECONDS: Final = 10.0
"""After which a process that serves many runs, such as the gateway, reads a block again."""
_RELOAD_SECONDS: Final = 2.0
"""Between two reads of a block whose bucket denies access."""
_BUCKET_TYPE: Final = "s3-bucket"
_TYPES: Final = (_BUCKET_TYPE, "aws-credentials", "minio-credentials")


@dataclass(frozen=True)
class BlockAccess:
    """What a block provides."""

    identity: str
    """Changes with any field of the block and of the block that it refers to."""
    bucket: str | None
    """The bucket, and the folder in it, of an S3 Bucket block."""
    folder: str
    client: Any = field(repr=False, compare=False)
    read_at: float = field(compare=False)


class S3Blocks:
    """The clients of buckets whose credentials are in blocks. Implements `panelworks.storage.s3.BucketClients`."""

    def __init__(self) -> None:
        self._known: dict[str, BlockAccess] = {}
        self._of_run: dict[str, str] = {}
        self._lock = threading.Lock()

    def begin_run(self, out: str | None, reference: str | None = None) -> str | None:
        """Read blocks again when they are needed next: a key that was rotated takes effect.

        Args:
            out: Where the run delivers.
            reference: The block with the credentials of the bucket in `out`, for this run only.

        Returns:
            `out`; without it, the bucket and folder of the block, if it names one.

        Raises:
            Misconfigured: `bad_s3_block`, `unknown_s3_block`.
            Transient: `prefect_away`.
        """
        with self._lock:
            self._known = {name: replace(known, read_at=-math.inf) for name, known in self._known.items()}
            self._of_run = {}
        if reference is None:
            return out
        access = self.access(reference)
        if out is None and access.bucket is not None:
            out = str(Location.of_object(access.bucket, access.folder))
        bucket = access.bucket or (Location.parse(out).bucket if out else "")
        if bucket:
            self._of_run = {bucket: reference}
        return out

    def access(self, reference: str) -> BlockAccess:
        """What a block provides, at most `MAX_AGE_SECONDS` old.

        Raises:
            Misconfigured: `bad_s3_block`, `unknown_s3_block`.
            Transient: `prefect_away`.
        """
        with self._lock:
            known = self._known.get(reference)
            if known is None or time.monotonic() - known.read_at > MAX_AGE_SECONDS:
                known = self._known[reference] = _read_access(reference, known)
            return known

    def client_for(self, bucket: str) -> Any | None:
        """The client of a bucket; None if no block applies to it."""
        reference = self._reference_for(bucket)
        return self.access(reference).client if reference else None

    def renewed_client_for(self, bucket: str) -> Any | None:
        """A client with the block's present credentials; None if they are those that were denied."""
        reference = self._reference_for(bucket)
        if reference is None:
            return None
        with self._lock:
            known = self._known.get(reference)
            if known is not None and time.monotonic() - known.read_at < _RELOAD_SECONDS:
                return None
            renewed = self._known[reference] = _read_access(reference, known)
        return renewed.client if known is None or renewed.identity != known.identity else None

    def _reference_for(self, bucket: str) -> str | None:
        references = get_settings().s3_block
        if bucket in self._of_run:
            return self._of_run[bucket]
        for reference in references:
            if _type_of(reference) == _BUCKET_TYPE and self.access(reference).bucket == bucket:
                return reference
        general = (reference for reference in references if _type_of(reference) != _BUCKET_TYPE)
        return next(general, references[0] if references else None)


S3_BLOCKS: Final = S3Blocks()
"""The blocks of this process; its storage uses them."""


def begin_run(out: str | None, reference: str | None = None) -> str | None:
    """Prepare this process for a run: settings, engine and keys are those of now. See `S3Blocks.begin_run`."""
    renew_engine()
    return S3_BLOCKS.begin_run(out, reference)


def _type_of(reference: str) -> str:
    """The type in a reference.

    Raises:
        Misconfigured: `bad_s3_block`.
    """
    kind, _, name = reference.partition("/")
    if kind not in _TYPES or not name:
        raise Misconfigured(
            "bad_s3_block",
            f"'{reference}' names no block with credentials; use one of {', '.join(_TYPES)}/NAME.",
        )
    return kind


def _read_access(reference: str, known: BlockAccess | None) -> BlockAccess:
    """Read a block; an unchanged one keeps its client, and its connections."""
    block = _load(reference)
    now = time.monotonic()
    identity = digest_of(block.model_dump(mode="json", context={"include_secrets": True}))
    if known is not None and known.identity == identity:
        return replace(known, read_at=now)
    if _type_of(reference) == _BUCKET_TYPE:
        place = cast("S3Bucket", block)
        folder = place.bucket_folder.strip("/")
        return BlockAccess(identity, place.bucket_name, folder, _make_client(place.credentials), now)
    return BlockAccess(identity, None, "", _make_client(cast("AwsCredentials", block)), now)


def _load(reference: str) -> Block:
    from prefect_aws import AwsCredentials, MinIOCredentials, S3Bucket

    classes: Mapping[str, type[Block]] = {
        one.get_block_type_slug(): one for one in (S3Bucket, AwsCredentials, MinIOCredentials)
    }
    kind, name = _type_of(reference), reference.partition("/")[2]
    load: Any = classes[
        kind
    ].load  # its type does not know `_sync`, which also blocks in a thread with an event loop
    try:
        block: Block = load(name, _sync=True)
    except ValueError as error:
        raise Misconfigured(
            "unknown_s3_block", f"There is no valid block '{reference}' in Prefect."
        ) from error
    except (httpx.HTTPError, PrefectException) as error:
        raise Transient(
            "prefect_away", f"The block '{reference}' was not read: {type(error).__name__}."
        ) from error
    return block


def _make_client(credentials: "AwsCredentials | MinIOCredentials") -> Any:
    parameters = credentials.aws_client_parameters.get_params_override()
    if credentials.region_name is not None:
        parameters["region_name"] = credentials.region_name
    return make_client(credentials.get_boto3_session(), **parameters)
