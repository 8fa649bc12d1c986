"""A prefix of an S3 bucket. Objects are published by a single PUT."""

import errno
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from panelworks.errors import Misconfigured, PanelworksError, Rejected, Transient
from panelworks.settings import Settings
from panelworks.storage.folder import FileInfo

if TYPE_CHECKING:
    from botocore.client import BaseClient

_CREDENTIALS: Final = ("Credential", "Token", "SSO", "Profile", "NoRegion")
"""Parts of the names of botocore's errors about credentials."""
_UPLOAD_METADATA: Final = {"made-by": "panelworks"}
"""Metadata of the files that `upload` writes. Other files are never replaced."""
_clients: dict[tuple[str | None, ...], "BaseClient"] = {}
_lock = threading.Lock()


def _client(settings: Settings) -> Any:
    """A boto3 client for the configured endpoint, created once: creating one takes 0.1 s or more."""
    secret = settings.s3_secret_access_key
    key = (
        settings.s3_endpoint,
        settings.s3_region,
        settings.s3_access_key_id,
        secret.get_secret_value() if secret else None,
    )
    with _lock:
        if key not in _clients:
            import boto3
            from botocore.config import Config

            _clients[key] = boto3.session.Session().client(
                "s3",
                endpoint_url=key[0],
                region_name=key[1],
                aws_access_key_id=key[2],
                aws_secret_access_key=key[3],
                config=Config(
                    retries={"mode": "standard", "max_attempts": 3}, connect_timeout=10, read_timeout=60
                ),
            )
        return _clients[key]


class S3Folder:
    """Objects whose keys begin with `prefix`."""

    def __init__(self, bucket: str, prefix: str, settings: Settings) -> None:
        if not bucket:
            raise Rejected("bad_address", "The s3:// address names no bucket.")
        self._bucket = bucket
        self._prefix = f"{prefix}/" if prefix else ""
        self._client = _client(settings)

    def read(self, name: str, limit: int | None = None) -> bytes | None:
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            answer = self._client.get_object(Bucket=self._bucket, Key=self._prefix + name)
            if limit is not None and answer["ContentLength"] > limit:
                raise Rejected("too_large", f"{self.uri(name)} has more than {limit} bytes.")
            data: bytes = answer["Body"].read()
            return data
        except (ClientError, BotoCoreError) as error:
            if _status(error) == 404 and _code(error) != "NoSuchBucket":
                return None
            raise self._to_error(error) from error

    def write(self, name: str, data: bytes, media_type: str) -> str:
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            self._client.put_object(
                Bucket=self._bucket, Key=self._prefix + name, Body=data, ContentType=media_type
            )
        except (ClientError, BotoCoreError) as error:
            raise self._to_error(error) from error
        return self.uri(name)

    def create(self, name: str, data: bytes, media_type: str) -> bool:
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            self._client.put_object(
                Bucket=self._bucket,
                Key=self._prefix + name,
                Body=data,
                ContentType=media_type,
                IfNoneMatch="*",
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
            head = self._client.head_object(Bucket=self._bucket, Key=self._prefix + name)
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
            self._client.delete_object(Bucket=self._bucket, Key=self._prefix + name)
        except (ClientError, BotoCoreError) as error:
            raise self._to_error(error) from error

    def files(self, under: str = "") -> Iterator[FileInfo]:
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            pages = self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self._bucket, Prefix=self._prefix + under
            )
            for page in pages:
                for entry in page.get("Contents", ()):
                    name = str(entry["Key"]).removeprefix(self._prefix)
                    if not name.endswith("/"):
                        yield _info(name, entry["Size"], entry)
        except (ClientError, BotoCoreError) as error:
            raise self._to_error(error) from error

    def download(self, name: str, path: Path) -> None:
        """Write the object to a local file."""
        from boto3.exceptions import Boto3Error
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            self._client.download_file(self._bucket, self._prefix + name, str(path))
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
            head = self._client.head_object(Bucket=self._bucket, Key=self._prefix + name)
        except (ClientError, BotoCoreError) as error:
            raise self._to_error(error) from error
        return bool(head.get("Metadata") == _UPLOAD_METADATA)

    def upload(self, path: Path, name: str, media_type: str) -> str:
        """Publish a local file, in parts if it is large. Readers see the complete object or none."""
        from boto3.exceptions import Boto3Error
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            self._client.upload_file(
                str(path),
                self._bucket,
                self._prefix + name,
                ExtraArgs={"ContentType": media_type, "Metadata": _UPLOAD_METADATA},
            )
        except Boto3Error as error:
            raise self._to_error(error.__cause__ or error.__context__ or error) from error
        except (ClientError, BotoCoreError) as error:
            raise self._to_error(error) from error
        return self.uri(name)

    def check_usable(self) -> None:
        """List one object. A bucket that allows writing but not listing passes; wrong credentials do not."""
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            self._client.list_objects_v2(Bucket=self._bucket, Prefix=self._prefix, MaxKeys=1)
        except (ClientError, BotoCoreError) as error:
            if _code(error) != "AccessDenied":
                raise self._to_error(error) from error

    def uri(self, name: str) -> str:
        return f"s3://{self._bucket}/{self._prefix}{name}"

    def _to_error(self, error: BaseException) -> PanelworksError:
        status, code = _status(error), _code(error)
        if code == "NoSuchBucket" or status == 404:
            return Misconfigured("no_bucket", f"There is no bucket {self._bucket}.")
        if code == "ParamValidationError":
            return Rejected("bad_address", f"s3://{self._bucket} with this key is not a valid S3 address.")
        if status in (401, 403) or any(word in code for word in _CREDENTIALS):
            return Misconfigured(
                "s3_denied",
                f"The bucket {self._bucket} denies access; check S3_ACCESS_KEY_ID and S3_SECRET_ACCESS_KEY.",
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


def _code(error: BaseException) -> str:
    response: dict[str, Any] = getattr(error, "response", None) or {}
    return str(response.get("Error", {}).get("Code") or type(error).__name__)
