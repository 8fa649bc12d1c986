"""PDF: a page that is one image gives that image as it is, any other one is rendered."""

import io
import threading
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, Final

from panelworks.archives.limits import Meter
from panelworks.archives.member import ArchiveKind, Closing, Content, Member, Refusal
from panelworks.errors import Rejected
from panelworks.settings import Settings

_POINTS_PER_INCH: Final = 72
_WHOLE: Final = 0.98
"""Share of a page's sides that an image must have, and have in place, to be the page."""
_STRAIGHT: Final = 1e-3
"""Largest shear of an image that is not turned, relative to its size."""
_pdfium = threading.Lock()
"""PDFium must not be called by two threads at once."""


class PdfArchive(Closing):
    """The pages of a PDF file as pictures."""

    kind: ArchiveKind = "pdf"

    def __init__(self, path: Path, settings: Settings) -> None:
        """Open the file.

        Raises:
            Rejected: `damaged`, `encrypted_archive`, `too_many_entries`.
        """
        import pypdfium2

        self._settings, self._meter = settings, Meter(settings)
        with _pdfium:
            try:
                self._document = pypdfium2.PdfDocument(path)
            except pypdfium2.PdfiumError as error:
                if "password" in str(error).lower():
                    raise Rejected(
                        "encrypted_archive", "The PDF is locked with a password; unlock it first."
                    ) from error
                raise Rejected("damaged", "The PDF is damaged.") from error
            count = len(self._document)
        for _ in range(count):
            self._meter.entry(None)
        width = max(4, len(str(count)))
        self.members = tuple(Member(index, f"page-{index + 1:0{width}d}.png") for index in range(count))
        self.refused: tuple[Refusal, ...] = ()

    def read(self, wanted: Collection[int]) -> Iterator[tuple[Member, Content]]:
        for member in self.members:
            if member.index in wanted:
                yield member, self._content(member.index)

    def _content(self, index: int) -> Content:
        try:
            with _pdfium:
                page = self._document[index]
                try:
                    data = _only_image(page) or self._rendered(page)
                finally:
                    page.close()
            return self._meter.gather([data])
        except Rejected as error:
            return error
        except Exception:  # noqa: BLE001 - PDFium and Pillow raise almost anything for a broken page
            return Rejected("damaged", "The page of the PDF is damaged.")

    def _rendered(self, page: Any) -> bytes:
        """The page at the dpi of the settings, or as many as the limit of pixels leaves."""
        width, height = page.get_size()
        scale = self._settings.pdf_dpi / _POINTS_PER_INCH
        scale = min(scale, (self._settings.max_pixels / max(1.0, width * height)) ** 0.5)
        image = page.render(scale=scale).to_pil()
        buffer = io.BytesIO()
        image.save(buffer, "PNG", compress_level=1)
        if buffer.tell() > self._settings.max_source_bytes:  # a noisy scan under a layer of text
            buffer = io.BytesIO()
            image.convert("RGB").save(buffer, "JPEG", quality=95, subsampling=0)
        return buffer.getvalue()

    def close(self) -> None:
        with _pdfium:
            self._document.close()


def _only_image(page: Any) -> bytes | None:
    """The file of the image that fills the page, if that is all there is on it, and upright."""
    import pypdfium2.raw as pdfium
    from PIL import Image

    objects = list(page.get_objects(max_depth=1))
    if len(objects) != 1 or objects[0].type != pdfium.FPDF_PAGEOBJ_IMAGE or page.get_rotation() != 0:
        return None
    image = objects[0]
    a, b, c, d, left, bottom = image.get_matrix().get()
    x, y, right, top = page.get_cropbox()
    width, height = right - x, top - y
    upright = a > 0 and d > 0 and abs(b) <= _STRAIGHT * a and abs(c) <= _STRAIGHT * d
    slack = 1 - _WHOLE
    fills = (
        abs(a - width) <= slack * width
        and abs(d - height) <= slack * height
        and abs(left - x) <= slack * width
        and abs(bottom - y) <= slack * height
    )
    if not (upright and fills):
        return None
    buffer = io.BytesIO()
    image.extract(buffer, fb_format="png")
    data = buffer.getvalue()
    with Image.open(io.BytesIO(data)) as found:
        return data if found.size == image.get_px_size() else None
