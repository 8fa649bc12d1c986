"""What the tiler needs to know of a network, whatever runs it."""

from collections.abc import Iterable
from typing import Protocol

import numpy as np
import numpy.typing as npt

Tensor = npt.NDArray[np.float32]
"""NxCxHxW sRGB values, nominally in [0, 1]."""


class Network(Protocol):
    """A loaded network. Calls are stateless: nothing of one picture remains for the next."""

    scale: int
    """Enlargement."""
    channels: int
    """Channels in and out: 3 for colour, 1 for gray."""
    margin: int
    """Source pixels around a tile that its result depends on noticeably."""
    window: int | None
    """Side of the only square that it takes; None takes any size."""
    alignment: int
    """Tiles must begin at multiples of so many pixels."""
    bytes_per_pixel: int
    """Working memory that a source pixel costs, about."""
    device: str
    """Where it runs, for logs: `cpu`, `cuda`, `mps`, `openvino`."""
    precision: str
    """How it computes: `fp32`, `bf16` or `fp16`."""
    bytes: int
    """What its weights occupy in memory, about."""

    def __call__(self, tiles: Tensor) -> Tensor:
        """The enlarged tiles, NxCx(H*scale)x(W*scale).

        Raises:
            ResourceExhausted: the device has too little memory for tiles of this size.
        """
        ...

    def settled(self, samples: Iterable[Tensor]) -> "Network":
        """The network for one page of which these are samples: itself, unless it looks at whole tiles."""
        ...

    def free_memory(self) -> int:
        """Bytes that are free where it runs."""
        ...

    def close(self) -> None:
        """Give the memory back; it is not called any more."""
        ...
