"""A prefix of an S3 bucket. Objects are published by a single PUT."""

import errno
import threading
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

from panelworks.errors import Misconfigured, PanelworksError, Rejected, Transient
from panelworks.settings import Settings
from panelworks.storage.folder import FileInfo
from panelworks.storage.headers import ObjectHeaders
from panelworks.telemetry import trace_span

if TYPE_CHECKING:
    from botocore.client import BaseClient

_CREDENTIALS: Final = ("Credential", "Token", "SSO", "Profile", "NoRegion")
"""Parts of the names of botocore's errors about credentials."""
_UPLOAD_METADATA: Final = {"made-by": "panelworks"}
"""Metadata of the files that `upload` writes. Other files are never replaced."""
_settings_clients: dict[tuple[str | None, ...], "BaseClient"] = {}
_lock = threading.Lock()
T = TypeVar("T")


class BucketClients(Protocol):
    """Clients of buckets whose credentials are stored elsewhere than in the settings."""

    def client_for(self, bucket: str) -> Any | None:
        """A boto3 client; None where the credentials of the settings apply."""
        ...

    def renewed_client_for(self, bucket: str) -> Any | None:
        """A client with other credentials, after the bucket denied access; None if there are no others."""
        ...


_bucket_clients: BucketClients | None = None


def use_bucket_clients(clients: BucketClients | None) -> None:
    """Ask `clients` first for the client of a bucket, in this process. PANELWORKS_S3_BLOCK needs it."""
    global _bucket_clients
    _bucket_clients = clients


def make_client(session: Any, **parameters: Any) -> Any:
    """A client of a boto3 session with our retries and timeouts, which `config` in `parameters` overrides."""
    from botocore.config import Config

    ours = Config(
        retries={"mode": "standard", "max_attempts": 3},
        connect_timeout=10,
        read_timeout=60,
        signature_version="s3v4",  # signed links of the older version work in few regions
    )
    given = parameters.pop("config", None)
    return session.client("s3", config=ours.merge(given) if given else ours, **parameters)


def _client_of_settings(settings: Settings) -> Any:
    """A client for the endpoint and keys of the settings, created once: creating one takes 0.1 s or more."""
    secret = settings.s3_secret_access_key
    key = (
        settings.s3_endpoint,
        settings.s3_region,
        settings.s3_access_key_id,
        secret.get_secret_value() if secret else None,
    )
    with _lock:
        if key not in _settings_clients:
            import boto3

            _settings_clients[key] = make_client(
                boto3.session.Session(),
                endpoint_url=key[0],
                region_name=key[1],
                aws_access_key_id=key[2],
                aws_secret_access_key=key[3],
            )
        return _settings_clients[key]


class S3Folder:
    """Objects whose keys begin with `prefix`."""

    def __init__(self, bucket: str, prefix: str, settings: Settings) -> None:
        if not bucket:
            raise Rejected("bad_address", "The s3:// address names no bucket.")
        self._bucket = bucket
        self._prefix = f"{prefix}/" if prefix else ""
        self._settings = settings
        if not settings.s3_block:  # blocks are read when they are needed: Prefect may be unavailable now
            self._client()

    def read(self, name: str, limit: int | None = None) -> bytes | None:
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            answer = self._call(
                "GetObject", lambda client: client.get_object(Bucket=self._bucket, Key=self._prefix + name)
            )
            if limit is not None and answer["ContentLength"] > limit:
                raise Rejected("too_large", f"{self.uri(name)} has more than {limit} bytes.")
            data: bytes = answer["Body"].read()
            return data
        except (ClientError, BotoCoreError) as error:
            if _status(error) == 404 and _code(error) != "NoSuchBucket":
                return None
            raise self._to_error(error) from error

    def write(self, name: str, data: bytes, media_type: str, headers: ObjectHeaders | None = None) -> str:
        from botocore.exceptions import BotoCoreError, ClientError

        extra = self._arguments(media_type, headers)
        try:
            self._call(
                "PutObject",
                lambda client: client.put_object(
                    Bucket=self._bucket, Key=self._prefix + name, Body=data, **extra
                ),
            )
        except (ClientError, BotoCoreError) as error:
            raise self._to_error(error) from error
        return self.uri(name)

    def create(self, name: str, data: bytes, media_type: str) -> bool:
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            self._call(
                "PutObject",
                lambda client: client.put_object(
                    Bucket=self._bucket,
                    Key=self._prefix + name,
                    Body=data,
                    IfNoneMatch="*",
                    **self._arguments(media_type, None),
                ),
            )
        except (ClientError, BotoCoreError) as error:
            if _status(error) in (409, 412):  # 409: another client is writing it at this moment
                return False
            raise self._to_error(error) from error
        return True

    def exists(self, name: str) -> bool:
        return self.info(name) is not None

    def info(self, name: str) -> FileInfo | None:
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            head = self._call(
                "HeadObject", lambda client: client.head_object(Bucket=self._bucket, Key=self._prefix + name)
            )
        except (ClientError, BotoCoreError) as error:
            # Without the right to list, S3 answers 403 for a missing object. Writing shows other causes.
            if _status(error) in (403, 404):
                return None
            raise self._to_error(error) from error
        return _info(name, head["ContentLength"], head)

    def touch(self, name: str) -> None:
        """Do nothing: lifecycle rules of a bucket depend on the time of writing."""

    def delete(self, name: str) -> None:
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            self._call(
                "DeleteObject",
                lambda client: client.delete_object(Bucket=self._bucket, Key=self._prefix + name),
            )
        except (ClientError, BotoCoreError) as error:
            raise self._to_error(error) from error

    def files(self, under: str = "") -> Iterator[FileInfo]:
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            token: dict[str, str] = {}
            while True:
                page = self._call("ListObjectsV2", partial(self._list, under, token))
                for entry in page.get("Contents", ()):
                    name = str(entry["Key"]).removeprefix(self._prefix)
                    if not name.endswith("/"):
                        yield _info(name, entry["Size"], entry)
                if not page.get("IsTruncated"):
                    return
                token = {"ContinuationToken": page["NextContinuationToken"]}
        except (ClientError, BotoCoreError) as error:
            raise self._to_error(error) from error

    def _list(self, under: str, token: Mapping[str, str], client: Any) -> Any:
        """One page of the listing of a prefix."""
        return client.list_objects_v2(Bucket=self._bucket, Prefix=self._prefix + under, **token)

    def download(self, name: str, path: Path) -> None:
        """Write the object to a local file."""
        from boto3.exceptions import Boto3Error
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            self._call(
                "GetObject", lambda client: client.download_file(self._bucket, self._prefix + name, str(path))
            )
        except Boto3Error as error:
            raise Transient(
                "s3_unavailable", f"The transfer of {self.uri(name)} broke off ({type(error).__name__})."
            ) from error
        except OSError as error:
            raise Misconfigured(
                "disk_full" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "not_writable",
                f"{self.uri(name)} cannot be copied to {path.parent} ({error.strerror or type(error).__name__}).",
            ) from error
        except (ClientError, BotoCoreError) as error:
            if _status(error) == 404 and _code(error) != "NoSuchBucket":
                raise Rejected("not_found", f"There is no object {self.uri(name)}.") from error
            raise self._to_error(error) from error

    def is_ours(self, name: str) -> bool:
        """Was this existing object written by `upload`?"""
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            head = self._call(
                "HeadObject", lambda client: client.head_object(Bucket=self._bucket, Key=self._prefix + name)
            )
        except (ClientError, BotoCoreError) as error:
            raise self._to_error(error) from error
        return bool(_UPLOAD_METADATA.items() <= head.get("Metadata", {}).items())

    def upload(self, path: Path, name: str, media_type: str, headers: ObjectHeaders | None = None) -> str:
        """Publish a local file, in parts if it is large. Readers see the complete object or none."""
        from boto3.exceptions import Boto3Error
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            self._call(
                "PutObject",
                lambda client: client.upload_file(
                    str(path),
                    self._bucket,
                    self._prefix + name,
                    ExtraArgs=self._upload_arguments(media_type, headers),
                ),
            )
        except Boto3Error as error:
            raise self._to_error(error.__cause__ or error.__context__ or error) from error
        except (ClientError, BotoCoreError) as error:
            raise self._to_error(error) from error
        return self.uri(name)

    def copy_from(
        self, source: "S3Folder", name: str, to: str, media_type: str, headers: ObjectHeaders | None = None
    ) -> str:
        """Copy an object that `upload` wrote in `source` to the name `to` here, without transferring it through this machine.

        Raises:
            Transient, Misconfigured: the bucket did not answer or refused.
        """
        from boto3.exceptions import Boto3Error
        from botocore.exceptions import BotoCoreError, ClientError

        place = {"Bucket": source._bucket, "Key": source._prefix + name}
        # A copy in parts has only the metadata that are given here.
        metadata = {**self._upload_arguments(media_type, headers), "MetadataDirective": "REPLACE"}
        try:
            self._call(
                "CopyObject",
                lambda client: client.copy(place, self._bucket, self._prefix + to, ExtraArgs=metadata),
            )
        except Boto3Error as error:
            raise self._to_error(error.__cause__ or error.__context__ or error) from error
        except (ClientError, BotoCoreError) as error:
            raise self._to_error(error) from error
        return self.uri(to)

    def presigned_url(self, name: str, seconds: int) -> str:
        """An address of the object that works without credentials for `seconds`, at most 604,800 (7 days).

        Raises:
            Transient, Misconfigured: there are no credentials to sign with.
        """
        from botocore.exceptions import BotoCoreError, ClientError

        place = {"Bucket": self._bucket, "Key": self._prefix + name}
        try:
            return str(self._client().generate_presigned_url("get_object", Params=place, ExpiresIn=seconds))
        except (ClientError, BotoCoreError) as error:
            raise self._to_error(error) from error

    def _upload_arguments(self, media_type: str, headers: ObjectHeaders | None) -> dict[str, Any]:
        """As `_arguments`, with the metadata of `upload`."""
        extra = self._arguments(media_type, headers)
        return {**extra, "Metadata": {**extra.get("Metadata", {}), **_UPLOAD_METADATA}}

    def _arguments(self, media_type: str, headers: ObjectHeaders | None) -> dict[str, Any]:
        """Headers, encryption, storage class and ACL of a new object, as arguments of boto3.

        ACL and storage class are for published objects: the originals in the store must not become public.
        """
        settings = self._settings
        extra: dict[str, Any] = {"ContentType": media_type}
        if settings.s3_encryption is not None:
            extra["ServerSideEncryption"] = settings.s3_encryption
        if settings.s3_encryption == "aws:kms" and settings.s3_kms_key is not None:
            extra["SSEKMSKeyId"] = settings.s3_kms_key
        if headers is None:
            return extra
        extra |= {"CacheControl": headers.cache_control, "Metadata": headers.metadata}
        if headers.content_disposition is not None:
            extra["ContentDisposition"] = headers.content_disposition
        if headers.is_published and settings.s3_storage_class is not None:
            extra["StorageClass"] = settings.s3_storage_class
        if headers.is_published and settings.s3_acl is not None:
            extra["ACL"] = settings.s3_acl
        return extra

    def check_usable(self) -> None:
        """List one object. A bucket that allows writing but not listing passes; wrong credentials do not."""
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            self._call(
                "ListObjectsV2",
                lambda client: client.list_objects_v2(Bucket=self._bucket, Prefix=self._prefix, MaxKeys=1),
            )
        except (ClientError, BotoCoreError) as error:
            if _code(error) != "AccessDenied":
                raise self._to_error(error) from error

    def uri(self, name: str) -> str:
        return f"s3://{self._bucket}/{self._prefix}{name}"

    @property
    def _credentials(self) -> str:
        """Where the credentials come from, for an error message."""
        blocks = ", ".join(self._settings.s3_block)
        return f"the blocks {blocks}" if blocks else "S3_ACCESS_KEY_ID and S3_SECRET_ACCESS_KEY"

    def _client(self) -> Any:
        """The client at this moment: keys in a block of Prefect change while a process runs.

        Raises:
            Misconfigured: `no_s3_block`.
        """
        found = _bucket_clients.client_for(self._bucket) if _bucket_clients is not None else None
        if found is not None:
            return found
        if self._settings.s3_block and _bucket_clients is None:
            raise Misconfigured(
                "no_s3_block",
                "PANELWORKS_S3_BLOCK names blocks of Prefect, which only the pipeline reads; here, set S3_ACCESS_KEY_ID"
                " and S3_SECRET_ACCESS_KEY instead.",
            )
        return _client_of_settings(self._settings)

    def _call(self, operation: str, request: Callable[[Any], T]) -> T:
        """Send a request, as a span with the name of S3's operation; a transfer in parts is one span.

        The request is sent once more with renewed credentials if the bucket denies access.
        """
        names = {"rpc.system": "aws-api", "rpc.service": "S3", "rpc.method": operation}
        names["aws.s3.bucket"] = self._bucket
        with trace_span(
            f"S3.{operation}", kind="client", below=True, standard=names, code_of=_unexpected_code
        ) as span:
            try:
                return self._send(request)
            except Exception as error:
                span.set_standard({"http.response.status_code": _status(error)})
                raise

    def _send(self, request: Callable[[Any], T]) -> T:
        from boto3.exceptions import Boto3Error
        from botocore.exceptions import ClientError

        try:
            return request(self._client())
        except (ClientError, Boto3Error) as error:
            denied = error if isinstance(error, ClientError) else error.__cause__ or error.__context__
            if _bucket_clients is None or denied is None or _status(denied) not in (401, 403):
                raise
            renewed = _bucket_clients.renewed_client_for(self._bucket)
            if renewed is None:
                raise
        return request(renewed)

    def _to_error(self, error: BaseException) -> PanelworksError:
        status, code = _status(error), _code(error)
        if code == "NoSuchBucket" or status == 404:
            return Misconfigured("no_bucket", f"There is no bucket {self._bucket}.")
        if code == "ParamValidationError":
            return Rejected("bad_address", f"s3://{self._bucket} with this key is not a valid S3 address.")
        if status in (401, 403) or any(word in code for word in _CREDENTIALS):
            return Misconfigured(
                "s3_denied",
                f"The bucket {self._bucket} denies access; check {self._credentials}.",
            )
        if status is not None and 400 <= status < 500 and status != 429:
            return Misconfigured("s3_refused", f"The bucket {self._bucket} answered {code}.")
        return Transient("s3_unavailable", f"The bucket {self._bucket} did not answer ({code}).")


def _info(name: str, size: int, found: Mapping[str, Any]) -> FileInfo:
    """The information about an object in a listing or in a HEAD response."""
    return FileInfo(name, int(size), str(found["ETag"]).strip('"'), found["LastModified"].timestamp())


def _status(error: BaseException) -> int | None:
    response: dict[str, Any] = getattr(error, "response", None) or {}
    status = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    return int(status) if status is not None else None


def _unexpected_code(error: Exception) -> str | None:
    """The code of an error; None if it tells only that an object is missing or exists."""
    return None if _status(error) in (404, 409, 412) else _code(error)


def _code(error: BaseException) -> str:
    response: dict[str, Any] = getattr(error, "response", None) or {}
    return str(response.get("Error", {}).get("Code") or type(error).__name__)
