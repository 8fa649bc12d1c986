"""An in-process cache of decoded pictures, so that neighbouring stages do not decode again."""

import threading
from collections import OrderedDict
from typing import Final

from panelworks.pictures.picture import Picture

_PICTURES_A_PAGE: Final = 4


class PictureMemory:
    """Least-recently-used pictures by SHA-256 of their file, bounded by bytes. Thread-safe."""

    def __init__(self, capacity: int) -> None:
        """`capacity` in bytes; a picture larger than that is not kept."""
        self._capacity = capacity
        self._held = 0
        self._pictures: OrderedDict[str, Picture] = OrderedDict()
        self._lock = threading.Lock()

    def holds_many(self, picture: Picture, pages: int) -> bool:
        """Would so many `pages` in work at the same time, with a few pictures of this size each, all stay here?"""
        return picture.nbytes * pages * _PICTURES_A_PAGE <= self._capacity

    def get(self, sha256: str) -> Picture | None:
        with self._lock:
            picture = self._pictures.get(sha256)
            if picture is not None:
                self._pictures.move_to_end(sha256)
            return picture

    def put(self, sha256: str, picture: Picture) -> None:
        if picture.nbytes > self._capacity:
            return
        with self._lock:
            if sha256 in self._pictures:
                return
            self._pictures[sha256] = picture
            self._held += picture.nbytes
            while self._held > self._capacity:
                _, oldest = self._pictures.popitem(last=False)
                self._held -= oldest.nbytes

    def discard(self, sha256: str) -> None:
        """Free a picture, if it is held."""
        with self._lock:
            picture = self._pictures.pop(sha256, None)
            if picture is not None:
                self._held -= picture.nbytes
