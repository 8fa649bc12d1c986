"""Running a network over a picture of any size, tile by tile, without a seam.

Each tile is computed with a margin around its core, and neighbouring results are cross-faded over a
short zone on either side of the border between the cores. The fade weights are linear ramps that sum
to one, so no weight picture is needed, and only one row of tiles is held in floating point.
"""

import logging
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np

from panelworks.errors import Invalid, ResourceExhausted
from panelworks.models.network import Network, Tensor
from panelworks.pictures.picture import Pixels
from panelworks.progress import Progress, silent

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
    """Start and end of what the network is given: the core and its margins, inside the picture."""
    fade: tuple[int, int]
    """Start and end of what is kept: the core and its fade zones."""


def spans(length: int, tile: int, margin: int) -> list[Span]:
    """Cover `length` pixels with near-equal cores of at most `tile`."""
    count = max(1, -(-length // tile))
    borders = [round(index * length / count) for index in range(count + 1)]
    reach = margin + FADE
    return [
        Span(
            (start, end),
            (max(0, start - reach), min(length, end + reach)),
            (max(0, start - FADE), min(length, end + FADE)),
        )
        for start, end in pairwise(borders)
    ]


def run_tiled(network: Network, pixels: Pixels, tile: int, progress: Progress = silent) -> Pixels:
    """The enlarged picture, HxWxC uint8 to (H*scale)x(W*scale)xC uint8.

    When memory runs out the tile is halved and the picture begun again.

    Raises:
        ResourceExhausted: not even the smallest tile fits.
        Invalid: `bad_tile`, the network returned NaN, infinity, or an empty tile for a drawn one.
    """
    while True:
        try:
            return _run(network, pixels, tile, progress)
        except ResourceExhausted:
            if tile // 2 < SMALLEST_TILE:
                raise
            tile //= 2
            logger.warning("out of memory on %s: going on with tiles of %d pixels", network.device, tile)


def _run(network: Network, pixels: Pixels, tile: int, progress: Progress) -> Pixels:
    height, width, channels = pixels.shape
    scale = network.scale
    rows, columns = spans(height, tile, network.margin), spans(width, tile, network.margin)
    result = np.empty((height * scale, width * scale, channels), dtype=np.uint8)
    carried = np.zeros((0, width * scale, network.channels), dtype=np.float32)
    for index, row in enumerate(rows):
        top, bottom = row.fade
        band = np.zeros(((bottom - top) * scale, width * scale, network.channels), dtype=np.float32)
        band[: carried.shape[0]] = carried
        for position, column in enumerate(columns):
            left, right = column.fade
            kept = _tile(network, pixels, row, column)
            kept *= _ramp(row, height, scale)[:, None, None]
            kept *= _ramp(column, width, scale)[None, :, None]
            band[:, left * scale : right * scale] += kept
            progress((index * len(columns) + position + 1) / (len(rows) * len(columns)))
        # What the next row of tiles fades into stays in floating point.
        done = bottom if index + 1 == len(rows) else rows[index + 1].fade[0]
        carried = band[(done - top) * scale :]
        result[top * scale : done * scale] = _quantise(band[: (done - top) * scale], channels)
    return result


def _tile(network: Network, pixels: Pixels, row: Span, column: Span) -> Tensor:
    """The kept part of one tile, HxWxC float32 in [0, 1]."""
    source = pixels[row.reach[0] : row.reach[1], column.reach[0] : column.reach[1]]
    prepared = _prepare(source, network.channels)
    output = network(prepared)[0].transpose(1, 2, 0)
    _refuse_bad(prepared, output, row, column)
    scale = network.scale
    top, bottom = ((edge - row.reach[0]) * scale for edge in row.fade)
    left, right = ((edge - column.reach[0]) * scale for edge in column.fade)
    kept: Tensor = np.clip(output[top:bottom, left:right], 0.0, 1.0).astype(np.float32)
    return kept


def _prepare(source: Pixels, channels: int) -> Tensor:
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


def _quantise(band: Tensor, channels: int) -> Pixels:
    if channels == 1 and band.shape[2] == 3:
        band = band.mean(axis=2, keepdims=True)
    elif channels == 3 and band.shape[2] == 1:
        band = band.repeat(3, axis=2)
    return np.rint(np.clip(band, 0, 1) * 255).astype(np.uint8)
