"""Sizes of JPEG, WebP, AVIF and JPEG XL at equal similarity to the page, and whether `bytes_at_most` holds.

    pip install 'panelworks[jxl]'
    python -m benchmarks.formats PAGES... [--width 1440] [--similarity 0.98] [--limit 20] [--bytes 100000]

Each page is made as wide as a variant. For each format the lowest quality is taken at which the SSIM of luma of the whole
decoded file reaches the target.
"""

import argparse
import io
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image

from panelworks.domain.formats import PictureFormat, VariantSpec
from panelworks.page.delivery import make_variants
from panelworks.pictures import Picture, decode, encode, fit_size, resize
from panelworks.pictures.compression import measure_similarity
from panelworks.pictures.encode import flatten_on_white
from panelworks.pictures.jpeg_xl import require_jpeg_xl
from panelworks.pictures.parallel import stop_threads_of_opencv
from panelworks.settings import get_settings

FORMATS: Final[tuple[PictureFormat, ...]] = ("jpeg", "webp", "avif", "jxl")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("pages", type=Path, nargs="+")
    parser.add_argument("--width", type=int, default=1440)
    parser.add_argument("--similarity", type=float, default=0.98)
    parser.add_argument("--limit", type=int, default=20)
    parser.add_argument("--bytes", type=int, default=100_000)
    given = parser.parse_args()
    stop_threads_of_opencv()
    require_jpeg_xl()
    sizes: dict[str, list[float]] = {name: [] for name in FORMATS}
    qualities: dict[str, list[int]] = {name: [] for name in FORMATS}
    held = made = 0
    print(f"{'page':36}" + "".join(f"{name:>14}" for name in FORMATS) + "   kB (quality)")
    for name, picture in _pages(given.pages, given.width, given.limit):
        line = f"{name[:35]:36}"
        for format in FORMATS:
            quality, size = smallest(picture, format, given.similarity)
            qualities[format].append(quality)
            sizes[format].append(size)
            line += f"{size / 1000:8.0f} ({quality:3})"
            spec = VariantSpec(name="x", format=format, bytes_at_most=given.bytes, min_quality=1)
            for variant in make_variants(picture, (spec,)):
                made += 1
                held += len(variant.data) <= given.bytes
                if variant.note:
                    print(f"    {variant.note}")
        print(line, flush=True)
    totals = {name: sum(one) for name, one in sizes.items()}
    print(f"{'sum':36}" + "".join(f"{totals[name] / 1000:14.0f}" for name in FORMATS))
    print(
        f"{'share of JPEG':36}" + "".join(f"{totals[name] / totals['jpeg'] * 100:13.0f}%" for name in FORMATS)
    )
    print(f"{'median quality':36}" + "".join(f"{statistics.median(qualities[n]):14.0f}" for n in FORMATS))
    print(f"bytes_at_most={given.bytes}: {held} of {made} files have at most as many bytes")


def smallest(picture: Picture, format: PictureFormat, similarity: float) -> tuple[int, int]:
    """The lowest quality that reaches a similarity, and the bytes of the file."""
    luma = picture.luma()
    low, high = 1, 100
    while low < high:
        middle = (low + high) // 2
        data = encode(picture, format, middle, lossy_gray=True)
        if measure_similarity(luma, _luma_of(data, gray=picture.is_gray)) >= similarity:
            high = middle
        else:
            low = middle + 1
    return low, len(encode(picture, format, low, lossy_gray=True))


def _luma_of(data: bytes, *, gray: bool) -> np.ndarray:
    with Image.open(io.BytesIO(data)) as image:
        pixels = np.asarray(image.convert("L" if gray else "RGB"))
    return Picture(pixels.reshape(*pixels.shape[:2], -1)).luma()


def _pages(paths: list[Path], width: int, limit: int) -> Iterator[tuple[str, Picture]]:
    left = limit
    for path in paths:
        if left == 0:
            return
        picture = flatten_on_white(decode(path.read_bytes(), get_settings()).picture)
        left -= 1
        yield path.name, resize(picture, fit_size(picture.size, (width, 4 * width)))


if __name__ == "__main__":
    main()
