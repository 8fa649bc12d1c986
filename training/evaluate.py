"""Luma PSNR and steepness of lines at 2x or 4x on works held out, by kind of picture: the bundled network and others.

    python -m training.evaluate --pages PAGES --model other.safetensors --reference opencomic-ai-upscale-2x-compact-450000.pth

A mean over pages hides what a network does to one kind, so that the last table has the median difference of each kind.
"""

import argparse
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from statistics import fmean, median
from typing import Final, get_args

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from panelworks.domain.cards import BUNDLED
from panelworks.models.loading import Recipe, load_network
from panelworks.models.network import Network
from panelworks.models.registry import card_for
from panelworks.quality.edges import measure_rises
from panelworks.settings import get_settings
from training.corpus import Kind, Page, read_pages
from training.drawings import screen_tones
from training.enlargements import enlarge
from training.ladders import DISTORTIONS

Pixels = npt.NDArray[np.uint8]
_BORDER_PIXELS: Final = 4
"""Pixels at each edge that are ignored, as usual for 2x."""
_SIDE_PIXELS: Final = 768
"""Side of the middle of a page that is measured."""
_FILTERS: Final = {"bicubic": Image.Resampling.BICUBIC, "Lanczos": Image.Resampling.LANCZOS}
_PRINTED_WORKS: Final = ("pepper_coriander", "pepper_silent_page")
"""Held-out paintings that are also printed in dots: no scan of screentone with a free licence was found."""


@dataclass(frozen=True)
class Measured:
    """An enlarged page compared with the original."""

    psnr: float
    """Of the Rec. 601 luma, in dB."""
    edge_width: float
    """Median width of its edges, relative to the original: 1 is as steep, 2 twice as wide."""


@dataclass(frozen=True)
class Row:
    """One page, enlarged by each method."""

    page: str
    kind: Kind
    by_method: dict[str, Measured]


def read_held_out(folder: Path) -> list[Page]:
    """Read the works held out, and prints of two of them: black dots, and halftone in four inks."""
    pages = read_pages(folder, held_out=True)
    for page in list(pages):
        if page.name.startswith(_PRINTED_WORKS):
            middle = crop_middle(page.pixels, _SIDE_PIXELS)
            dots = screen_tones(middle, Random(page.name))
            inks = DISTORTIONS["halftone"].apply(middle, 1.0, Random(page.name))
            stem = Path(page.name).stem
            pages += [
                Page(f"{stem} in dots", dots, "screentone"),
                Page(f"{stem} in inks", inks, "screentone"),
            ]
    return pages


def compare(
    pages: Iterable[Page],
    networks: Mapping[str, Network],
    side: int = _SIDE_PIXELS,
    jpeg: int | None = None,
    scale: int = 2,
) -> Iterator[Row]:
    """Reduce the middle of each page (bicubic), optionally compress it, enlarge it as a plan does, and measure."""
    for page in pages:
        clean = crop_middle(page.pixels, side)
        image = Image.fromarray(clean)
        small = image.resize((image.width // scale, image.height // scale), Image.Resampling.BICUBIC)
        if jpeg is not None:
            buffer = io.BytesIO()
            small.save(buffer, "JPEG", quality=jpeg)
            small = Image.open(buffer).convert("RGB")
        enlarged = {name: np.asarray(small.resize(image.size, one)) for name, one in _FILTERS.items()}
        for name, network in networks.items():
            enlarged[name] = enlarge(np.asarray(small), image.size, network)
        measured = {name: measure(pixels, clean) for name, pixels in enlarged.items()}
        yield Row(page.name, page.kind, measured)


def crop_middle(pixels: Pixels, side: int) -> Pixels:
    """Crop the central square, or as much of it as exists, with even sides."""
    height, width = (min(side, length) // 2 * 2 for length in pixels.shape[:2])
    top, left = (pixels.shape[0] - height) // 2, (pixels.shape[1] - width) // 2
    return np.ascontiguousarray(pixels[top : top + height, left : left + width])


def measure(enlarged: Pixels, clean: Pixels) -> Measured:
    """Compare an enlarged picture, HxWx3, with the original of the same size."""
    inner = slice(_BORDER_PIXELS, -_BORDER_PIXELS)
    ours, truth = (cv2.cvtColor(one[inner, inner], cv2.COLOR_RGB2GRAY) for one in (enlarged, clean))
    weights = np.array([0.299, 0.587, 0.114])
    difference = ((enlarged.astype(float) - clean.astype(float)) @ weights)[inner, inner]
    psnr = 10 * np.log10(255**2 / max(float(np.mean(difference**2)), 1e-9))
    rises = [measure_rises(np.ascontiguousarray(one))[0]["rise_50"] for one in (ours, truth)]
    return Measured(float(psnr), rises[1] / max(rises[0], 1e-3))


def print_pages(rows: Sequence[Row], condition: str) -> None:
    """Print PSNR and relative width of edges of each page, and the means."""
    methods = list(rows[0].by_method)
    print(f"\n{condition}: PSNR in dB (width of edges)\n\n| page | kind | {' | '.join(methods)} |")
    print("|" + "---|" * (len(methods) + 2))
    for row in rows:
        cells = (f"{one.psnr:.2f} ({one.edge_width:.2f})" for one in row.by_method.values())
        print(f"| {Path(row.page).stem} | {row.kind} | {' | '.join(cells)} |")
    means = (fmean(row.by_method[method].psnr for row in rows) for method in methods)
    widths = (median(row.by_method[method].edge_width for row in rows) for method in methods)
    cells = (f"{mean:.2f} ({width:.2f})" for mean, width in zip(means, widths, strict=True))
    print(f"| **mean (median)** | | {' | '.join(cells)} |")


def print_differences(conditions: Mapping[str, Sequence[Row]], reference: str) -> None:
    """Print the median difference of each method's PSNR to that of the reference, by kind and condition."""
    names = [name for name in next(iter(conditions.values()))[0].by_method if name != reference]
    print(f"\nMedian difference to {reference}, dB\n\n| kind | condition | pages | {' | '.join(names)} |")
    print("|" + "---|" * (len(names) + 3))
    for kind in get_args(Kind):
        for condition, rows in conditions.items():
            some = [row.by_method for row in rows if row.kind == kind]
            if some:
                medians = (median(one[name].psnr - one[reference].psnr for one in some) for name in names)
                print(
                    f"| {kind} | {condition} | {len(some)} | {' | '.join(f'{one:+.2f}' for one in medians)} |"
                )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pages", type=Path, required=True, help="folder of pages with a manifest.json")
    parser.add_argument(
        "--model", action="append", default=[], help="another network: a name or a weight file"
    )
    parser.add_argument("--reference", help="the network to which the differences are computed")
    parser.add_argument("--scale", type=int, default=2, choices=(2, 4), help="enlargement")
    parser.add_argument("--jpeg", type=int, default=75, help="quality of the second condition")
    args = parser.parse_args()
    models = [BUNDLED, *args.model, *([args.reference] if args.reference else [])]
    networks = {
        Path(model).stem: load_network(Recipe(card_for(model), "fp32"), get_settings()) for model in models
    }
    pages = read_held_out(args.pages)
    conditions = {
        name: list(compare(pages, networks, jpeg=quality, scale=args.scale))
        for name, quality in (("clean", None), (f"JPEG q{args.jpeg}", args.jpeg))
    }
    for name, rows in conditions.items():
        print_pages(rows, name)
    print_differences(conditions, Path(args.reference).stem if args.reference else "Lanczos")


if __name__ == "__main__":
    main()
