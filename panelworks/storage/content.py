"""The content-addressed store: a picture's name is the SHA-256 of its bytes."""

import hashlib
import logging
from typing import Final, Protocol

from panelworks.domain.formats import EXTENSIONS
from panelworks.domain.result import ArtifactRef
from panelworks.errors import ObjectMissing, PanelworksError
from panelworks.storage.folder import ObjectFolder

logger = logging.getLogger(__name__)

_ANY: Final = "application/octet-stream"
DAMAGED_PREFIX: Final = "damaged/"
"""Where damaged objects are moved to, for a person to look at."""


class SmallFiles(Protocol):
    """A faster place for small files, which may forget them."""

    def get_file(self, sha256: str) -> bytes | None: ...

    def put_file(self, sha256: str, data: bytes) -> None: ...


class ContentStore:
    """Pictures by content, written once. Two writers of the same bytes do not disturb each other."""

    def __init__(self, folder: ObjectFolder, small: SmallFiles, small_bytes: int) -> None:
        """Derivatives of at most `small_bytes` are kept in `small` as well."""
        self._folder = folder
        self._small = small
        self._small_bytes = small_bytes

    def put(self, data: bytes, media_type: str, size: tuple[int, int]) -> ArtifactRef:
        """Keep an encoded picture of `size` (width, height); returns how to find it again."""
        digest = hashlib.sha256(data).hexdigest()
        name = _name(digest, media_type)
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
        """Keep an encoded variant; a small one will be asked for often, and soon."""
        artifact = self.put(data, media_type, size)
        if len(data) <= self._small_bytes:
            self._small.put_file(artifact.sha256, data)
        return artifact

    def put_file(self, data: bytes) -> ArtifactRef:
        """Keep bytes that are no picture, or none that we read."""
        return self.put(data, _ANY, (0, 0))

    def get(self, artifact: ArtifactRef) -> bytes:
        """The bytes of a picture; their hash is verified.

        Raises:
            ObjectMissing: the store was cleared since, or what it holds is damaged; it was moved aside.
        """
        data = self._small_file(artifact)
        if data is None:
            data = self.read_named(artifact.sha256, artifact.media_type)
        if data is None:
            raise ObjectMissing("object_missing", f"The stored object {artifact.uri} is missing or damaged.")
        return data

    def has(self, artifact: ArtifactRef) -> bool:
        """Can the picture be had? One that only the faster place remembers is put back."""
        name = _name(artifact.sha256, artifact.media_type)
        if self._folder.exists(name):
            self._folder.touch(name)
            return True
        data = self._small_file(artifact)
        if data is not None:
            self._folder.write(name, data, artifact.media_type)
        return data is not None

    def read_named(self, digest: str, media_type: str) -> bytes | None:
        """The bytes with this SHA-256, None when they are not here; a damaged object is moved aside."""
        name = _name(digest, media_type)
        data = self._folder.read(name)
        if data is None or hashlib.sha256(data).hexdigest() == digest:
            return data
        logger.error("stored object %s is damaged: moved to %s", name, DAMAGED_PREFIX)
        self._quarantine(name, data, media_type)
        return None

    def _quarantine(self, name: str, data: bytes, media_type: str) -> None:
        """Move a damaged object aside, so that the next writer of its content writes it again."""
        try:
            self._folder.write(DAMAGED_PREFIX + name.rpartition("/")[2], data, media_type)
            self._folder.delete(name)
        except PanelworksError as error:
            logger.warning("damaged object %s was not moved aside: %s", name, error)

    def _small_file(self, artifact: ArtifactRef) -> bytes | None:
        if artifact.bytes > self._small_bytes:
            return None
        data = self._small.get_file(artifact.sha256)
        if data is None or hashlib.sha256(data).hexdigest() == artifact.sha256:
            return data
        logger.warning("cached file %s is damaged: the store is read instead", artifact.sha256)
        return None


def _name(digest: str, media_type: str) -> str:
    return f"objects/{digest[:2]}/{digest}.{EXTENSIONS.get(media_type, 'bin')}"
