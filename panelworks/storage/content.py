"""The content-addressed store: a picture's name is the SHA-256 of its bytes."""

import hashlib
import logging
from typing import Final, Protocol

from panelworks.domain.formats import EXTENSIONS
from panelworks.domain.result import ArtifactRef
from panelworks.errors import ObjectMissing, PanelworksError
from panelworks.storage.folder import ObjectFolder

logger = logging.getLogger(__name__)

_ANY_MEDIA_TYPE: Final = "application/octet-stream"
DAMAGED_PREFIX: Final = "damaged/"
"""Damaged objects are moved there, so that a person can examine them."""


class SmallFiles(Protocol):
    """A faster store of small files, which may remove them at any time."""

    def get_file(self, sha256: str) -> bytes | None: ...

    def put_file(self, sha256: str, data: bytes) -> None: ...


class ContentStore:
    """Pictures by content, written once. Two processes may write the same bytes at the same time."""

    def __init__(self, folder: ObjectFolder, small: SmallFiles, small_bytes: int) -> None:
        """Variants of at most `small_bytes` are also stored in `small`."""
        self._folder = folder
        self._small = small
        self._small_bytes = small_bytes

    def put(self, data: bytes, media_type: str, size: tuple[int, int]) -> ArtifactRef:
        """Store an encoded picture of `size` (width, height); returns its reference."""
        digest = hashlib.sha256(data).hexdigest()
        name = object_name(digest, media_type)
        stored = self._folder.info(name)
        if stored is not None and stored.bytes == len(data):
            self._folder.touch(name)
        else:
            self._folder.write(name, data, media_type)
        return ArtifactRef(
            sha256=digest,
            uri=self._folder.uri(name),
            media_type=media_type,
            width=size[0],
            height=size[1],
            bytes=len(data),
        )

    def put_derivative(self, data: bytes, media_type: str, size: tuple[int, int]) -> ArtifactRef:
        """Store an encoded variant. A small one is also stored in the cache, since it is requested often and soon."""
        artifact = self.put(data, media_type, size)
        if len(data) <= self._small_bytes:
            self._small.put_file(artifact.sha256, data)
        return artifact

    def put_file(self, data: bytes) -> ArtifactRef:
        """Store bytes that are not a picture, or not one of a supported format."""
        return self.put(data, _ANY_MEDIA_TYPE, (0, 0))

    def get(self, artifact: ArtifactRef) -> bytes:
        """The bytes of a picture, after their hash was verified.

        Raises:
            ObjectMissing: the store was cleared, or its object is damaged and was moved to `DAMAGED_PREFIX`.
        """
        data = self._small_file(artifact)
        if data is None:
            data = self.read_named(artifact.sha256, artifact.media_type)
        if data is None:
            raise ObjectMissing("object_missing", f"The stored object {artifact.uri} is missing or damaged.")
        return data

    def has(self, artifact: ArtifactRef) -> bool:
        """Is the picture available? A file that only the cache contains is written to the store again."""
        name = object_name(artifact.sha256, artifact.media_type)
        if self._folder.exists(name):
            self._folder.touch(name)
            return True
        data = self._small_file(artifact)
        if data is not None:
            self._folder.write(name, data, artifact.media_type)
        return data is not None

    def read_named(self, digest: str, media_type: str) -> bytes | None:
        """The bytes with this SHA-256; None if there are none. A damaged object is moved to `DAMAGED_PREFIX`."""
        name = object_name(digest, media_type)
        data = self._folder.read(name)
        if data is None or hashlib.sha256(data).hexdigest() == digest:
            return data
        logger.error("stored object %s is damaged: moved to %s", name, DAMAGED_PREFIX)
        self._move_damaged(name, data, media_type)
        return None

    def _move_damaged(self, name: str, data: bytes, media_type: str) -> None:
        """Move a damaged object to `DAMAGED_PREFIX`, so that the next `put` of its content writes it again."""
        try:
            self._folder.write(DAMAGED_PREFIX + name.rpartition("/")[2], data, media_type)
            self._folder.delete(name)
        except PanelworksError as error:
            logger.warning("damaged object %s was not moved: %s", name, error)

    def _small_file(self, artifact: ArtifactRef) -> bytes | None:
        if artifact.bytes > self._small_bytes:
            return None
        data = self._small.get_file(artifact.sha256)
        if data is None or hashlib.sha256(data).hexdigest() == artifact.sha256:
            return data
        logger.warning("cached file %s is damaged: the store is read", artifact.sha256)
        return None


def object_name(digest: str, media_type: str) -> str:
    """The name of a picture in the folder of the store."""
    return f"objects/{digest[:2]}/{digest}.{EXTENSIONS.get(media_type, 'bin')}"
