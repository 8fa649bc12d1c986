"""Seconds per megapixel for each network and tile size.

Example:

    python -m benchmarks.tiles --models panelworks-2x realesr-animevideov3 --tiles 128 256 384 512 768
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

from panelworks.domain.cards import BUNDLED, CARDS
from panelworks.models.loading import Recipe, load_network
from panelworks.models.tiling import choose_tile_size, run_tiled
from panelworks.settings import get_settings
from service.bench.subjects import SUBJECTS, page_of, weights_of


def main() -> None:
    """Print one line for each network."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", nargs="+", default=[BUNDLED, *(one.model for one in SUBJECTS)])
    parser.add_argument("--tiles", nargs="+", type=int, default=[96, 128, 192, 256, 384, 512, 768])
    parser.add_argument("--side", type=int, default=800, help="side of the page")
    parser.add_argument("--runs", type=int, default=2)
    given = parser.parse_args()
    settings = get_settings()
    pixels = page_of(given.side, given.side).pixels
    with tempfile.TemporaryDirectory() as folder:
        for model in given.models:
            subject = next((one for one in SUBJECTS if one.model == model), None)
            card = weights_of(subject, settings, Path(folder))[0] if subject else CARDS[model]
            network = load_network(Recipe(card), settings)
            found = []
            for tile in given.tiles:
                times = []
                for _ in range(given.runs):
                    began = time.perf_counter()
                    run_tiled(network, pixels, tile)
                    times.append(time.perf_counter() - began)
                found.append(f"{tile}: {statistics.median(times) / (given.side**2 / 1e6):.2f}")
            print(
                f"{card.name} ({network.precision}, chosen {choose_tile_size(network, None)}): {'  '.join(found)}",
                flush=True,
            )


if __name__ == "__main__":
    main()
