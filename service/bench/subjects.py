"""The networks and pages that are measured. Where official weights are not installed, random weights of the same architecture."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch

from panelworks.domain.cards import CARDS, ModelCard
from panelworks.models.registry import card_for_file
from panelworks.models.weights import installed_path
from panelworks.pictures import Picture, decode, resize
from panelworks.settings import Settings

_SAMPLE: Final = Path(__file__).parents[2] / "examples" / "pages" / "colour-page.png"


@dataclass(frozen=True)
class Subject:
    """A network to measure, and the side of its square test page."""

    name: str
    model: str
    side: int
    blocks: int
    """Convolutions of a compact network, or blocks of an RRDBNet."""


SUBJECTS: Final = (
    Subject("compact, 16 convolutions", "realesr-animevideov3", 512, 16),
    Subject("compact, 32 convolutions", "realesr-general-x4v3", 384, 32),
    Subject("RRDBNet, 6 blocks", "realesrgan_x4plus_anime_6b", 160, 6),
    Subject("RRDBNet, 23 blocks", "realesrgan_x4plus", 128, 23),
)
"""The networks of Real-ESRGAN, each with a page that takes the package a few seconds on two cores."""


def weights_of(subject: Subject, settings: Settings, folder: Path) -> tuple[ModelCard, bool]:
    """The card of the official weights, or of random ones of the official shape; and whether they are official."""
    card = CARDS[subject.model]
    path = installed_path(card, settings)
    if path is not None:
        return card_for_file(path), True
    path = folder / card.file
    if not path.exists():
        shapes = _rrdb(subject.blocks) if card.architecture == "rrdb" else _compact(subject.blocks)
        torch.save({"params": _random(shapes)}, path)
    return card_for_file(path), False


def page_of(width: int, height: int) -> Picture:
    """The sample page, cut or enlarged to a size."""
    page = decode(_SAMPLE.read_bytes(), Settings()).picture
    if page.width >= width and page.height >= height:
        return page.region((page.width - width) // 2, (page.height - height) // 2, width, height)
    return resize(page, (width, height))


def _compact(convolutions: int) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {}
    for index in range(0, 2 * convolutions + 4, 2):
        inside = 3 if index == 0 else 64
        out = 48 if index == 2 * convolutions + 2 else 64
        shapes |= {f"body.{index}.weight": (out, inside, 3, 3), f"body.{index}.bias": (out,)}
        if out == 64:
            shapes[f"body.{index + 1}.weight"] = (64,)
    return shapes


def _rrdb(blocks: int) -> dict[str, tuple[int, ...]]:
    sides = {"conv_first": (64, 3)}
    for block in range(blocks):
        for dense in (1, 2, 3):
            for number in range(1, 6):
                out = 64 if number == 5 else 32
                sides[f"body.{block}.rdb{dense}.conv{number}"] = (out, 64 + 32 * (number - 1))
    sides |= dict.fromkeys(("conv_body", "conv_up1", "conv_up2", "conv_hr"), (64, 64))
    sides["conv_last"] = (3, 64)
    shapes: dict[str, tuple[int, ...]] = {}
    for place, (out, inside) in sides.items():
        shapes |= {f"{place}.weight": (out, inside, 3, 3), f"{place}.bias": (out,)}
    return shapes


def _random(shapes: dict[str, tuple[int, ...]]) -> dict[str, torch.Tensor]:
    """Random weights that are small enough to keep the activations of many layers finite."""
    generator = torch.Generator().manual_seed(0)
    return {
        name: torch.randn(shape, generator=generator) * (0.5 / math.sqrt(math.prod(shape[1:])))
        for name, shape in shapes.items()
    }
