"""Results of a network's tiles, which the next frames of an animation use again."""

import hashlib
from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from panelworks.models.network import Tensor

MAX_AGE_FRAMES: Final = 2
"""A tile that this number of frames did not contain is removed."""


@dataclass
class _Tile:
    result: npt.NDArray[np.float16]
    frame: int
    """The last frame that contained it."""


class TileCache:
    """The tiles of the last frames by the digest of their input: what did not change is not computed again.

    Results are kept in half precision, which changes a value by 0.06 levels at most. The same rounding applies to a tile that
    is computed, so that an unchanged part of the picture has the same pixels in all frames. For one thread.
    """

    def __init__(self, max_bytes: int) -> None:
        """`max_bytes` limits the results. When it is reached, tiles of the last two frames have precedence over new ones."""
        self._max_bytes: Final = max_bytes
        self._tiles: OrderedDict[bytes, _Tile] = OrderedDict()
        self._bytes = 0
        self._frame = 0
        self.computed = 0
        """Number of tiles that were not found."""
        self.reused = 0
        """Number of tiles that were found."""

    def begin_frame(self) -> None:
        """The next tiles belong to the next frame."""
        self._frame += 1
        self._remove_older_than(self._frame - MAX_AGE_FRAMES)

    def find(self, prepared: Tensor) -> Tensor | None:
        """The result for an input, 1xCxHxW, as CxHxW that the caller may modify; None if it is not known."""
        key = _digest(prepared)
        tile = self._tiles.get(key)
        if tile is None:
            return None
        self.reused += 1
        tile.frame = self._frame
        self._tiles.move_to_end(key)
        return tile.result.astype(np.float32)

    def add(self, prepared: Tensor, result: Tensor) -> Tensor:
        """Keep a computed result, CxHxW, if there is room; returns it with the rounding of kept results."""
        self.computed += 1
        with np.errstate(over="ignore"):  # a value that is out of range fails the check of the tile
            rounded = result.astype(np.float16)
        if self._bytes + rounded.nbytes > self._max_bytes:
            self._remove_older_than(self._frame - 1)
        if self._bytes + rounded.nbytes <= self._max_bytes:
            self._tiles[_digest(prepared)] = _Tile(rounded, self._frame)
            self._bytes += rounded.nbytes
        return rounded.astype(np.float32)

    def _remove_older_than(self, frame: int) -> None:
        while self._tiles:
            key, tile = next(iter(self._tiles.items()))
            if tile.frame >= frame:
                return
            del self._tiles[key]
            self._bytes -= tile.result.nbytes


def _digest(prepared: Tensor) -> bytes:
    digest = hashlib.blake2b(repr(prepared.shape).encode(), digest_size=20)
    digest.update(np.ascontiguousarray(prepared).data)
    return digest.digest()
