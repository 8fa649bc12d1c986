"""The content-addressed store: a picture's name is the SHA-256 of its bytes."""

import hashlib
from typing import Final, Protocol

from panelworks.errors import ObjectMissing
from panelworks.pictures.formats import EXTENSIONS
from panelworks.records import ArtifactRef
from panelworks.store.folder import ObjectFolder

_ANY: Final = "application/octet-stream"


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
        if self._folder.exists(name):
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
        """The bytes of a picture.

        Raises:
            ObjectMissing: the store was cleared since.
        """
        data = self._small_file(artifact)
        if data is None:
            data = self._folder.read(_name(artifact.sha256, artifact.media_type))
        if data is None:
            raise ObjectMissing("object_missing", f"The stored object {artifact.uri} is gone.")
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
        """The bytes with this SHA-256, None when they are not here."""
        return self._folder.read(_name(digest, media_type))

    def _small_file(self, artifact: ArtifactRef) -> bytes | None:
        return self._small.get_file(artifact.sha256) if artifact.bytes <= self._small_bytes else None


def _name(digest: str, media_type: str) -> str:
    return f"objects/{digest[:2]}/{digest}.{EXTENSIONS.get(media_type, 'bin')}"
