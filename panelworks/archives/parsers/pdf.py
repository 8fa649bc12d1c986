"""Reading PDF pages with PDFium. Runs in a child process.

The file of a page's only image is used only if the decoded file equals the rendered page. Therefore other properties of
an image (Decode arrays, masks, clips, opacity, colour spaces, a stamp) need no special handling.
"""

import ctypes
import io
import os
from typing import Any, Final

import pypdfium2
import pypdfium2.raw as pdfium
from PIL import Image, ImageChops, ImageCms, ImageOps

from panelworks.archives.parsers.pdf_layout import (
    WHOLE_SHARE,
    DrawnImage,
    contents_of,
    fills_page,
    limited_size,
    size_of,
)
from panelworks.errors import Rejected

_MIN_BYTES_PER_PAGE: Final = 4
"""Each page has an object in the file; even the smallest, in a compressed stream, is larger."""
_COMPARED_PIXELS: Final = 12_000_000
"""Larger pages are rendered in this size for the comparison."""
_COMPARED_BLOCK: Final = 4
"""Side of the blocks whose means are compared: two decoders differ in single pixels."""
_MAX_DIFFERENCE: Final = 8
"""Pictures count as equal if no block differs by more levels (of 255)."""
_MAX_TEXT_BYTES: Final = 4000
"""Maximum length of a title or of the names of authors."""
_MAX_EXAMINED: Final = 100
"""Number of images of a page that are examined for damage."""
_FILTERS: Final = frozenset(
    {"DCTDecode", "DCT", "JPXDecode", "CCITTFaxDecode", "CCF", "JBIG2Decode", "Crypt"}
)
"""Filters of images that PDFium supports, in addition to general filters."""
_COMPONENTS: Final = {
    pdfium.FPDF_COLORSPACE_DEVICEGRAY: 1,
    pdfium.FPDF_COLORSPACE_DEVICERGB: 3,
    pdfium.FPDF_COLORSPACE_DEVICECMYK: 4,
    pdfium.FPDF_COLORSPACE_CALGRAY: 1,
    pdfium.FPDF_COLORSPACE_CALRGB: 3,
    pdfium.FPDF_COLORSPACE_LAB: 3,
    pdfium.FPDF_COLORSPACE_INDEXED: 1,
    pdfium.FPDF_COLORSPACE_SEPARATION: 1,
}
_TRUE_COLOUR_BITS: Final = 24
_INSET_PIXELS: Final = 0.1
_BYTES_PER_PIXEL: Final = 18
"""Memory of a rendered page: the decoded image and the canvas of PDFium, and the copy of Pillow for the encoder."""


_documents: dict[bytes, Any] = {}
"""The document that this process has open."""


def describe(path: bytes, file_bytes: int, max_pages: int) -> dict[str, Any]:
    """Number of pages, title, author and reading direction (`R2L` or `L2R`).

    Raises:
        Rejected: `damaged`, `encrypted_archive`, `too_many_entries`, `bomb`.
    """
    document = _document(path)
    count = len(document)
    if count > max_pages:
        raise Rejected("too_many_entries", f"The PDF has more than {max_pages} pages, which is the limit.")
    if count * _MIN_BYTES_PER_PAGE > file_bytes:
        raise Rejected("bomb", f"The PDF states {count} pages, but has only {file_bytes} bytes.")
    if count == 0:
        raise Rejected("damaged", "The PDF has no pages.")
    return {
        "pages": count,
        "title": _metadata(document, b"Title"),
        "author": _metadata(document, b"Author"),
        "direction": _direction(document),
    }


def read_page(
    path: bytes,
    index: int,
    dpi: int,
    max_pixels: int,
    memory_bytes: int,
    max_bytes: int,
    raw_formats: list[str],
) -> list[Any]:
    """The file of the page's only image, or the rendered page as PNG (JPEG if PNG exceeds `max_bytes`).

    The second item describes the damage of an image of a rendered page; None if no damage was found. For the file of an
    image, the decoder of the page detects damage.

    Args:
        path: The PDF.
        index: Number of the page, from 0.
        dpi: Resolution of a page without an image that determines it.
        max_pixels: Largest page, and largest image on it.
        memory_bytes: Memory of this process.
        max_bytes: Largest file.
        raw_formats: Pillow's names of the formats that the reader of the page supports.

    Raises:
        Rejected: `damaged`, `too_large`, `bad_page_size`.
    """
    try:
        page = _document(path)[index]
    except pypdfium2.PdfiumError as error:
        raise Rejected("damaged", "The page of the PDF is damaged.") from error
    try:
        images, visible = contents_of(page)
        for image in images:
            if image.width * image.height > max_pixels:
                raise Rejected(
                    "too_large",
                    f"The page has an image of {image.width} x {image.height} pixels;"
                    f" at most {max_pixels / 1e6:.0f} megapixels are read.",
                )
        size = size_of(page, images, dpi, min(max_pixels, memory_bytes // _BYTES_PER_PIXEL), visible)
        inset = _INSET_PIXELS if any(fills_page(page, image) for image in images) else 0.0
        alone = images[-1] if images and not visible and fills_page(page, images[-1]) else None
        if alone is None:
            return [_encoded(_rendered(page, size, inset), max_bytes), _damage_of(page, images)]
        damage = _damage_of(page, [alone])
        compared = limited_size(size, _COMPARED_PIXELS)
        rendering = _rendered(page, compared, inset)
        data = _file_of(page, alone, raw_formats)
        if damage is None and data is not None and len(data) <= max_bytes and _shows(data, rendering):
            return [data, None]
        return [_encoded(rendering if compared == size else _rendered(page, size, inset), max_bytes), damage]
    finally:
        page.close()


def _document(path: bytes) -> Any:
    if path not in _documents:
        _documents.clear()
        try:
            _documents[path] = pypdfium2.PdfDocument(os.fsdecode(path))
        except pypdfium2.PdfiumError as error:
            if "password" in str(error).lower():
                raise Rejected(
                    "encrypted_archive", "The PDF is locked with a password; unlock it first."
                ) from error
            if "security" in str(error).lower():
                raise Rejected(
                    "encrypted_archive", "The encryption of the PDF is not supported; unlock it first."
                ) from error
            raise Rejected("damaged", "The PDF is damaged.") from error
    return _documents[path]


def _metadata(document: Any, key: bytes) -> str:
    """A metadata text of the document, without invalid UTF-16; pypdfium2 would refuse the whole text."""
    size = pdfium.FPDF_GetMetaText(document, key, None, 0)
    buffer = ctypes.create_string_buffer(size)
    pdfium.FPDF_GetMetaText(document, key, buffer, size)
    text = buffer.raw[: _MAX_TEXT_BYTES // 2 * 2].decode("utf-16-le", "replace")
    return text.partition("\0")[0].replace("\ufffd", "").strip()


def _direction(document: Any) -> str | None:
    buffer = ctypes.create_string_buffer(16)
    pdfium.FPDF_VIEWERREF_GetName(document, b"Direction", buffer, len(buffer))
    return buffer.value.decode("ascii", "replace") or None


def _rendered(page: Any, size: tuple[int, int], inset: float) -> Image.Image:
    """Render the page on white in exactly this size, smaller by `inset` pixels.

    PDFium rounds the position of an image outwards: because of rounding errors, an image that fills the page would become
    a pixel larger and be resampled. If the page is smaller by a fraction of a pixel, each pixel of the image is kept. The
    strips of a scan need the opposite: only without an inset are their inner edges on whole pixels.
    """
    width, height = size
    across, down = page.get_size()
    matrix = pdfium.FS_MATRIX(
        (width - inset) / across,
        0,
        0,
        (height - inset) / down,
        inset / 2,
        inset / 2,
    )
    bitmap = pypdfium2.PdfBitmap.new_native(width, height, pdfium.FPDFBitmap_BGR)
    bitmap.fill_rect((255, 255, 255, 255), 0, 0, width, height)
    clip = pdfium.FS_RECTF(0, 0, width, height)
    pdfium.FPDF_RenderPageBitmapWithMatrix(bitmap, page, matrix, clip, pdfium.FPDF_ANNOT)
    image: Image.Image = bitmap.to_pil()
    bitmap.close()
    return image


def _file_of(page: Any, image: DrawnImage, formats: list[str]) -> bytes | None:
    """The file of an image as stored in the PDF, or its pixels as PNG; None if it is not usable on its own."""
    buffer = io.BytesIO()
    try:
        pypdfium2.PdfImage(image.raw, page=page).extract(buffer, fb_format="png")
        data = buffer.getvalue()
        with Image.open(io.BytesIO(data)) as found:
            usable = found.format in formats and found.mode in ("1", "L", "P", "RGB")
            return data if usable and found.size == (image.width, image.height) else None
    except Exception:  # noqa: BLE001 - the page is rendered if the image cannot be extracted
        return None


def _damage_of(page: Any, images: list[DrawnImage]) -> str | None:
    """The damage of the first damaged image, as far as the size of its data shows it; None if none is found."""
    for image in images[:_MAX_EXAMINED]:
        found = pypdfium2.PdfImage(image.raw, page=page)
        filters = found.get_filters(skip_simple=True)
        if not filters:
            metadata = found.get_metadata()
            available = pdfium.FPDFImageObj_GetImageDataDecoded(image.raw, None, 0)
            if _is_short(available, image, metadata.colorspace, metadata.bits_per_pixel):
                return "the data of an image ends early"
        elif filters[-1] not in _FILTERS:
            return f"an image is packed by {filters[-1][:40]!r}, which is not supported"
        elif filters == ["DCTDecode"] and _ends_early(bytes(found.get_data(decode_simple=True))):
            return "the data of an image ends early"
    return None


def _is_short(available: int, image: DrawnImage, colour: int, bits_per_pixel: int) -> bool:
    """Are there fewer bytes than the image needs? PDFium does not provide the bits of a component: data that is too short
    for 8 bits may be complete for fewer bits."""
    components = _COMPONENTS.get(colour, 3 if bits_per_pixel == _TRUE_COLOUR_BITS else 1)
    needed = {bits: -(-image.width * components * bits // 8) * image.height for bits in (1, 2, 4, 8)}
    if bits_per_pixel == 1:
        return available < needed[1]
    slack = max(16, image.height // 100)
    return available < needed[8] and not any(0 <= available - size <= slack for size in needed.values())


def _ends_early(jpeg: bytes) -> bool:
    try:
        with Image.open(io.BytesIO(jpeg)) as image:
            image.load()
    except OSError as error:
        return "truncated" in str(error)
    except Exception:  # noqa: BLE001 - a file that Pillow cannot decode is no evidence of damage
        return False
    return False


def _shows(data: bytes, rendering: Image.Image) -> bool:
    """Does the decoded file equal the rendered page?"""
    try:
        with Image.open(io.BytesIO(data)) as image:
            if image.width * image.height > _COMPARED_PIXELS:
                image.draft("RGB", rendering.size)
            picture = ImageOps.exif_transpose(_in_srgb(image))
    except Exception:  # noqa: BLE001 - a file that Pillow cannot decode is not used
        return False
    if picture.size != rendering.size:
        shape = abs(picture.width / picture.height * rendering.height / rendering.width - 1)
        if shape > 1 - WHOLE_SHARE:
            return False
        picture = picture.resize(rendering.size, Image.Resampling.BOX)
    block = max(1, min(_COMPARED_BLOCK, *rendering.size))
    difference = ImageChops.difference(picture.reduce(block), rendering.reduce(block))
    extrema = difference.getextrema()
    return max(high for _, high in extrema) <= _MAX_DIFFERENCE  # type: ignore[misc]


def _in_srgb(image: Image.Image) -> Image.Image:
    profile = image.info.get("icc_profile")
    if profile and image.mode in ("RGB", "L"):
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        converted = ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
        if converted is not None:
            return converted
    return image.convert("RGB")


def _encoded(image: Image.Image, max_bytes: int) -> bytes:
    gray = image.convert("L")
    if all(high == 0 for _, high in _channel_differences(image)):
        image = gray
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=1)
    if buffer.tell() > max_bytes:
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=95, subsampling=0)
    return buffer.getvalue()


def _channel_differences(image: Image.Image) -> list[tuple[int, int]]:
    red, green, blue = image.split()
    return [ImageChops.difference(red, other).getextrema() for other in (green, blue)]  # type: ignore[misc]
