"""A folder of named objects, on a disk or in a bucket, behind one protocol."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import unquote

from panelworks.settings import Settings
from panelworks.storage.atomic import sweep
from panelworks.storage.headers import ObjectHeaders
from panelworks.storage.location import Location


@dataclass(frozen=True)
class FileInfo:
    """Information about an object in a listing."""

    name: str
    bytes: int
    version: str
    """Changes with the object: its modification time, or its ETag."""
    changed: float
    """Time of the last write in seconds since 1970, by the clock of the disk or the bucket."""


class ObjectFolder(Protocol):
    """Named objects. Names use `/`. Readers see a complete object or none."""

    def read(self, name: str, limit: int | None = None) -> bytes | None:
        """The bytes of the object; None if it does not exist.

        Raises:
            Rejected: `too_large`, it has more than `limit` bytes.
            Transient, Misconfigured: the folder cannot be read.
        """
        ...

    def write(self, name: str, data: bytes, media_type: str, headers: ObjectHeaders | None = None) -> str:
        """Publish the object, replacing an object of that name; returns its URI. Delivered objects have `headers`."""
        ...

    def create(self, name: str, data: bytes, media_type: str) -> bool:
        """Publish the object unless an object of that name exists. Of several callers exactly one gets True."""
        ...

    def exists(self, name: str) -> bool: ...

    def info(self, name: str) -> FileInfo | None:
        """Size and version of the object; None if it does not exist."""
        ...

    def touch(self, name: str) -> None:
        """Mark the object as recently used, where the folder removes unused objects."""
        ...

    def delete(self, name: str) -> None:
        """Remove the object if it exists."""
        ...

    def files(self, under: str = "") -> Iterator[FileInfo]:
        """All objects whose names begin with `under`, in any order."""
        ...

    def check_usable(self) -> None:
        """Check, without writing anything, whether objects can be written.

        Raises:
            Misconfigured: `not_writable`, `no_bucket`, `s3_denied`, `s3_refused`: writing would fail.
            Transient: `s3_unavailable`, the bucket did not answer.
        """
        ...

    def uri(self, name: str) -> str:
        """The address of an object, even if the object does not exist."""
        ...


def open_folder(place: Location | str, settings: Settings) -> ObjectFolder:
    """The folder at a path, a `file://` or an `s3://bucket/prefix` address."""
    location = place if isinstance(place, Location) else Location.parse(place)
    if location.is_in_bucket:
        from panelworks.storage.s3 import S3Folder

        return S3Folder(location.bucket, location.key.strip("/"), settings)
    from panelworks.storage.local import LocalFolder

    return LocalFolder(location.path)


def name_of(uri: str, folder: ObjectFolder) -> str:
    """The name of an object of the folder, from the address that `ObjectFolder.uri` gave it."""
    name = uri.removeprefix(folder.uri("")).lstrip("/")
    return unquote(name) if uri.startswith("file:") else name


def check_places(places: Iterable[str], settings: Settings) -> None:
    """Check before the work, without writing anything, whether its results can be written to all these places.

    Raises:
        Misconfigured, Transient: as `ObjectFolder.check_usable`.
    """
    for place in dict.fromkeys(places):
        open_folder(place, settings).check_usable()


def sweep_places(settings: Settings, *outs: str) -> int:
    """Remove the temporary files of ended processes from all local folders; returns their number.

    The folders are the cache folder (weights, compiled networks, precision checks, spool, and by default store and
    ledger), the store, the ledger, the default output folder, and `outs`.
    """
    wanted = (
        str(settings.cache_dir),
        settings.store_location,
        settings.ledger_location,
        settings.default_out,
    )
    locations = map(Location.parse, (*wanted, *outs))
    places = {location.absolute_path for location in locations if not location.is_in_bucket}
    return sum(sweep(place) for place in places if not places.intersection(place.parents))
