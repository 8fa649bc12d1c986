"""An archive of books with small, drawn, different pages."""

import io
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image

from tests.pages import drawn

_SIZE = (160, 200)


def write_archive(folder: Path, pages: int, per_book: int, seed: int) -> None:
    """Write `pages` pages as CBZ files of `per_book` pages. Another seed makes other pages."""
    pixels = drawn(*_SIZE, seed=seed).pixels
    for book in range(-(-pages // per_book)):
        with zipfile.ZipFile(folder / f"book-{book:04}.cbz", "w") as archive:
            for page in range(book * per_book, min(pages, (book + 1) * per_book)):
                # Each page is rolled by another number of pixels: other bytes, the same work.
                moved = np.roll(pixels, (page % _SIZE[1], page // _SIZE[1]), (0, 1))
                file = io.BytesIO()
                Image.fromarray(moved).save(file, "PNG")
                archive.writestr(f"{page:05}.png", file.getvalue())
