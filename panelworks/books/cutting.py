"""A page as the book gets it: fitted to the target, and a strip cut at its gutters where the format ends."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np

from panelworks.books.options import PageSpec
from panelworks.pictures import FORMAT_SIDE_LIMITS, Picture, encode, fit_size, resize
from panelworks.pictures.formats import PictureFormat, format_that_holds

_BLANK: Final = 10
"""Levels between the darkest and lightest pixel of a row that shows nothing."""
_BAND: Final = 1024
"""Rows that are looked at together."""


@dataclass(frozen=True)
class PagePart:
    """One encoded picture of a page."""

    format: PictureFormat
    size: tuple[int, int]
    data: bytes


def cut_page(master: Picture, spec: PageSpec, xmp: bytes | None) -> Iterator[PagePart]:
    """The page in the format of the spec. One that it cannot hold is cut at blank gutters; without any, it takes
    the next format that holds it."""
    page = resize(master, fit_size(master.size, (spec.width, spec.height)))
    for top, bottom in parts_of(page, FORMAT_SIDE_LIMITS[spec.format]):
        part = page.region(0, top, page.width, bottom - top)
        format = format_that_holds(*part.size, spec.format)
        yield PagePart(format, part.size, encode(part, format, spec.quality, xmp))


def parts_of(page: Picture, limit: int) -> list[tuple[int, int]]:
    """Rows (top, bottom) of the parts, each at most `limit` high; the whole page where it cannot be cut so."""
    whole = [(0, page.height)]
    if page.height <= limit or page.width > limit:
        return whole
    blank = np.flatnonzero(blank_rows(page))
    parts, top = [], 0
    while page.height - top > limit:
        reach = blank[(blank > top) & (blank <= top + limit)]
        if not reach.size:
            return whole
        cut = _middle_of_last_run(reach)
        parts.append((top, cut))
        top = cut
    return [*parts, (top, page.height)]


def blank_rows(page: Picture) -> np.ndarray:
    """Which rows show nothing but one tone, as booleans."""
    found = []
    for top in range(0, page.height, _BAND):
        rows = page.pixels[top : top + _BAND]
        spread = rows.max(axis=1).astype(np.int16) - rows.min(axis=1)
        found.append((spread <= _BLANK).all(axis=1))
    return np.concatenate(found)


def _middle_of_last_run(rows: np.ndarray) -> int:
    """The middle of the last run of neighbouring rows."""
    breaks = np.flatnonzero(np.diff(rows) > 1)
    begin = rows[breaks[-1] + 1] if breaks.size else rows[0]
    return int(begin + rows[-1] + 1) // 2
