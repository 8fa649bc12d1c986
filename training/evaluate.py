"""Measure the bundled network on held-out works: luma PSNR at 2x compared with Lanczos and other networks.

python -m training.evaluate --pages PAGES_DIR [--model OTHER.pth ...] [--jpeg 75]
"""

import argparse
import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from panelworks.domain.cards import BUNDLED, ModelCard
from panelworks.models.loading import Recipe, load_network
from panelworks.models.registry import card_for
from panelworks.models.tiling import run_tiled
from panelworks.settings import Settings, get_settings
from training.corpus import Page, read_pages

_BORDER_PIXELS = 4
"""Pixels at each edge that are ignored, as usual for 2x."""


@dataclass(frozen=True)
class Row:
    """PSNR of one page, in dB."""

    page: str
    bicubic: float
    lanczos: float
    network: float


def compare(
    pages: Iterable[Page],
    settings: Settings,
    card: ModelCard | None = None,
    side: int = 768,
    jpeg: int | None = None,
) -> Iterator[Row]:
    """Reduce the middle of each page to half its size (bicubic), optionally compress it, and upscale it."""
    network = load_network(Recipe(card or card_for(BUNDLED), "fp32"), settings)
    for page in pages:
        clean = _crop_middle(page.pixels, side)
        image = Image.fromarray(clean)
        half = (image.width // 2, image.height // 2)
        small = image.resize(half, Image.Resampling.BICUBIC)
        if jpeg is not None:
            buffer = io.BytesIO()
            small.save(buffer, "JPEG", quality=jpeg)
            small = Image.open(buffer).convert("RGB")
        enlarged = run_tiled(network, np.asarray(small), 256)
        yield Row(
            page.name,
            _psnr(np.asarray(small.resize(image.size, Image.Resampling.BICUBIC)), clean),
            _psnr(np.asarray(small.resize(image.size, Image.Resampling.LANCZOS)), clean),
            _psnr(enlarged, clean),
        )


def _crop_middle(pixels: npt.NDArray[np.uint8], side: int) -> npt.NDArray[np.uint8]:
    """Crop the central square, or as much of it as exists, with even sides."""
    height, width = (min(side, length) // 2 * 2 for length in pixels.shape[:2])
    top, left = (pixels.shape[0] - height) // 2, (pixels.shape[1] - width) // 2
    return np.ascontiguousarray(pixels[top : top + height, left : left + width])


def _psnr(first: npt.NDArray[np.uint8], second: npt.NDArray[np.uint8]) -> float:
    """PSNR of the Rec. 601 luma, in dB."""
    weights = np.array([0.299, 0.587, 0.114])
    difference = ((first.astype(float) - second.astype(float)) @ weights)[
        _BORDER_PIXELS:-_BORDER_PIXELS, _BORDER_PIXELS:-_BORDER_PIXELS
    ]
    return float(10 * np.log10(255**2 / max(float(np.mean(difference**2)), 1e-9)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pages", type=Path, required=True)
    parser.add_argument("--model", action="append", default=[], help="other weight files to compare")
    parser.add_argument("--jpeg", type=int, help="compress the small page with this quality")
    args = parser.parse_args()
    pages = read_pages(args.pages, held_out=True)
    for model in [BUNDLED, *args.model]:
        rows = list(compare(pages, get_settings(), card_for(model), jpeg=args.jpeg))
        print(f"{Path(model).stem}")
        for row in [*rows, _mean_row(rows)]:
            print(
                f"  {row.page:<34} bicubic {row.bicubic:6.2f}  Lanczos {row.lanczos:6.2f}  network {row.network:6.2f}"
            )


def _mean_row(rows: list[Row]) -> Row:
    count = len(rows)
    return Row(
        "mean",
        sum(row.bicubic for row in rows) / count,
        sum(row.lanczos for row in rows) / count,
        sum(row.network for row in rows) / count,
    )


if __name__ == "__main__":
    main()
