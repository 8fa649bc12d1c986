"""The pictures for the training, and the works that are held out.

Pages come from folders with a `manifest.json` (file, licence, kind, clean). Only openly licensed pages of known origin are
read. Whole works are held out, so that figures are valid for a new book.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Final, Literal

import numpy as np
import numpy.typing as npt
from PIL import Image

from training.drawings import Look, draw_page

OPEN_LICENCES = ("CC BY", "CC0", "MIT", "US public domain", "Public Domain Dedication")
HELD_OUT = (
    "justso_",
    "pepper_coriander",
    "pepper_silent_page",
    "ai_neontech",
    "gopher_",
    "alice_",
    "pair_upscale-3x_clean",
)
_LOOKS: Final[tuple[Look, ...]] = ("colour", "colour", "screentone", "ink")
EXCLUDED_NAMES = ("degraded", "derived_jpeg", "derived_webtoon", "derived_gray", "three_blind_mice")


Kind = Literal["painted", "line", "flat", "screentone"]
"""How a picture is drawn: with continuous tones; with black lines; with fields of one colour each; with dots for grays."""
_KIND_WORDS: Final[tuple[tuple[Kind, tuple[str, ...]], ...]] = (
    ("screentone", ("screentone",)),
    ("flat", ("flat colour", "flat cartoon", "shaded colour drawing", "solid black shapes", "procedural")),
    ("painted", ("watercolour", "painted", "colour p", "coloured", "print halftone", "halftone print", "spot colour")),
    ("line", ("line", "ink", "engraving", "pen", "etched", "crayon")),
)  # fmt: skip
"""Words of the manifest's description by kind; the first match counts."""
_KIND_OF_LOOK: Final[dict[Look, Kind]] = {"colour": "flat", "screentone": "screentone", "ink": "line"}


@dataclass(frozen=True)
class Page:
    """One picture of the corpus."""

    name: str
    pixels: npt.NDArray[np.uint8]
    """HxWx3, sRGB."""
    kind: Kind = "painted"


def kind_of(description: str) -> Kind:
    """The kind of a picture by the description in its manifest."""
    for kind, words in _KIND_WORDS:
        if any(word in description for word in words):
            return kind
    return "painted"


def _read_image(path: Path) -> npt.NDArray[np.uint8]:
    with Image.open(path) as image:
        if image.mode in ("RGBA", "LA", "P"):
            layers = image.convert("RGBA")
            paper = Image.new("RGBA", layers.size, "white")
            return np.asarray(Image.alpha_composite(paper, layers).convert("RGB"))
        return np.asarray(image.convert("RGB"))


def read_pages(folder: Path, *, held_out: bool, store: Path | None = None) -> list[Page]:
    """Read the openly licensed pages under `folder`: those for training, or those held out.

    Pages that are not `clean`, such as scans of prints, are reduced to half their size. With a `store`, a folder, the pixels
    are decoded once and stay in files there, which are mapped into memory: the processes of a training share them.
    """
    pages = []
    for entry in json.loads((folder / "manifest.json").read_text()):
        name = str(entry["file"])
        if name.endswith(".cbz") or any(word in name for word in EXCLUDED_NAMES):
            continue
        if not str(entry["licence"]).startswith(OPEN_LICENCES):
            continue
        if name.startswith(HELD_OUT) == held_out:
            clean = bool(entry.get("clean", True))
            pixels = (
                _map_pixels(folder / name, store, clean=clean)
                if store
                else _read_target(folder / name, clean=clean)
            )
            pages.append(Page(name, pixels, kind_of(str(entry["kind"]))))
    return pages


def _map_pixels(path: Path, store: Path, *, clean: bool) -> npt.NDArray[np.uint8]:
    decoded = store / f"{path.name}.npy"
    if not decoded.exists():
        store.mkdir(parents=True, exist_ok=True)
        unfinished = decoded.with_suffix(".new")
        with unfinished.open("wb") as file:
            np.save(file, _read_target(path, clean=clean))
        unfinished.rename(decoded)
    mapped: npt.NDArray[np.uint8] = np.load(decoded, mmap_mode="r")
    return mapped


def _read_target(path: Path, *, clean: bool) -> npt.NDArray[np.uint8]:
    pixels = _read_image(path)
    if clean:
        return pixels
    half = (pixels.shape[1] // 2, pixels.shape[0] // 2)
    return np.asarray(Image.fromarray(pixels).resize(half, Image.Resampling.LANCZOS))


def read_folder(folder: Path) -> list[Page]:
    """Read all PNG files of a folder: clip art in the public domain, drawn from vectors (see README.md here)."""
    return [Page(path.stem, _read_image(path), "flat") for path in sorted(folder.glob("*.png"))]


def draw_pages(count: int, seed: int, fonts: tuple[Path, ...] = ()) -> list[Page]:
    """Draw `count` procedural pages of 640x800."""
    random = Random(seed)
    pages = []
    for index in range(count):
        look = random.choice(_LOOKS)
        pixels = np.asarray(draw_page((640, 800), random, look, fonts))
        pages.append(Page(f"drawing-{index}", pixels, _KIND_OF_LOOK[look]))
    return pages


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
