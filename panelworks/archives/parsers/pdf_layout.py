"""The layout of a PDF page: its images, visible objects above them, and the size of the page in pixels."""

import ctypes
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import pypdfium2.raw as pdfium

from panelworks.errors import Rejected

_POINTS_PER_INCH: Final = 72
WHOLE_SHARE: Final = 0.98
"""Share of the sides of a page that an image must cover to count as the whole page."""
_MOST_SHARE: Final = 0.8
"""An image with this share of the area of a page determines the resolution of the page."""
_MIN_IMAGE_DPI: Final = 50
"""An image with a lower resolution counts as a background."""
_MAX_DPI: Final = 1200
_MAX_SHEAR: Final = 1e-3
"""Largest shear of an unrotated image, relative to its size."""
_MAX_DEPTH: Final = 4
_MAX_OBJECTS: Final = 20_000
"""Number of objects of a page that are examined. A page with more objects counts as a drawing."""
_INVISIBLE: Final = frozenset({pdfium.FPDF_TEXTRENDERMODE_INVISIBLE, pdfium.FPDF_TEXTRENDERMODE_CLIP})
_BLANK_ANNOTATIONS: Final = frozenset({pdfium.FPDF_ANNOT_LINK, pdfium.FPDF_ANNOT_POPUP})
Matrix = tuple[float, float, float, float, float, float]


@dataclass(frozen=True)
class DrawnImage:
    """An image on a page."""

    raw: Any
    matrix: Matrix
    """From its unit square to the page, in points."""
    width: int
    height: int
    """In pixels."""

    @property
    def pixels_per_point(self) -> float:
        a, b, c, d, _, _ = self.matrix
        across, down = (a * a + b * b) ** 0.5, (c * c + d * d) ** 0.5
        finest: float = max(self.width / max(across, 1e-6), self.height / max(down, 1e-6))
        return finest

    @property
    def area(self) -> float:
        a, b, c, d, _, _ = self.matrix
        return abs(a * d - b * c)


def contents_of(page: Any) -> tuple[list[DrawnImage], bool]:
    """The images of a page from bottom to top, and whether another object is visible above the topmost image.

    Objects below an image that fills the page are hidden; if not, the comparison with the rendered page detects them.
    """
    images: list[DrawnImage] = []
    above = False
    for count, (raw, matrix) in enumerate(_objects(page)):
        if count >= _MAX_OBJECTS:
            return images, True
        kind = pdfium.FPDFPageObj_GetType(raw)
        if kind == pdfium.FPDF_PAGEOBJ_IMAGE:
            width, height = ctypes.c_uint(), ctypes.c_uint()
            if pdfium.FPDFImageObj_GetImagePixelSize(raw, width, height) and width.value and height.value:
                drawn = DrawnImage(raw, _product(_matrix(raw), matrix), width.value, height.value)
                # An image above one that fills the page is a stamp.
                above = bool(images) and fills_page(page, images[-1]) and not fills_page(page, drawn)
                images.append(drawn)
        elif not (
            kind == pdfium.FPDF_PAGEOBJ_TEXT and pdfium.FPDFTextObj_GetTextRenderMode(raw) in _INVISIBLE
        ):
            above = True
    return images, above or _has_visible_annotation(page)


def _objects(page: Any) -> Iterator[tuple[Any, Matrix]]:
    """The objects in painting order. Forms are replaced by their objects."""
    for number in range(pdfium.FPDFPage_CountObjects(page)):
        yield from _expand_form(pdfium.FPDFPage_GetObject(page, number), (1, 0, 0, 1, 0, 0), 0)


def _expand_form(raw: Any, matrix: Matrix, depth: int) -> Iterator[tuple[Any, Matrix]]:
    if pdfium.FPDFPageObj_GetType(raw) != pdfium.FPDF_PAGEOBJ_FORM or depth >= _MAX_DEPTH:
        yield raw, matrix
        return
    inner = _product(_matrix(raw), matrix)
    for number in range(pdfium.FPDFFormObj_CountObjects(raw)):
        yield from _expand_form(pdfium.FPDFFormObj_GetObject(raw, number), inner, depth + 1)


def _matrix(raw: Any) -> Matrix:
    found = pdfium.FS_MATRIX()
    pdfium.FPDFPageObj_GetMatrix(raw, found)
    return found.a, found.b, found.c, found.d, found.e, found.f


def _product(first: Matrix, second: Matrix) -> Matrix:
    """The matrix that applies `first`, then `second`."""
    a, b, c, d, e, f = first
    g, h, i, j, k, m = second
    return a * g + b * i, a * h + b * j, c * g + d * i, c * h + d * j, e * g + f * i + k, e * h + f * j + m


def _has_visible_annotation(page: Any) -> bool:
    for number in range(pdfium.FPDFPage_GetAnnotCount(page)):
        annotation = pdfium.FPDFPage_GetAnnot(page, number)
        if not annotation:
            continue
        try:
            if pdfium.FPDFAnnot_GetSubtype(annotation) not in _BLANK_ANNOTATIONS:
                return True
        finally:
            pdfium.FPDFPage_CloseAnnot(annotation)
    return False


def fills_page(page: Any, image: DrawnImage) -> bool:
    """Is the image upright and as large as the page?"""
    if page.get_rotation() != 0:
        return False
    a, b, c, d, left, bottom = image.matrix
    x, y, right, top = page.get_bbox()
    width, height = right - x, top - y
    upright = a > 0 and d > 0 and abs(b) <= _MAX_SHEAR * a and abs(c) <= _MAX_SHEAR * d
    slack = 1 - WHOLE_SHARE
    return (
        upright
        and abs(a - width) <= slack * width
        and abs(d - height) <= slack * height
        and abs(left - x) <= slack * width
        and abs(bottom - y) <= slack * height
    )


def size_of(page: Any, images: list[DrawnImage], dpi: int, max_pixels: int, visible: bool) -> tuple[int, int]:
    """The size of the page in pixels: at the resolution of the image that covers most of it, otherwise at `dpi`, within the limit."""
    width, height = page.get_size()
    if not (width > 0 and height > 0 and width < float("inf") and height < float("inf")):
        raise Rejected("bad_page_size", "The page of the PDF has no size.")
    area = width * height
    found = [image for image in images if image.area >= _MOST_SHARE * area]
    if not found and not visible:  # a scan that was cut into strips
        found = images if sum(image.area for image in images) >= _MOST_SHARE * area else []
    scale = dpi / _POINTS_PER_INCH
    if found:
        own = max(image.pixels_per_point for image in found)
        if own * _POINTS_PER_INCH >= _MIN_IMAGE_DPI or not visible:
            scale = min(own, max(dpi, _MAX_DPI) / _POINTS_PER_INCH) if visible else own
            if len(found) == 1 and fills_page(page, found[0]) and scale == own:
                return limited_size((found[0].width, found[0].height), max_pixels)
    size = limited_size((_whole_pixels(width * scale), _whole_pixels(height * scale)), max_pixels)
    if min(width, height) * scale < 1 or max(size) > 32 * 1024 * max(1, min(size)):
        raise Rejected(
            "bad_page_size",
            f"The page of the PDF is {width:.3g} x {height:.3g} points, which is not a valid page size.",
        )
    return size


def _whole_pixels(length: float) -> int:
    return max(1, math.ceil(length - 1e-3))


def limited_size(size: tuple[int, int], max_pixels: int) -> tuple[int, int]:
    width, height = size
    if width * height <= max_pixels:
        return size
    scale = (max_pixels / (width * height)) ** 0.5
    return max(1, int(width * scale)), max(1, int(height * scale))
