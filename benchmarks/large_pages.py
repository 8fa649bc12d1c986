"""Memory for very large pages: a webtoon strip and a square sheet, upscaled 2x with the bundled network.

python -m benchmarks.large_pages [--size 690x58274 --size 9000x9000]

Each size runs in a separate process, because the peak of a process never falls.
"""

import argparse
import resource
import subprocess
import sys
import time

import numpy as np

from panelworks.domain.cards import BUNDLED
from panelworks.models.loading import Recipe, load_network
from panelworks.models.registry import card_for
from panelworks.models.tiling import choose_tile_size, run_tiled
from panelworks.settings import get_settings

_MIB = 2**20


def enlarge(width: int, height: int) -> None:
    """Upscale a page of soft noise and print time and memory."""
    coarse = np.random.default_rng(0).integers(0, 256, (height // 64 + 1, width // 64 + 1, 3), dtype=np.uint8)
    page = coarse.repeat(64, axis=0).repeat(64, axis=1)[:height, :width].copy()
    network = load_network(Recipe(card_for(BUNDLED)), get_settings())
    before, began = _peak(), time.monotonic()
    enlarged = run_tiled(network, page, choose_tile_size(network, None))
    pictures = (page.nbytes + enlarged.nbytes) // _MIB
    print(
        f"{width} x {height}: {time.monotonic() - began:.0f} s, peak {_peak()} MiB, of which {pictures} are"
        f" the pictures; {before} before the run",
        flush=True,
    )


def _peak() -> int:
    """Peak memory of this process in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", action="append", help="WIDTHxHEIGHT; may be repeated")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        enlarge(*(int(side) for side in args.one.split("x")))
        return
    for size in args.size or ["690x58274", "9000x9000"]:
        subprocess.run([sys.executable, "-m", "benchmarks.large_pages", "--one", size], check=True)  # noqa: S603 - this module


if __name__ == "__main__":
    main()
