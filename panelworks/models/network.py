"""What the tiler needs to know of a network, whatever runs it."""

from typing import Protocol

import numpy as np
import numpy.typing as npt

Tensor = npt.NDArray[np.float32]
"""1xCxHxW sRGB values, nominally in [0, 1]."""


class Network(Protocol):
    """A loaded network. Calls are stateless: nothing of one picture remains for the next."""

    scale: int
    """Enlargement."""
    channels: int
    """Channels in and out: 3 for colour, 1 for gray."""
    margin: int
    """Source pixels around a tile that its result depends on noticeably."""
    device: str
    """Where it runs, for logs: `cpu`, `cuda`, `mps`, `openvino`."""

    def __call__(self, tile: Tensor) -> Tensor:
        """The enlarged tile, 1xCx(H*scale)x(W*scale).

        Raises:
            ResourceExhausted: the device has too little memory for a tile of this size.
        """
        ...
