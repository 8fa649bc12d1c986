"""The pictures the network learns from, and the works it never sees.

Pages come from a folder with a `manifest.json` (file, licence, ...). Only openly licensed pages of
known source are read; whole works are held out, so that a figure says something about a new book.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from random import Random

import numpy as np
import numpy.typing as npt
from PIL import Image

from training.drawings import Look, draw_page

OPEN_LICENCES = ("CC BY", "CC0", "MIT", "US public domain")
HELD_OUT = (
    "justso_",
    "pepper_coriander",
    "pepper_silent_page",
    "ai_neontech",
    "gopher_",
    "alice_",
    "pair_upscale-3x_clean",
)
UNFIT = ("degraded", "derived_jpeg", "derived_webtoon", "derived_gray", "three_blind_mice")


@dataclass(frozen=True)
class Page:
    """One picture of the corpus."""

    name: str
    pixels: npt.NDArray[np.uint8]
    """HxWx3, sRGB."""


def _load(path: Path) -> npt.NDArray[np.uint8]:
    with Image.open(path) as image:
        if image.mode in ("RGBA", "LA", "P"):
            layers = image.convert("RGBA")
            paper = Image.new("RGBA", layers.size, "white")
            return np.asarray(Image.alpha_composite(paper, layers).convert("RGB"))
        return np.asarray(image.convert("RGB"))


def read_pages(folder: Path, *, held_out: bool) -> list[Page]:
    """The openly licensed pages under `folder`: the training works, or the works held out."""
    pages = []
    for entry in json.loads((folder / "manifest.json").read_text()):
        name = str(entry["file"])
        if name.endswith(".cbz") or any(word in name for word in UNFIT):
            continue
        if not str(entry["licence"]).startswith(OPEN_LICENCES):
            continue
        if name.startswith(HELD_OUT) == held_out:
            pages.append(Page(name, _load(folder / name)))
    return pages


def read_folder(folder: Path) -> list[Page]:
    """All PNG files of a folder: clip art in the public domain, drawn from vectors (see README.md here)."""
    return [Page(path.stem, _load(path)) for path in sorted(folder.glob("*.png"))]


def draw_pages(count: int, seed: int, fonts: tuple[Path, ...] = ()) -> list[Page]:
    """`count` procedural pages of 640x800."""
    random = Random(seed)
    looks: tuple[Look, ...] = ("colour", "colour", "screentone", "ink")
    return [
        Page(f"drawing-{index}", np.asarray(draw_page((640, 800), random, random.choice(looks), fonts)))
        for index in range(count)
    ]


def crop(page: Page, side: int, random: Random) -> npt.NDArray[np.uint8]:
    """A random square of `side` pixels, taken larger and shrunk when the page is large.

    Shrinking hides the compression of the source, so the target is cleaner than the file was.
    """
    height, width = page.pixels.shape[:2]
    largest = min(height, width) / side
    zoom = min(largest, random.choice([1.0, 1.0, 1.5, 2.0] if largest < 20 else [1.5, 2.0, 3.0, 4.0]))
    reach = int(side * zoom)
    top, left = random.randint(0, height - reach), random.randint(0, width - reach)
    square = page.pixels[top : top + reach, left : left + reach]
    if reach != side:
        square = np.asarray(Image.fromarray(square).resize((side, side), Image.Resampling.LANCZOS))
    return square
