"""Reading a page from S3."""

from panelworks.errors import Rejected
from panelworks.settings import Settings
from panelworks.store.s3 import S3Folder, bucket_and_key


def read_object(address: str, settings: Settings) -> bytes:
    """The bytes of `s3://bucket/key`, at most `settings.max_source_bytes`.

    Raises:
        Rejected: `not_found`, `too_large`.
        Transient, Misconfigured: as the bucket answers.
    """
    bucket, key = bucket_and_key(address)
    data = S3Folder(bucket, "", settings).read(key, limit=settings.max_source_bytes)
    if data is None:
        raise Rejected("not_found", f"There is no object {address}.")
    return data
