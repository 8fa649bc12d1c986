"""The content-addressed store: a picture's name is the SHA-256 of its bytes."""

import hashlib

from panelworks.errors import ObjectMissing
from panelworks.pictures.formats import EXTENSIONS
from panelworks.records import ArtifactRef
from panelworks.store.folder import ObjectFolder


class ContentStore:
    """Pictures by content, written once. Two writers of the same bytes do not disturb each other."""

    def __init__(self, folder: ObjectFolder) -> None:
        self._folder = folder

    def put(self, data: bytes, media_type: str, size: tuple[int, int]) -> ArtifactRef:
        """Keep an encoded picture of `size` (width, height); returns how to find it again."""
        digest = hashlib.sha256(data).hexdigest()
        name = _name(digest, media_type)
        if not self._folder.exists(name):
            self._folder.write(name, data, media_type)
        return ArtifactRef(
            sha256=digest,
            uri=self._folder.uri(name),
            media_type=media_type,
            width=size[0],
            height=size[1],
            bytes=len(data),
        )

    def get(self, artifact: ArtifactRef) -> bytes:
        """The bytes of a picture.

        Raises:
            ObjectMissing: the store was cleared since.
        """
        data = self._folder.read(_name(artifact.sha256, artifact.media_type))
        if data is None:
            raise ObjectMissing("object_missing", f"The stored object {artifact.uri} is gone.")
        return data

    def has(self, artifact: ArtifactRef) -> bool:
        return self._folder.exists(_name(artifact.sha256, artifact.media_type))


def _name(digest: str, media_type: str) -> str:
    return f"objects/{digest[:2]}/{digest}.{EXTENSIONS[media_type]}"
