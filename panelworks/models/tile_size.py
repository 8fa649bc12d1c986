"""How large a tile may be, and how many at once: what free memory allows and caches like."""

import math
from typing import Final

from panelworks.models.network import Network
from panelworks.models.tiling import FADE, SMALLEST_TILE

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
