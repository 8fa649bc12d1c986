"""Accuracy of the classification of page content: precision and recall on the open pages.

    python -m benchmarks.content --pages ../shared/assets/pages

The photographs come with scikit-image (extra `dev`).
"""

import argparse
from collections import Counter
from pathlib import Path
from typing import Final, get_args

import numpy as np
from skimage import data

from panelworks.domain.quality import Kind
from panelworks.pictures import Picture
from panelworks.quality.content import classify_content
from tests.damage import open_picture

_NOT_COLOUR: Final[dict[str, Kind]] = {
    "alice_": "line_art",
    "glass_": "line_art",
    "justso_": "line_art",
    "pepper_pencil": "line_art",
    "derived_gray": "gray",
    "derived_screentone": "screentone",
    "pair_descreen_clean": "gray",
    "pair_descreen_degraded": "screentone",
}
"""True kind of pages, by the beginning of their names. All others are drawn in colour."""
_PHOTOGRAPHS: Final = ("astronaut", "coffee", "chelsea", "rocket", "retina", "immunohistochemistry")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pages", type=Path, required=True)
    args = parser.parse_args()
    found: Counter[tuple[str, str]] = Counter()
    for name, picture in _pictures(args.pages):
        truth: Kind = "photograph" if name in _PHOTOGRAPHS else _truth(name)
        predicted = classify_content(picture).kind
        found[truth, predicted] += 1
        if truth != predicted:
            print(f"{name}: {predicted} instead of {truth}")
    print("| kind | pages | precision | recall |\n|---|---|---|---|")
    for kind in get_args(Kind):
        right = found[kind, kind]
        predicted_count = sum(count for (_, answer), count in found.items() if answer == kind)
        true_count = sum(count for (truth, _), count in found.items() if truth == kind)
        print(
            f"| {kind.replace('_', ' ')} | {true_count} | {right}/{predicted_count} | {right}/{true_count} |"
        )


def _pictures(folder: Path) -> list[tuple[str, Picture]]:
    pages = [
        (path.name, open_picture(str(path)))
        for path in sorted(folder.iterdir())
        if path.suffix in (".png", ".jpg", ".webp")
    ]
    return pages + [
        (name, Picture(np.ascontiguousarray(getattr(data, name)()[:, :, :3]))) for name in _PHOTOGRAPHS
    ]


def _truth(name: str) -> Kind:
    return next((kind for beginning, kind in _NOT_COLOUR.items() if name.startswith(beginning)), "colour")


if __name__ == "__main__":
    main()
