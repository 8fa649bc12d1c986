"""Pictures of the store as pixels: decoded once, and kept in memory for the stages that follow."""

import uuid
from collections.abc import Iterable
from dataclasses import replace
from typing import Final, Literal

from panelworks import pictures
from panelworks.domain.formats import MEDIA_TYPES
from panelworks.domain.result import ArtifactRef
from panelworks.errors import ObjectMissing
from panelworks.page.animated import without_limits
from panelworks.pictures.animation import Animation, read_animation
from panelworks.pictures.picture import Picture, PictureCache
from panelworks.settings import Settings
from panelworks.storage.content import ContentStore

Destination = Literal["store", "memory"]
"""Where an enhanced picture is for the next stage."""


class StoredPictures:
    """The pictures of the store, and the memory of this process for their pixels."""

    def __init__(self, store: ContentStore, settings: Settings) -> None:
        self._store: Final = store
        self._settings: Final = settings
        self._memory: Final = PictureCache(settings.picture_cache_bytes)

    def get(self, artifact: ArtifactRef) -> Picture:
        """The pixels of a stored picture, from memory if they are there; of an animation, those of its first frame."""
        picture = self._memory.get(artifact.sha256)
        if picture is None:
            picture = self._decoded(artifact).picture
            self._memory.put(artifact.sha256, picture)
        return picture

    def keep(self, sha256: str, picture: Picture) -> None:
        """Keep the pixels of a stored picture in memory."""
        self._memory.put(sha256, picture)

    def notes_on(self, artifact: ArtifactRef) -> tuple[str, ...]:
        """Notes from decoding a stored picture; its pixels stay in memory.

        Raises:
            Rejected: as `pictures.decode`. ObjectMissing: it is not in the store.
        """
        decoded = self._decoded(artifact)
        self._memory.put(artifact.sha256, decoded.picture)
        return decoded.notes

    def animation(self, artifact: ArtifactRef) -> Animation:
        """The complete frames of a stored animation.

        Raises:
            ObjectMissing: it is not in the store, or is no animation.
        """
        animation = read_animation(self._store.get(artifact), without_limits(self._settings))
        if animation is None:
            raise ObjectMissing("object_missing", f"The stored object {artifact.uri} is no animation.")
        return animation.up_to(artifact.frames)

    def put(self, picture: Picture, destination: Destination) -> ArtifactRef:
        """Store a picture as lossless PNG, or keep its pixels in memory if they fit and that is where they are wanted."""
        if destination == "memory" and self._memory.fits_pages(picture, self._settings.book_threads):
            name = uuid.uuid4().hex
            self._memory.put(name, picture)
            return ArtifactRef(
                sha256=name, uri=f"memory:{name}", media_type=MEDIA_TYPES["png"],
                width=picture.width, height=picture.height, bytes=0,
            )  # fmt: skip
        stored = self._store.put(pictures.encode(picture, "png"), MEDIA_TYPES["png"], picture.size)
        self._memory.put(stored.sha256, picture)
        return stored

    def put_animation(self, data: bytes, size: tuple[int, int], frames: int) -> ArtifactRef:
        """Store the file of an animated WebP."""
        return self._store.put(data, MEDIA_TYPES["webp"], size).model_copy(update={"frames": frames})

    def forget(self, artifacts: Iterable[ArtifactRef | None]) -> None:
        """Free the pixels of pictures that are no longer needed."""
        for artifact in artifacts:
            if artifact is not None:
                self._memory.discard(artifact.sha256)

    def _decoded(self, artifact: ArtifactRef) -> pictures.Decoded:
        decoded = pictures.decode(self._store.get(artifact), without_limits(self._settings))
        if artifact.frames == 1:
            return decoded
        return replace(decoded, picture=self.animation(artifact).first(), notes=())
