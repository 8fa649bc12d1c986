"""Books for tests: archives of small drawn pages."""

import zipfile
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from tests.pages import drawn, file_of


def page_file(seed: int = 1, width: int = 96, height: int = 128, format: str = "PNG") -> bytes:
    """The bytes of a picture file with a drawn page."""
    return file_of(Image.fromarray(drawn(width, height, seed=seed).pixels), format)


def write_book(
    path: Path, pages: int = 3, *, first_seed: int = 1, extras: dict[str, bytes] | None = None
) -> Path:
    """Write a CBZ of drawn pages, numbered without leading zeros, followed by `extras`; returns its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as book:
        for number in range(pages):
            book.writestr(f"page {number + 1}.png", page_file(first_seed + number))
        for name, data in (extras or {}).items():
            book.writestr(name, data)
    return path


def write_zip(path: Path, entries: Sequence[tuple[str, bytes]]) -> Path:
    """Write a ZIP with these entries, in this order; returns its path."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in entries:
            archive.writestr(name, data)
    return path


def names_in(path: Path) -> list[str]:
    """Names of a ZIP's entries, in order. Reads every entry and verifies its checksum."""
    with zipfile.ZipFile(path) as book:
        assert book.testzip() is None
        return book.namelist()
