"""Networks with global pooling: means measured over samples of a page are used for all its tiles.

Real-CUGAN's squeeze-excite blocks weight their channels by the mean over the picture. The mean over a tile differs,
so neighbouring tiles would come out differently.
"""

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from panelworks.models.network import Network, Tensor

_BLOCK = "SEBlock"
"""Class name of the blocks in spandrel, which does not export the class."""


class PoolingBlock(torch.nn.Module):
    """A squeeze-excite block of a network, whose mean can be recorded or set. It replaces the block in the network."""

    def __init__(self, block: Any) -> None:
        """Wrap a block.

        Args:
            block: A module with `forward_mean(features, mean)`.
        """
        super().__init__()
        self.block = block
        self.fixed: torch.Tensor | None = None
        """1xCx1x1; None: the mean over each tile is used."""
        self.recorded: list[torch.Tensor] | None = None
        """The means so far, 1xCx1x1 each; None: they are not recorded."""

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """NxCxHxW to the same size."""
        if self.fixed is not None:
            mean = self.fixed.expand(features.shape[0], -1, -1, -1)
        else:
            mean = features.float().mean(dim=(2, 3), keepdim=True).to(features.dtype)
            if self.recorded is not None:
                self.recorded.append(mean.mean(dim=0, keepdim=True))
        weighted: torch.Tensor = self.block.forward_mean(features, mean)
        return weighted


class PoolingBlocks:
    """The pooling blocks of a network. One thread at a time records or sets their means."""

    def __init__(self, model: torch.nn.Module) -> None:
        """Replace the squeeze-excite blocks of a loaded model; most models have none."""
        found = [(name, module) for name, module in model.named_modules() if type(module).__name__ == _BLOCK]
        self._blocks = [PoolingBlock(module) for _, module in found]
        for (name, _), block in zip(found, self._blocks, strict=True):
            parent, _, child = name.rpartition(".")
            model.get_submodule(parent).register_module(child, block)
        self._lock = threading.RLock()

    def __bool__(self) -> bool:
        return bool(self._blocks)

    def measure(self, run: Callable[[Tensor], Tensor], samples: Iterable[Tensor]) -> list[torch.Tensor]:
        """The mean of each block over all samples.

        Args:
            run: Runs the network on a batch of tiles.
            samples: Batches of tiles, NxCxHxW.
        """
        with self._lock:
            for block in self._blocks:
                block.recorded = []
            try:
                for sample in samples:
                    run(sample)
                return [torch.stack(block.recorded or []).mean(dim=0) for block in self._blocks]
            finally:
                for block in self._blocks:
                    block.recorded = None

    @contextmanager
    def fixed(self, means: list[torch.Tensor]) -> Iterator[None]:
        """Within the block, use these means."""
        with self._lock:
            self._fix(means)
            try:
                yield
            finally:
                self._fix([None] * len(self._blocks))

    def _fix(self, means: list[torch.Tensor] | list[None]) -> None:
        for block, mean in zip(self._blocks, means, strict=True):
            block.fixed = mean


class FixedPoolingNetwork:
    """A network whose pooling blocks use the means of one page."""

    def __init__(self, network: Network, blocks: PoolingBlocks, means: list[torch.Tensor]) -> None:
        self._network, self._blocks, self._means = network, blocks, means
        self.scale, self.channels, self.margin = network.scale, network.channels, network.margin
        self.window, self.alignment = network.window, network.alignment
        self.bytes_per_pixel = network.bytes_per_pixel
        self.device, self.precision, self.bytes = network.device, network.precision, network.bytes

    def __call__(self, tiles: Tensor) -> Tensor:
        with self._blocks.fixed(self._means):
            return self._network(tiles)

    def adapt_to_page(self, samples: Iterable[Tensor]) -> Network:
        return self

    def free_memory(self) -> int:
        return self._network.free_memory()

    def close(self) -> None:
        self._network.close()
