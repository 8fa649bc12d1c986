"""Working on a page band by band, so that a large one takes no more memory than a small one."""

from collections.abc import Callable

import numpy as np

from panelworks.pictures.picture import Pixels


def by_bands(pixels: Pixels, height: int, halo: int, work: Callable[[Pixels], Pixels]) -> Pixels:
    """What `work` makes of a page, HxWxC to HxWxC, given to it in bands of rows.

    Args:
        pixels: The page.
        height: Rows of a band; where a pattern of the page matters, a multiple of its period.
        halo: Rows that a band must know above and below; likewise.
        work: Keeps the shape of what it is given.
    """
    result = np.empty_like(pixels)
    for top in range(0, pixels.shape[0], height):
        start, end = max(0, top - halo), min(pixels.shape[0], top + height + halo)
        done = work(pixels[start:end])
        result[top : top + height] = done[top - start : top - start + height]
    return result
