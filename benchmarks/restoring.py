"""Benefit of restoration before upscaling: PSNR of halved, compressed and upscaled pages by JPEG quality.

Example:

    MODEL_PATH=weights python -m benchmarks.restoring --pages pages
"""

import argparse
import io
import statistics
from pathlib import Path

import numpy as np
from PIL import Image

from panelworks.domain.cards import BUNDLED, CARDS
from panelworks.models.loading import Recipe, load_network
from panelworks.models.tiling import run_tiled
from panelworks.pictures import Picture, decode, resize
from panelworks.pictures.picture import Pixels, from_image, to_image
from panelworks.quality.content import estimate_jpeg_quality
from panelworks.settings import get_settings
from panelworks.steps.deblocking import smooth_blocks

_SIDE = 800
_TILE = 384


def main() -> None:
    """Print one line for each quality."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pages", type=Path, required=True)
    parser.add_argument(
        "--qualities", nargs="+", type=int, default=[20, 40, 60, 75, 90, 0], help="0: no compression"
    )
    given = parser.parse_args()
    settings = get_settings()
    network = load_network(Recipe(CARDS[BUNDLED]), settings)
    remover = load_network(Recipe(CARDS["opencomic-artifact-removal"]), settings)
    files = sorted(given.pages.glob("*.webp"))[:8] + sorted(given.pages.glob("*.png"))[:4]
    pages = [_crop_even(decode(file.read_bytes(), settings).picture) for file in files]
    print("quality   as it is  deblocked   network")
    for quality in given.qualities:
        rows = []
        for page in (one for one in pages if min(one.size) >= 200):
            small = resize(page, (page.width // 2, page.height // 2), "bicubic")
            small = _compress(small, quality) if quality else small
            candidates = (
                small,
                smooth_blocks(small, estimate_jpeg_quality(small) or 60),
                Picture(run_tiled(remover, small.pixels, _TILE)),
            )
            rows.append([_decibels(run_tiled(network, one.pixels, _TILE), page.pixels) for one in candidates])
        means = [statistics.mean(column) for column in zip(*rows, strict=True)]
        print(f"{quality or 'none':>7}  " + "  ".join(f"{mean:9.2f}" for mean in means), flush=True)


def _crop_even(picture: Picture) -> Picture:
    """Crop a part with even sides that does not touch the margin."""
    part = Picture(picture.pixels[200 : 200 + _SIDE, 100 : 100 + _SIDE])
    return part.region(0, 0, part.width // 2 * 2, part.height // 2 * 2)


def _compress(picture: Picture, quality: int) -> Picture:
    buffer = io.BytesIO()
    to_image(picture).save(buffer, "JPEG", quality=quality)
    with Image.open(buffer) as image:
        return from_image(image.convert("L" if picture.is_gray else "RGB"))


def _decibels(first: Pixels, second: Pixels) -> float:
    error = float(np.mean((first.astype(float) - second.astype(float)) ** 2))
    return 99.0 if error == 0 else 10 * float(np.log10(255**2 / error))


if __name__ == "__main__":
    main()
