"""Pairs of degraded and clean patches, made in a separate process during the training."""

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import DataLoader, IterableDataset

from training.corpus import Page, crop
from training.degrade import degrade

PATCH_PIXELS = 96
"""Side of a clean training patch. The network's input has half this side."""
_GRAY_SHARE = 0.12

Pair = tuple[torch.Tensor, torch.Tensor]


@dataclass(frozen=True)
class Pool:
    """Pages of one kind, and how often they are sampled relative to the other pools."""

    pages: list[Page]
    share: float


class Batches(IterableDataset[Pair]):
    """Endless batches of (degraded Nx3x48x48, clean Nx3x96x96), float32 in [0, 1]."""

    def __init__(self, pools: list[Pool], count: int, degraded_share: float, seed: int) -> None:
        self._pools = [pool for pool in pools if pool.pages and pool.share > 0]
        self._count, self._worn_share, self._seed = count, degraded_share, seed

    def __iter__(self) -> Iterator[Pair]:
        random = Random(self._seed)
        shares = [pool.share for pool in self._pools]
        while True:
            degraded, clean = [], []
            for _ in range(self._count):
                (pool,) = random.choices(self._pools, shares)
                target = _rotate_randomly(crop(random.choice(pool.pages), PATCH_PIXELS, random), random)
                degraded.append(degrade(target, random, self._worn_share))
                clean.append(target)
            yield _to_tensor(degraded), _to_tensor(clean)


def load_ahead(batches: Batches) -> Iterator[Pair]:
    """Make the batches ahead in another process, which ends with this one."""
    return iter(DataLoader(batches, batch_size=None, num_workers=1, prefetch_factor=8))


def _rotate_randomly(patch: npt.NDArray[np.uint8], random: Random) -> npt.NDArray[np.uint8]:
    """Turn a patch to one of its eight orientations. Some become gray."""
    if random.random() < _GRAY_SHARE:
        patch = np.repeat(patch.mean(axis=2, keepdims=True).astype(np.uint8), 3, axis=2)
    patch = np.rot90(patch, random.randint(0, 3))
    return np.ascontiguousarray(patch[:, ::-1] if random.random() < 0.5 else patch)


def _to_tensor(patches: list[npt.NDArray[np.uint8]]) -> torch.Tensor:
    stacked = torch.from_numpy(np.stack(patches)).permute(0, 3, 1, 2).float() / 255
    return stacked.contiguous(memory_format=torch.channels_last)
