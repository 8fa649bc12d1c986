"""Networks that look at a whole tile at once: what they saw of samples of a page is taken for all its tiles.

Real-CUGAN's squeeze-excite blocks weight their channels by the mean over the picture. Over a tile the mean is
another one, and neighbouring tiles would be drawn in different ways.
"""

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from panelworks.models.network import Network, Tensor

_BLOCK = "SEBlock"


class Pools:
    """The pooling blocks of a network, and what they saw."""

    def __init__(self, model: torch.nn.Module) -> None:
        self._blocks: list[Any] = [one for one in model.modules() if type(one).__name__ == _BLOCK]
        self._lock = threading.RLock()
        self._fixed: list[torch.Tensor] | None = None
        self._seen: list[list[torch.Tensor]] | None = None
        for number, block in enumerate(self._blocks):
            block.forward = self._replaced(number, block)

    def __bool__(self) -> bool:
        return bool(self._blocks)

    def observe(self, run: Callable[[Tensor], Tensor], samples: Iterable[Tensor]) -> list[torch.Tensor]:
        """The mean, over the samples, of what each block saw."""
        with self._lock:
            self._seen = [[] for _ in self._blocks]
            try:
                for sample in samples:
                    run(sample)
                return [torch.stack(seen).mean(dim=0) for seen in self._seen]
            finally:
                self._seen = None

    @contextmanager
    def fixed(self, means: list[torch.Tensor]) -> Iterator[None]:
        """For a block, these means are taken; one thread at a time."""
        with self._lock:
            self._fixed = means
            try:
                yield
            finally:
                self._fixed = None

    def _replaced(self, number: int, block: Any) -> Callable[[torch.Tensor], torch.Tensor]:
        def forward(flow: torch.Tensor) -> torch.Tensor:
            if self._fixed is not None:
                mean = self._fixed[number].expand(flow.shape[0], -1, -1, -1)
            else:
                mean = flow.float().mean(dim=(2, 3), keepdim=True).to(flow.dtype)
                if self._seen is not None:
                    self._seen[number].append(mean.mean(dim=0, keepdim=True))
            weighted: torch.Tensor = block.forward_mean(flow, mean)
            return weighted

        return forward


class SettledNetwork:
    """A network whose pools are fixed for one page."""

    def __init__(self, network: Network, pools: Pools, means: list[torch.Tensor]) -> None:
        self._network, self._pools, self._means = network, pools, means
        self.scale, self.channels, self.margin = network.scale, network.channels, network.margin
        self.window, self.alignment = network.window, network.alignment
        self.bytes_per_pixel = network.bytes_per_pixel
        self.device, self.precision, self.bytes = network.device, network.precision, network.bytes

    def __call__(self, tiles: Tensor) -> Tensor:
        with self._pools.fixed(self._means):
            return self._network(tiles)

    def settled(self, samples: Iterable[Tensor]) -> Network:
        return self

    def free_memory(self) -> int:
        return self._network.free_memory()

    def close(self) -> None:
        self._network.close()
