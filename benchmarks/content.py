"""Accuracy of the classification of page content: precision and recall on the open pages.

    python -m benchmarks.content --pages ../shared/assets/pages
    python -m benchmarks.content --pages ../shared/assets/corpus --every 5

The pages of the corpus are those that the rules of the classification were not written on. Their manifest describes each;
pages whose description allows several kinds are left out.

The photographs come with scikit-image (extra `dev`).
"""

import argparse
import json
from collections import Counter
from collections.abc import Iterator
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
_KIND_OF_WORDS: Final[dict[str, Kind | None]] = {
    "ink or coloured": None, "drawing or colour": None, "or painted": "colour", "spot colour": None, "halftone print": None,
    "one tint": None, "crayon": None, "colour in": "line_art", "colour": "colour", "painted": "colour", "flat cartoon": "colour",
    "ink": "line_art", "line": "line_art", "engraving": "line_art", "pen": "line_art", "black": "line_art",
}  # fmt: skip
"""True kind of pages of the corpus, by the first of these words in their description; None: it may be of several kinds."""
_PHOTOGRAPHS: Final = ("astronaut", "coffee", "chelsea", "rocket", "retina", "immunohistochemistry")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pages", type=Path, required=True)
    parser.add_argument("--every", type=int, default=1, help="Take only every Nth page of each description.")
    args = parser.parse_args()
    found: Counter[tuple[str, str]] = Counter()
    for name, truth, picture in _pictures(args.pages, args.every):
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


def _pictures(folder: Path, every: int) -> Iterator[tuple[str, Kind, Picture]]:
    """Name, true kind and pixels of each page, and of the photographs."""
    described = {one["file"]: one["kind"] for one in json.loads((folder / "manifest.json").read_text())}
    seen: Counter[str] = Counter()
    for path in sorted(folder.iterdir()):
        if path.suffix not in (".png", ".jpg", ".webp"):
            continue
        truth = _kind_of_corpus(described[path.name]) if folder.name == "corpus" else _kind_of_page(path.name)
        seen[described[path.name]] += 1
        if truth is not None and seen[described[path.name]] % every == 0:
            yield path.name, truth, open_picture(str(path))
    for name in _PHOTOGRAPHS:
        yield name, "photograph", Picture(np.ascontiguousarray(getattr(data, name)()[:, :, :3]))


def _kind_of_page(name: str) -> Kind:
    return next((kind for beginning, kind in _NOT_COLOUR.items() if name.startswith(beginning)), "colour")


def _kind_of_corpus(description: str) -> Kind | None:
    return next((kind for words, kind in _KIND_OF_WORDS.items() if words in description), None)


if __name__ == "__main__":
    main()
