"""Running a network over pictures of any size in tiles, without visible seams.

All tiles of a picture have the same size, so that several tiles can be computed at once, also tiles of neighbouring
pages. Each tile overlaps its neighbours by a margin. Neighbouring results are cross-faded over a short zone in the
middle of the overlap. The fade weights are linear ramps that sum to one. Therefore no weight picture is needed, and
only one tile and the fade zones around it are in floating point.
"""

import logging
import math
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import cv2
import numpy as np

from panelworks.errors import Invalid, ResourceExhausted
from panelworks.models.network import Network, Tensor
from panelworks.models.tile_cache import TileCache
from panelworks.pictures.picture import Pixels
from panelworks.progress import Progress, ignore_progress

logger = logging.getLogger(__name__)
FADE_PIXELS: Final = 8
"""Half width of the cross-fade between tiles, in source pixels."""
MIN_TILE_PIXELS: Final = 32
"""Smallest side, in source pixels, to which a tile is halved."""
_MAX_EMPTY_RANGE: Final = 0.5 / 255
_MIN_DRAWN_RANGE: Final = 12 / 255


@dataclass(frozen=True)
class Span:
    """One tile along one axis, in source pixels."""

    core: tuple[int, int]
    """Start and end of the part that this tile contributes."""
    reach: tuple[int, int]
    """Start and end of the network's input."""
    fade: tuple[int, int]
    """Start and end of the used part of the output: the core and its fade zones."""


def tile_spans(
    length: int, tile: int, margin: int, window: int | None = None, alignment: int = 1
) -> list[Span]:
    """Cover `length` pixels with tiles of equal input length.

    Args:
        length: Pixels of the axis.
        tile: Side of a tile without its margins.
        margin: Context that a tile needs on either side.
        window: Input length of a tile if the network prescribes it. Default: tile and margins.
        alignment: Tiles start at multiples of this, for networks that halve pictures internally. The last
            tile is then smaller than the others by less than this number of pixels.
    """
    overlap = 2 * (margin + FADE_PIXELS)
    if length <= (window or tile + overlap):
        return [Span((0, length), (0, length), (0, length))]
    count = -(-(length - overlap) // (window - overlap if window else tile))
    size = window or -(-(length - overlap) // count) + overlap  # the smallest size that covers the axis
    starts = [round(index * (length - size) / (count - 1)) for index in range(count)]
    starts = [-(-start // alignment) * alignment for start in starts]
    borders = [0, *((left + size + right) // 2 for left, right in pairwise(starts)), length]
    return [
        Span(
            core,
            (start, min(length, start + size)),
            (max(0, core[0] - FADE_PIXELS), min(length, core[1] + FADE_PIXELS)),
        )
        for start, core in zip(starts, pairwise(borders), strict=True)
    ]


def sample_tiles(network: Network, pixels: Pixels, tile: int, most: int = 9) -> Iterator[Tensor]:
    """Yield up to `most` tiles, evenly distributed over a page, as network input."""
    page = _PageInProgress(network, pixels, tile)
    count = min(most, len(page))
    for index in range(count):
        yield page.tile_input(index * (len(page) - 1) // max(1, count - 1))


def run_tiled(network: Network, pixels: Pixels, tile: int, progress: Progress = ignore_progress) -> Pixels:
    """Upscale a picture, HxWxC uint8 to (H*scale)x(W*scale)xC uint8. Raises as `run_pages` does."""
    return next(run_pages(network, [pixels], tile, progress=progress))


def run_pages(
    network: Network, pages: Sequence[Pixels], tile: int, batch: int = 1, progress: Progress = ignore_progress,
    known: TileCache | None = None,
) -> Iterator[Pixels]:  # fmt: skip
    """Yield the upscaled pages in order. Tiles of neighbouring pages share a batch.

    When memory runs out, first the batch and then the tile is halved, and the remaining pages are restarted.

    Args:
        network: The network.
        pages: HxWxC uint8 each.
        tile: Side of a tile without its margins, in source pixels.
        batch: Tiles computed at once.
        progress: Called with the finished share of all tiles.
        known: Tiles that were computed before; new ones are added.

    Raises:
        ResourceExhausted: even the smallest tile does not fit.
        Invalid: `bad_tile`, the network returned NaN, infinity, or an empty tile where the source is not empty.
    """
    finished = 0
    while finished < len(pages):
        try:
            for page in _upscale_pages(network, pages[finished:], tile, batch, progress, known):
                yield page
                finished += 1
        except ResourceExhausted:
            if batch > 1:
                batch //= 2
            elif network.window is None and tile // 2 >= MIN_TILE_PIXELS:
                tile //= 2
            else:
                raise
            logger.warning(
                "continuing with %d tiles of %d pixels: out of memory on %s", batch, tile, network.device
            )


def _upscale_pages(
    network: Network, pages: Sequence[Pixels], tile: int, batch: int, progress: Progress,
    known: TileCache | None,
) -> Iterator[Pixels]:  # fmt: skip
    unfinished = deque(_PageInProgress(network, pixels, tile) for pixels in pages)
    tiles = [(page, number) for page in unfinished for number in range(len(page))]
    batched: list[_PreparedTile] = []
    for done, (page, number) in enumerate(tiles):
        prepared = page.tile_input(number)
        result = None if known is None else known.find(prepared)
        is_full = len(batched) == batch or (batched and batched[0][2].shape != prepared.shape)
        if batched and (is_full or result is not None):
            _compute_tiles(network, batched, known)
            batched.clear()
            progress(done / len(tiles))
            while unfinished[0].finished:
                yield unfinished.popleft().result
        if result is None:
            batched.append((page, number, prepared))
        else:
            page.add(number, prepared[0], result)
    if batched:
        _compute_tiles(network, batched, known)
    progress(1.0)
    for page in unfinished:
        yield page.result


_PreparedTile = tuple["_PageInProgress", int, Tensor]
"""A page, the number of one of its tiles, and the network's input for it."""


def _compute_tiles(network: Network, batched: "list[_PreparedTile]", known: TileCache | None) -> None:
    """Compute a batch of tiles and add the results to their pages."""
    outputs = network(np.concatenate([prepared for _, _, prepared in batched]))
    for (page, number, prepared), output in zip(batched, outputs, strict=True):
        page.add(number, prepared[0], output if known is None else known.add(prepared, output))


class _PageInProgress:
    """A page in progress: its tiles in reading order, and the finished part of the result.

    Kept in floating point: the current tile, the part that its right neighbour fades into, and the part that the next
    row of tiles fades into, which is a few rows of the page. Everything else is final and stored as bytes.
    """

    def __init__(self, network: Network, pixels: Pixels, tile: int) -> None:
        self._network, self._pixels = network, pixels
        self._height, self._width, self._depth = pixels.shape
        grid = network.margin, network.window, network.alignment
        self._rows, self._columns = (
            tile_spans(self._height, tile, *grid),
            tile_spans(self._width, tile, *grid),
        )
        self._result: Pixels | None = None
        self._from_above, self._for_below = self._zero_strip(0), self._zero_strip(0)
        self._for_right = np.zeros((network.channels, 0, 0), dtype=np.float32)
        self.finished = False

    def __len__(self) -> int:
        return len(self._rows) * len(self._columns)

    @property
    def result(self) -> Pixels:
        """The upscaled page, once it is finished."""
        if self._result is None or not self.finished:
            raise RuntimeError("the page is not finished")
        return self._result

    def tile_input(self, number: int) -> Tensor:
        """Network input for a tile, 1xCxHxW in [0, 1]."""
        row, column = self._spans_of(number)
        part = self._pixels[row.reach[0] : row.reach[1], column.reach[0] : column.reach[1]]
        window = self._network.window
        if window is not None:
            missing = (window - part.shape[0], window - part.shape[1])
            part = np.pad(part, ((0, missing[0]), (0, missing[1]), (0, 0)), mode="edge")
        return _prepare_tile(part, self._network.channels)

    def add(self, number: int, source: Tensor, output: Tensor) -> None:
        """Add the result of the next tile, CxHxW, and modify it. Tiles are added in reading order."""
        row, column = self._spans_of(number)
        _check_output(source, output, row, column)
        if self._result is None:
            scale = self._network.scale
            shape = (self._height * scale, self._width * scale, self._depth)
            self._result = np.empty(shape, dtype=np.uint8)
        if column is self._columns[0]:
            self._begin_row(row)
        self._write(row, column, self._weight(row, column, output), self._result)
        self.finished = number + 1 == len(self)

    def _begin_row(self, row: Span) -> None:
        self._from_above = self._for_below
        self._for_below = self._zero_strip(row.fade[1] - self._final_up_to(self._rows, row))
        self._for_right = self._for_right[:, :, :0]

    def _weight(self, row: Span, column: Span, output: Tensor) -> Tensor:
        """The used part of a tile's result, weighted for the cross-fade, plus the part of its left neighbour."""
        scale = self._network.scale
        top, bottom = ((edge - row.reach[0]) * scale for edge in row.fade)
        left, right = ((edge - column.reach[0]) * scale for edge in column.fade)
        weighted = output[:, top:bottom, left:right]
        np.clip(weighted, 0.0, 1.0, out=weighted)
        _fade(weighted.transpose(0, 2, 1), row, self._height, scale)
        _fade(weighted, column, self._width, scale)
        if self._for_right.shape[2]:
            weighted[:, :, : self._for_right.shape[2]] += self._for_right
        return weighted

    def _write(self, row: Span, column: Span, weighted: Tensor, result: Pixels) -> None:
        """Write the final part of a tile. Keep the parts that its right and lower neighbours fade into."""
        scale = self._network.scale
        left, right = column.fade[0] * scale, self._final_up_to(self._columns, column) * scale
        top, bottom = row.fade[0] * scale, self._final_up_to(self._rows, row) * scale
        self._for_right = weighted[:, :, right - left :].copy()
        done = weighted[:, :, : right - left]
        done[:, : self._from_above.shape[1]] += self._from_above[:, :, left:right]
        self._for_below[:, :, left:right] = done[:, bottom - top :]
        result[top:bottom, left:right] = _quantise(done[:, : bottom - top], self._depth)

    def _final_up_to(self, along: list[Span], span: Span) -> int:
        """Position, in source pixels, up to which the result is final after this tile."""
        index = along.index(span)
        return span.fade[1] if index + 1 == len(along) else along[index + 1].fade[0]

    def _zero_strip(self, rows: int) -> Tensor:
        """Zeros, `rows` source pixels high, over the width of the page."""
        scale = self._network.scale
        return np.zeros((self._network.channels, rows * scale, self._width * scale), dtype=np.float32)

    def _spans_of(self, number: int) -> tuple[Span, Span]:
        row, column = divmod(number, len(self._columns))
        return self._rows[row], self._columns[column]


def _prepare_tile(source: Pixels, channels: int) -> Tensor:
    tensor = source.astype(np.float32) / np.float32(255)
    if channels == 3 and tensor.shape[2] == 1:
        tensor = tensor.repeat(3, axis=2)
    elif channels == 1 and tensor.shape[2] == 3:
        tensor = tensor @ np.array([[0.299], [0.587], [0.114]], dtype=np.float32)
    return np.ascontiguousarray(tensor.transpose(2, 0, 1)[None])


def _check_output(source: Tensor, output: Tensor, row: Span, column: Span) -> None:
    place = f"the tile at {column.core[0]},{row.core[0]}"
    lowest, highest = float(output.min()), float(output.max())  # NaN if one value is
    if not math.isfinite(highest - lowest):
        raise Invalid("bad_tile", f"The network returned values that are not finite for {place}.")
    if highest - lowest < _MAX_EMPTY_RANGE and float(source.max() - source.min()) > _MIN_DRAWN_RANGE:
        raise Invalid("bad_tile", f"The network returned an empty picture for {place}.")


def _fade(weighted: Tensor, span: Span, length: int, scale: int) -> None:
    """Multiply the fade zones along the last axis by their weights, in place: rising at the start, falling at the end."""
    if span.core[0] > 0:
        zone = (span.core[0] + FADE_PIXELS - span.fade[0]) * scale
        weighted[..., :zone] *= _rising_ramp(zone)
    if span.core[1] < length:
        zone = (span.fade[1] - span.core[1] + FADE_PIXELS) * scale
        weighted[..., -zone:] *= 1 - _rising_ramp(zone)


def _rising_ramp(count: int) -> Tensor:
    """A ramp from 0 to 1. It and its mirror image sum to one."""
    return ((np.arange(count, dtype=np.float32) + np.float32(0.5)) / np.float32(count)).astype(np.float32)


def _quantise(band: Tensor, channels: int) -> Pixels:
    """Convert CxHxW in [0, 1] to HxWx`channels` bytes."""
    if channels == 1 and len(band) == 3:
        band = band.mean(axis=0, keepdims=True)
    # In one pass, with the rounding of `rint` and saturation at both ends.
    planes = [cv2.addWeighted(plane, 255.0, plane, 0.0, 0.0, dtype=cv2.CV_8U) for plane in band]
    if len(planes) != channels:
        planes *= channels
    return np.asarray(cv2.merge(planes), dtype=np.uint8).reshape(*band.shape[1:], channels)


_MEMORY_SHARE: Final = 0.25
"""Share of the free memory that one batch may use. The estimate of a network's memory is rough."""
_MAX_CPU_WORKING_BYTES: Final = 512 * 2**20
"""Working memory above which larger tiles are not faster on a CPU (`python -m benchmarks.tiles`)."""
_MAX_TILE_PIXELS: Final = 960
_TILE_STEP_PIXELS: Final = 32
_MAX_BATCH_TILES: Final = 8
_BUSY_GPU_PIXELS: Final = 512 * 512
"""Pixels in a batch that are enough to use a GPU fully."""


def choose_tile_size(network: Network, chosen: int | None) -> int:
    """Side of a tile without margins, in source pixels: `chosen`, or a size that fits memory and device."""
    if chosen is not None:
        return chosen
    room = network.free_memory() * _MEMORY_SHARE
    if network.device in ("cpu", "openvino"):
        room = min(room, _MAX_CPU_WORKING_BYTES)
    side = math.isqrt(max(1, int(room / network.bytes_per_pixel))) - 2 * (network.margin + FADE_PIXELS)
    return max(MIN_TILE_PIXELS, min(_MAX_TILE_PIXELS, side // _TILE_STEP_PIXELS * _TILE_STEP_PIXELS))


def choose_batch_size(network: Network, tile: int) -> int:
    """Number of tiles in a batch: several small tiles use a GPU fully; a CPU computes one tile at a time."""
    if network.device in ("cpu", "openvino"):
        return 1
    pixels = (network.window or tile + 2 * (network.margin + FADE_PIXELS)) ** 2
    fitting = network.free_memory() * _MEMORY_SHARE / (pixels * network.bytes_per_pixel)
    return max(1, min(_MAX_BATCH_TILES, int(fitting), -(-_BUSY_GPU_PIXELS // pixels)))
