"""Pairs of degraded and clean patches, made in processes of their own during the training.

A large crop is degraded as a whole, and many patches are cut from it: decoding and compressing single patches keeps the
network waiting.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from training.corpus import Kind, Page, crop
from training.degrade import degrade
from training.drawings import screen_tones

Bytes = npt.NDArray[np.uint8]
Pair = tuple[torch.Tensor, torch.Tensor]

CROP_PIXELS: Final = 512
"""Maximum side of a clean crop from which patches are cut."""
PATCHES_PER_CROP: Final = 8
_SHUFFLED_PATCHES: Final = 512
"""Patches from which the next one is drawn, so that a batch has patches of many crops."""
_PREFETCHED_BATCHES: Final = 16
_GRAY_SHARE: Final = 0.12
_SCREENED_SHARE: Final = 0.5
"""Share of the crops with screentone that are made from painted pages, not drawn."""


@dataclass(frozen=True)
class Source:
    """Crops of one kind of picture in the training."""

    kind: Kind
    is_degraded: bool
    share: float


MIX: Final = (
    Source("painted", is_degraded=False, share=0.20),
    Source("painted", is_degraded=True, share=0.14),
    Source("line", is_degraded=False, share=0.18),
    Source("line", is_degraded=True, share=0.09),
    Source("flat", is_degraded=False, share=0.16),
    Source("flat", is_degraded=True, share=0.05),
    Source("screentone", is_degraded=False, share=0.15),
    Source("screentone", is_degraded=True, share=0.03),
)
"""A fixed share of clean flat art and clean screentone: without it a network loses 1.5 to 2.1 dB on them."""


class Batches(IterableDataset[Pair]):
    """Endless batches of (degraded NxSxSx3, clean Nx2Sx2Sx3), uint8."""

    def __init__(
        self, pages: Sequence[Page], batch: int, patch: int, seed: int, mix: Sequence[Source] = MIX
    ) -> None:
        """Patches of `patch` pixels of the degraded page. Sources whose kind no page has are left out."""
        self._pages: dict[Kind, list[Page]] = defaultdict(list)
        for page in pages:
            if min(page.pixels.shape[:2]) >= 2 * patch:
                self._pages[page.kind].append(page)
        self._mix = [source for source in mix if self._pages[source.kind]]
        self._batch, self._patch, self._seed = batch, patch, seed

    def __iter__(self) -> Iterator[Pair]:
        worker = get_worker_info()
        random = Random(self._seed * 1000 + (worker.id if worker else 0))
        pool: list[tuple[Bytes, Bytes]] = []
        while True:
            while len(pool) < _SHUFFLED_PATCHES:
                pool += self._cut_patches(random)
            chosen = [pool.pop(random.randrange(len(pool))) for _ in range(self._batch)]
            yield (
                torch.from_numpy(np.stack([degraded for degraded, _ in chosen])),
                torch.from_numpy(np.stack([clean for _, clean in chosen])),
            )

    def _cut_patches(self, random: Random) -> list[tuple[Bytes, Bytes]]:
        """Degrade a crop and cut patches from it, with their clean counterparts."""
        (source,) = random.choices(self._mix, [source.share for source in self._mix])
        clean = turn_randomly(self._crop(source.kind, random), random)
        degraded = degrade(clean, random, float(source.is_degraded))
        size = self._patch
        patches = []
        for _ in range(PATCHES_PER_CROP):
            top, left = (random.randint(0, side - size) for side in degraded.shape[:2])
            patches.append(
                (
                    degraded[top : top + size, left : left + size].copy(),
                    clean[2 * top : 2 * (top + size), 2 * left : 2 * (left + size)].copy(),
                )
            )
        return patches

    def _crop(self, kind: Kind, random: Random) -> Bytes:
        screened = kind == "screentone" and self._pages["painted"] and random.random() < _SCREENED_SHARE
        page = random.choice(self._pages["painted" if screened else kind])
        side = min(CROP_PIXELS, min(page.pixels.shape[:2]) // 2 * 2)
        square = crop(page, side, random)
        return screen_tones(square, random) if screened else square


def load_ahead(batches: Batches, processes: int) -> Iterator[Pair]:
    """Make the batches ahead in other processes, which end with this one."""
    return iter(
        DataLoader(batches, batch_size=None, num_workers=processes, prefetch_factor=_PREFETCHED_BATCHES)
    )


def turn_randomly(pixels: Bytes, random: Random) -> Bytes:
    """Turn a crop to one of its eight orientations. Some become gray."""
    if random.random() < _GRAY_SHARE:
        pixels = np.repeat(pixels.mean(axis=2, keepdims=True).astype(np.uint8), 3, axis=2)
    pixels = np.rot90(pixels, random.randint(0, 3))
    return np.ascontiguousarray(pixels[:, ::-1] if random.random() < 0.5 else pixels)
