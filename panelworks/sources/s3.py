"""Reading a page from S3."""

from panelworks.errors import Rejected
from panelworks.settings import Settings
from panelworks.store.s3 import S3Folder


def read_object(bucket: str, key: str, settings: Settings) -> bytes:
    """The object's bytes, at most `settings.max_source_bytes`.

    Raises:
        Rejected: `not_found`, `too_large`.
        Transient, Misconfigured: as the bucket answers.
    """
    data = S3Folder(bucket, "", settings).read(key, limit=settings.max_source_bytes)
    if data is None:
        raise Rejected("not_found", f"There is no object s3://{bucket}/{key}.")
    return data
