"""Is a faster way of computing good enough for a network on this device? Asked once, and remembered.

Half precision overflows in some networks: black or speckled pages are a known disease. So a network that
is to run in bf16 or fp16 is first compared with itself in fp32 on a small probe.
"""

import json
import logging
from pathlib import Path
from typing import Final

import numpy as np
from pydantic import TypeAdapter

from panelworks.models.network import Network, Tensor
from panelworks.storage.atomic import write_atomically

logger = logging.getLogger(__name__)

ENOUGH: Final = 45.0
"""Agreement with fp32 in dB from which a precision is good enough: differences nobody sees."""
_SIDE: Final = 64
_ANSWERS: Final = TypeAdapter(dict[str, float])


def agreement(fast: Network, exact: Network) -> float:
    """PSNR in dB between two ways of running one network, on the probe; -inf for numbers that are none."""
    tile = probe(exact.channels, exact.window or _SIDE)
    first, second = np.clip(fast(tile), 0, 1), np.clip(exact(tile), 0, 1)
    if not np.isfinite(first).all():
        return float("-inf")
    error = float(np.mean((first.astype(np.float64) - second) ** 2))
    return float("inf") if error == 0 else -10 * float(np.log10(error))


def probe(channels: int, side: int) -> Tensor:
    """A small picture with what comics have: a slope, paper, solid black, thin lines and dots. 1xCxHxW in [0, 1]."""
    down, across = np.mgrid[0:side, 0:side].astype(np.float32) / side
    picture = np.stack([across, down, 1 - across], axis=0)[:channels].copy()
    picture[:, : side // 4, : side // 2] = 1
    picture[:, side // 4 : side // 2, side // 2 :] = 0
    picture[:, :: max(2, side // 8)] = 0
    picture[:, side // 2 :, : side // 2] *= (np.indices((side - side // 2, side // 2)).sum(axis=0) % 3 > 0)[
        None
    ]
    return np.ascontiguousarray(picture[None], dtype=np.float32)


class PrecisionBook:
    """Remembers the answers in a small file, so that each question is asked once on a machine."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def good(self, question: str) -> bool | None:
        """The answer; None when it was never asked."""
        decibels = self._known().get(question)
        return None if decibels is None else decibels >= ENOUGH

    def write(self, question: str, decibels: float) -> None:
        """Keep an answer. Losing it to another process that writes at once costs one more probe."""
        known = self._known()
        known[question] = round(max(-1.0, min(decibels, 999.0)), 1)
        try:
            write_atomically(self._path, json.dumps(known, indent=1).encode())
        except OSError as error:
            logger.warning("the precision check cannot be remembered: %s", error)

    def _known(self) -> dict[str, float]:
        """The answers by question; nothing when the file is missing or damaged, so that it is written anew."""
        try:
            return _ANSWERS.validate_json(self._path.read_bytes())
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            logger.warning("precision checks in %s are lost: %s", self._path, type(error).__name__)
            return {}
