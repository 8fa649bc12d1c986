"""The pictures for the training, and the works that are held out.

Pages come from a folder with a `manifest.json` (file, licence, ...). Only openly licensed pages of known origin are
read. Whole works are held out, so that figures are valid for a new book.
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
EXCLUDED_NAMES = ("degraded", "derived_jpeg", "derived_webtoon", "derived_gray", "three_blind_mice")


@dataclass(frozen=True)
class Page:
    """One picture of the corpus."""

    name: str
    pixels: npt.NDArray[np.uint8]
    """HxWx3, sRGB."""


def _read_image(path: Path) -> npt.NDArray[np.uint8]:
    with Image.open(path) as image:
        if image.mode in ("RGBA", "LA", "P"):
            layers = image.convert("RGBA")
            paper = Image.new("RGBA", layers.size, "white")
            return np.asarray(Image.alpha_composite(paper, layers).convert("RGB"))
        return np.asarray(image.convert("RGB"))


def read_pages(folder: Path, *, held_out: bool) -> list[Page]:
    """Read the openly licensed pages under `folder`: those for training, or those held out."""
    pages = []
    for entry in json.loads((folder / "manifest.json").read_text()):
        name = str(entry["file"])
        if name.endswith(".cbz") or any(word in name for word in EXCLUDED_NAMES):
            continue
        if not str(entry["licence"]).startswith(OPEN_LICENCES):
            continue
        if name.startswith(HELD_OUT) == held_out:
            pages.append(Page(name, _read_image(folder / name)))
    return pages


def read_folder(folder: Path) -> list[Page]:
    """Read all PNG files of a folder: clip art in the public domain, drawn from vectors (see README.md here)."""
    return [Page(path.stem, _read_image(path)) for path in sorted(folder.glob("*.png"))]


def draw_pages(count: int, seed: int, fonts: tuple[Path, ...] = ()) -> list[Page]:
    """Draw `count` procedural pages of 640x800."""
    random = Random(seed)
    looks: tuple[Look, ...] = ("colour", "colour", "screentone", "ink")
    return [
        Page(f"drawing-{index}", np.asarray(draw_page((640, 800), random, random.choice(looks), fonts)))
        for index in range(count)
    ]


def crop(page: Page, side: int, random: Random) -> npt.NDArray[np.uint8]:
    """Crop a random square of `side` pixels. From a large page it is cropped larger and reduced.

    Reducing hides the compression of the source, so that the target is cleaner than the file.
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
