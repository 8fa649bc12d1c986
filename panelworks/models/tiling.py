"""Running a network over pictures of any size, tile by tile, without a seam.

All tiles of a picture have the same size, so that several can be computed at once, also those of
neighbouring pages. Each overlaps its neighbours by a margin, and neighbouring results are cross-faded
over a short zone in the middle of the overlap. The fade weights are linear ramps that sum to one, so
no weight picture is needed, and only a tile and the fade zones around it are held in floating point.
"""

import logging
import math
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np

from panelworks.errors import Invalid, ResourceExhausted
from panelworks.models.network import Network, Tensor
from panelworks.pictures.picture import Pixels
from panelworks.progress import Progress, ignore_progress

logger = logging.getLogger(__name__)
FADE: Final = 8
"""Half width of the cross-fade between tiles, in source pixels."""
SMALLEST_TILE: Final = 32
"""Below this side, in source pixels, a tile is not halved any more."""
_DEAD: Final = 0.5 / 255
_ALIVE: Final = 12 / 255


@dataclass(frozen=True)
class Span:
    """One tile along one axis, in source pixels."""

    core: tuple[int, int]
    """Start and end of the part that this tile is responsible for."""
    reach: tuple[int, int]
    """Start and end of what the network is given."""
    fade: tuple[int, int]
    """Start and end of what is kept: the core and its fade zones."""


def spans(length: int, tile: int, margin: int, window: int | None = None, alignment: int = 1) -> list[Span]:
    """Cover `length` pixels with tiles that all reach over equally many.

    Args:
        length: Pixels of the axis.
        tile: Side of a tile without its margins.
        margin: What a tile must know on either side.
        window: What a tile reaches over, where the network decides that; else tile and margins.
        alignment: Tiles begin at multiples of this, for networks that halve pictures on their way. The last
            tile is then up to so many pixels smaller than the others.
    """
    overlap = 2 * (margin + FADE)
    if length <= (window or tile + overlap):
        return [Span((0, length), (0, length), (0, length))]
    count = -(-(length - overlap) // (window - overlap if window else tile))
    size = window or -(-(length - overlap) // count) + overlap  # no larger than so many tiles must be
    starts = [round(index * (length - size) / (count - 1)) for index in range(count)]
    starts = [-(-start // alignment) * alignment for start in starts]
    borders = [0, *((left + size + right) // 2 for left, right in pairwise(starts)), length]
    return [
        Span(core, (start, min(length, start + size)), (max(0, core[0] - FADE), min(length, core[1] + FADE)))
        for start, core in zip(starts, pairwise(borders), strict=True)
    ]


def samples_of(network: Network, pixels: Pixels, tile: int, most: int = 9) -> Iterator[Tensor]:
    """Up to `most` tiles, spread evenly over a page, as the network is given them."""
    canvas = _Canvas(network, pixels, tile)
    count = min(most, len(canvas))
    for index in range(count):
        yield canvas.source(index * (len(canvas) - 1) // max(1, count - 1))


def run_tiled(network: Network, pixels: Pixels, tile: int, progress: Progress = ignore_progress) -> Pixels:
    """The enlarged picture, HxWxC uint8 to (H*scale)x(W*scale)xC uint8. Raises as `run_pages` does."""
    return next(run_pages(network, [pixels], tile, progress=progress))


def run_pages(
    network: Network, pages: Sequence[Pixels], tile: int, batch: int = 1, progress: Progress = ignore_progress
) -> Iterator[Pixels]:
    """The enlarged pages, one after the other; tiles of neighbouring pages share a batch.

    When memory runs out, batch and then tile are halved, and the pages not yet given are begun again.

    Args:
        network: What enlarges.
        pages: HxWxC uint8 each.
        tile: Side of a tile without its margins, in source pixels.
        batch: Tiles computed at once.
        progress: Hears of the share of all tiles that is done.

    Raises:
        ResourceExhausted: not even the smallest tile fits.
        Invalid: `bad_tile`, the network returned NaN, infinity, or an empty tile for a drawn one.
    """
    given = 0
    while given < len(pages):
        try:
            for page in _enlarged(network, pages[given:], tile, batch, progress):
                yield page
                given += 1
        except ResourceExhausted:
            if batch > 1:
                batch //= 2
            elif network.window is None and tile // 2 >= SMALLEST_TILE:
                tile //= 2
            else:
                raise
            logger.warning(
                "out of memory on %s: going on with %d tiles of %d pixels", network.device, batch, tile
            )


def _enlarged(
    network: Network, pages: Sequence[Pixels], tile: int, batch: int, progress: Progress
) -> Iterator[Pixels]:
    canvases = deque(_Canvas(network, pixels, tile) for pixels in pages)
    tiles = [(canvas, number) for canvas in canvases for number in range(len(canvas))]
    waiting: list[tuple[_Canvas, int, Tensor]] = []
    for done, (canvas, number) in enumerate(tiles):
        prepared = canvas.source(number)
        if waiting and (len(waiting) == batch or waiting[0][2].shape != prepared.shape):
            _paint(network, waiting)
            waiting.clear()
            progress(done / len(tiles))
            while canvases[0].finished:
                yield canvases.popleft().result
        waiting.append((canvas, number, prepared))
    _paint(network, waiting)
    progress(1.0)
    for canvas in canvases:
        yield canvas.result


def _paint(network: Network, waiting: "list[tuple[_Canvas, int, Tensor]]") -> None:
    """Compute the tiles that wait, and put the results in their places."""
    outputs = network(np.concatenate([prepared for _, _, prepared in waiting]))
    for (canvas, number, prepared), output in zip(waiting, outputs, strict=True):
        canvas.paint(number, prepared[0], output.transpose(1, 2, 0))


class _Canvas:
    """One page on its way: its tiles in reading order, and what is painted of the result.

    In floating point are kept the tile just computed, what its right neighbour fades into, and what the
    next row of tiles fades into: a few rows of the page. All else is final, and written as bytes.
    """

    def __init__(self, network: Network, pixels: Pixels, tile: int) -> None:
        self._network, self._pixels = network, pixels
        self._height, self._width, self._depth = pixels.shape
        grid = network.margin, network.window, network.alignment
        self._rows, self._columns = spans(self._height, tile, *grid), spans(self._width, tile, *grid)
        self._result: Pixels | None = None
        self._above, self._below = self._strip(0), self._strip(0)
        self._beside = np.zeros((0, 0, network.channels), dtype=np.float32)
        self.finished = False

    def __len__(self) -> int:
        return len(self._rows) * len(self._columns)

    @property
    def result(self) -> Pixels:
        """The enlarged page, once it is finished."""
        if self._result is None or not self.finished:
            raise RuntimeError("the page is not finished")
        return self._result

    def source(self, number: int) -> Tensor:
        """What the network is given for a tile, 1xCxHxW in [0, 1]."""
        row, column = self._place(number)
        part = self._pixels[row.reach[0] : row.reach[1], column.reach[0] : column.reach[1]]
        window = self._network.window
        if window is not None:
            missing = (window - part.shape[0], window - part.shape[1])
            part = np.pad(part, ((0, missing[0]), (0, missing[1]), (0, 0)), mode="edge")
        return _prepared(part, self._network.channels)

    def paint(self, number: int, source: Tensor, output: Tensor) -> None:
        """Take the next tile's result, HxWxC; tiles come in reading order."""
        row, column = self._place(number)
        _refuse_bad(source, output, row, column)
        if self._result is None:
            scale = self._network.scale
            shape = (self._height * scale, self._width * scale, self._depth)
            self._result = np.empty(shape, dtype=np.uint8)
        if column is self._columns[0]:
            self._begin_row(row)
        self._write(row, column, self._faded(row, column, output), self._result)
        self.finished = number + 1 == len(self)

    def _begin_row(self, row: Span) -> None:
        self._above = self._below
        self._below = self._strip(row.fade[1] - self._final(self._rows, row))
        self._beside = self._beside[:, :0]

    def _faded(self, row: Span, column: Span, output: Tensor) -> Tensor:
        """What is kept of a tile's result, weighted for the cross-fade, with its left neighbour's part added."""
        scale = self._network.scale
        top, bottom = ((edge - row.reach[0]) * scale for edge in row.fade)
        left, right = ((edge - column.reach[0]) * scale for edge in column.fade)
        kept = np.clip(output[top:bottom, left:right], 0.0, 1.0).astype(np.float32)
        kept *= _ramp(row, self._height, scale)[:, None, None]
        kept *= _ramp(column, self._width, scale)[None, :, None]
        if self._beside.shape[1]:
            kept[:, : self._beside.shape[1]] += self._beside
        return kept

    def _write(self, row: Span, column: Span, kept: Tensor, result: Pixels) -> None:
        """Write what is final of a tile, and hold back what its right and lower neighbours fade into."""
        scale = self._network.scale
        left, right = column.fade[0] * scale, self._final(self._columns, column) * scale
        top, bottom = row.fade[0] * scale, self._final(self._rows, row) * scale
        self._beside = kept[:, right - left :].copy()
        done = kept[:, : right - left]
        done[: self._above.shape[0]] += self._above[:, left:right]
        self._below[:, left:right] = done[bottom - top :]
        result[top:bottom, left:right] = _quantised(done[: bottom - top], self._depth)

    def _final(self, along: list[Span], span: Span) -> int:
        """Up to where nothing is added any more after this tile, in source pixels."""
        index = along.index(span)
        return span.fade[1] if index + 1 == len(along) else along[index + 1].fade[0]

    def _strip(self, rows: int) -> Tensor:
        """Zeros over the width of the page, `rows` source pixels high."""
        scale = self._network.scale
        return np.zeros((rows * scale, self._width * scale, self._network.channels), dtype=np.float32)

    def _place(self, number: int) -> tuple[Span, Span]:
        row, column = divmod(number, len(self._columns))
        return self._rows[row], self._columns[column]


def _prepared(source: Pixels, channels: int) -> Tensor:
    tensor = source.astype(np.float32) / np.float32(255)
    if channels == 3 and tensor.shape[2] == 1:
        tensor = tensor.repeat(3, axis=2)
    elif channels == 1 and tensor.shape[2] == 3:
        tensor = tensor @ np.array([[0.299], [0.587], [0.114]], dtype=np.float32)
    return np.ascontiguousarray(tensor.transpose(2, 0, 1)[None])


def _refuse_bad(source: Tensor, output: Tensor, row: Span, column: Span) -> None:
    place = f"the tile at {column.core[0]},{row.core[0]}"
    if not np.isfinite(output).all():
        raise Invalid("bad_tile", f"The network returned numbers that are none for {place}.")
    if float(output.max() - output.min()) < _DEAD and float(source.max() - source.min()) > _ALIVE:
        raise Invalid("bad_tile", f"The network returned an empty picture for {place}.")


def _ramp(span: Span, length: int, scale: int) -> Tensor:
    """Weights of the kept part along one axis: rising and falling over the fade zones, 1 between."""
    weights = np.ones((span.fade[1] - span.fade[0]) * scale, dtype=np.float32)
    if span.core[0] > 0:
        zone = (span.core[0] + FADE - span.fade[0]) * scale
        weights[:zone] = _rise(zone)
    if span.core[1] < length:
        zone = (span.fade[1] - span.core[1] + FADE) * scale
        weights[-zone:] *= 1 - _rise(zone)
    return weights


def _rise(count: int) -> Tensor:
    """A ramp from 0 to 1, symmetric so that it and its mirror image sum to one."""
    return ((np.arange(count, dtype=np.float32) + np.float32(0.5)) / np.float32(count)).astype(np.float32)


def _quantised(band: Tensor, channels: int) -> Pixels:
    if channels == 1 and band.shape[2] == 3:
        band = band.mean(axis=2, keepdims=True)
    elif channels == 3 and band.shape[2] == 1:
        band = band.repeat(3, axis=2)
    return np.rint(np.clip(band, 0, 1) * 255).astype(np.uint8)


_SHARE: Final = 0.25
"""Share of the free memory that one batch may take; the estimate of a network's needs is rough."""
_CPU_BYTES: Final = 512 * 2**20
"""Working memory from which larger tiles gain nothing on a CPU (`python -m benchmarks.tiles`)."""
_LARGEST: Final = 960
_STEP: Final = 32
_BATCH: Final = 8
_GPU_PIXELS: Final = 512 * 512
"""Pixels, over all tiles of a batch, that keep a GPU busy."""


def tile_for(network: Network, chosen: int | None) -> int:
    """Side of a tile without margins, in source pixels: `chosen`, or what suits memory and device."""
    if chosen is not None:
        return chosen
    room = network.free_memory() * _SHARE
    if network.device in ("cpu", "openvino"):
        room = min(room, _CPU_BYTES)
    side = math.isqrt(max(1, int(room / network.bytes_per_pixel))) - 2 * (network.margin + FADE)
    return max(SMALLEST_TILE, min(_LARGEST, side // _STEP * _STEP))


def batch_for(network: Network, tile: int) -> int:
    """Tiles at once: several small ones keep a GPU busy; a CPU is busy with one."""
    if network.device in ("cpu", "openvino"):
        return 1
    pixels = (network.window or tile + 2 * (network.margin + FADE)) ** 2
    fitting = network.free_memory() * _SHARE / (pixels * network.bytes_per_pixel)
    return max(1, min(_BATCH, int(fitting), -(-_GPU_PIXELS // pixels)))
