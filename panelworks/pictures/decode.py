"""Decoding pictures. The content determines the format, and limits are checked before pixels are decoded."""

import io
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Final

from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    ExifTags,
    GifImagePlugin,
    Image,
    Jpeg2KImagePlugin,
    JpegImagePlugin,
    PngImagePlugin,
    PpmImagePlugin,
    TgaImagePlugin,
    TiffImagePlugin,
    UnidentifiedImageError,
)

from panelworks.errors import PanelworksError, Rejected
from panelworks.pictures import jpeg_stream, png_chunks, tiff_directories, webp_chunks
from panelworks.pictures.avif_boxes import complete_sequence, is_sequence
from panelworks.pictures.colour import to_picture
from panelworks.pictures.identify import refuse_archive, unknown_format_error
from panelworks.pictures.picture import Picture
from panelworks.pictures.pixel_data import Header, OpenedFile, load_pixels, stated_colour_space
from panelworks.pictures.structure import (
    GIF_SIGNATURES,
    Structure,
    is_pnm,
    is_targa,
    scan_gif,
    scan_pnm,
)
from panelworks.pictures.tiff_deep import (
    is_deep,
    refuse_unsupported,
    unsupported_kind_error,
)
from panelworks.settings import Settings

try:  # a separate extra, since its wheels contain libraries under the LGPL
    from pi_heif import register_heif_opener
except ImportError:
    _HEIF: tuple[str, ...] = ()
else:
    register_heif_opener(thumbnails=False)
    _HEIF = ("HEIF",)
FORMATS: Final = tuple(
    decoder.format
    for decoder in (
        PngImagePlugin.PngImageFile,
        JpegImagePlugin.JpegImageFile,
        GifImagePlugin.GifImageFile,
        TiffImagePlugin.TiffImageFile,
        BmpImagePlugin.BmpImageFile,
        AvifImagePlugin.AvifImageFile,
        PpmImagePlugin.PpmImageFile,
        Jpeg2KImagePlugin.Jpeg2KImageFile,
    )
)
"""Formats that Pillow may try. Each decoder is imported by name, so that it is registered."""
_ROTATED: Final = (5, 6, 7, 8)
"""EXIF orientations that swap width and height."""
TRANSPOSITIONS: Final = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""The operation that makes a picture with an EXIF orientation upright."""
_LEADING_BYTES: Final = 64
"""Maximum white space before the signature that is skipped; some web servers and scripts add it."""
_JPEG_2000: Final = (b"\x00\x00\x00\x0cjP  \r\n\x87\n", b"\xff\x4f\xff\x51\x00")
"""Signatures of a JP2 file and of a bare code stream."""
_MAX_PIXEL_BYTES: Final = 4
"""For pixels with more bytes, fewer than `max_pixels` are read: decoding 16-bit colour needs several times its size
(3.1 GB for 196 megapixels)."""
_MAX_RUN_LENGTH_BYTES: Final = 4 << 20
_HEIF_BRANDS: Final = (
    b"heic",
    b"heix",
    b"heim",
    b"heis",
    b"hevc",
    b"hevx",
    b"hevm",
    b"hevs",
    b"mif1",
    b"msf1",
)
"""Brands of pictures in HEVC (ISO/IEC 23008-12, annex B); `mif1` and `msf1` apply to any codec."""
_TARGA: Final = (TgaImagePlugin.TgaImageFile.format,)
"""Tried only if `is_targa` recognizes the file: Pillow reads many other files as TGA."""
_pillow_limit = threading.Lock()


FIRST_FRAME_NOTE: Final = "animated: only the first"
"""Begin of the note on an animation of which one frame is decoded."""


@dataclass(frozen=True)
class Decoded:
    """A decoded picture, with notes on how it was read."""

    picture: Picture
    header: Header
    notes: tuple[str, ...]


def read_header(data: bytes, limits: Settings) -> Header:
    """Format, upright size and number of frames, within the limits.

    Raises:
        Rejected: `empty`, `too_large`, `archive`, `unsupported_format`, `damaged`, `truncated`, `too_many_frames`,
            `out_of_proportion`.
    """
    with _opened(data, limits) as file:
        return file.header


def is_picture(data: bytes, limits: Settings) -> bool:
    """Is it a picture of a supported format, regardless of its name? A damaged one counts if its signature is unambiguous."""
    if _kind_of(data) not in (None, "ppm"):
        return True
    try:  # "BM", "P5" and the first bytes of a TGA also occur in other files
        read_header(data, limits)
    except Rejected:
        return False
    return True


def decode(data: bytes, limits: Settings) -> Decoded:
    """The upright first frame in 8-bit sRGB or gray. `Picture.damage` describes why its pixels may be wrong.

    Raises:
        Rejected: as `read_header`; `truncated`, the data ends early.
    """
    with _opened(data, limits) as file:
        notes = list(file.structure.notes)
        if file.header.frames > 1:
            notes.append(f"{FIRST_FRAME_NOTE} of {file.header.frames} frames was taken")
        loaded = load_pixels(file)
        image = loaded.image
        directory = file.structure.info.get("directory")
        white_is_zero = directory is not None and directory.value(tiff_directories.PHOTOMETRIC, 1) == 0
        if file.orientation in TRANSPOSITIONS:
            image = image.transpose(TRANSPOSITIONS[file.orientation])
        space = None if loaded.is_srgb else stated_colour_space(image, file)
        picture, remarks = to_picture(image, white_is_zero=white_is_zero, space=space)
    damage = file.structure.damage or loaded.damage
    notes = list(dict.fromkeys((*notes, *loaded.notes, *remarks)))
    return Decoded(replace(picture, damage=damage), file.header, tuple(notes))


@contextmanager
def _opened(data: bytes, limits: Settings) -> Iterator[OpenedFile]:
    """Open a file lazily for a block. All errors of decoders become `Rejected`."""
    data, notes = _without_leading_space(_checked(data, limits))
    known = _kind_of(data)
    page: tiff_directories.Directory | None = None
    try:
        structure = _structure_of(data, known, limits)
        structure = replace(structure, notes=(*notes, *structure.notes))
        page = structure.info.get("directory")
        if page is not None:
            refuse_unsupported(page)
        if page is not None and is_deep(page):
            yield _file(None, "tiff", page.size, structure, limits)
            return
        if known == "webp":
            yield _file(None, known, structure.info["size"], structure, limits)
            return
        formats = (*FORMATS, *_TARGA) if known is None and is_targa(data) else FORMATS
        formats = _HEIF if known == "heif" else formats
        with _open(structure.data, formats) as image:
            image.info.update(structure.info)
            yield _file(image, _format_of(image), image.size, structure, limits)
    except (PanelworksError, MemoryError, TimeoutError):
        raise  # the timeout of a task is not a damaged picture
    except UnidentifiedImageError:
        if known is None:
            raise unknown_format_error(data) from None
        if page is not None and page.is_complete:
            raise unsupported_kind_error(page) from None
        raise Rejected(
            "damaged", f"The {known.upper()} picture's data is damaged and cannot be read."
        ) from None
    except Exception as error:  # decoders of untrusted bytes raise any kind of error
        if "truncated" in str(error).lower():
            raise Rejected("truncated", "The picture's data ends before the picture does.") from error
        if isinstance(error, OSError) and str(error).startswith("Unsupported "):
            raise Rejected(
                "unsupported_format", f"This kind of picture is not supported: {error}."
            ) from error
        raise Rejected("damaged", "The picture's data is damaged and cannot be read.") from error


def _kind_of(data: bytes) -> str | None:
    """The format, by its signature, if its structure is read before decoding; None for others."""
    if data.startswith(png_chunks.SIGNATURE):
        return "png"
    if data.startswith(jpeg_stream.SIGNATURE):
        return "jpeg"
    if data.startswith(tiff_directories.SIGNATURES):
        return "tiff"
    if data.startswith(GIF_SIGNATURES):
        return "gif"
    if is_pnm(data):
        return "ppm"
    if data.startswith(_JPEG_2000):
        return "jpeg2000"
    if _HEIF and _is_heif(data):
        return "heif"
    return "webp" if data[:4] == b"RIFF" and data[8:12] == b"WEBP" else None


def _is_heif(data: bytes) -> bool:
    """Is it a HEIC picture? An AVIF may have a general brand as well, and lists its own brand among the others."""
    brands = data[8 : int.from_bytes(data[:4])]
    return data[4:8] == b"ftyp" and brands[:4] in _HEIF_BRANDS and b"avif" not in brands


def _structure_of(data: bytes, kind: str | None, limits: Settings) -> Structure:
    if kind == "png":
        return png_chunks.scan_png(data)
    if kind == "jpeg":
        return jpeg_stream.scan_jpeg(data)
    if kind == "gif":
        return scan_gif(data, limits.max_frames)
    if kind == "ppm":
        return scan_pnm(data, limits.max_pixels)
    if data.startswith(b"BM"):
        _refuse_long_runs(data)
    if kind == "tiff":
        return tiff_directories.scan_tiff(data, limits.max_frames)
    if kind == "webp":
        return webp_chunks.scan_webp(data, limits.max_frames)
    if is_sequence(data):
        return _scan_sequence(data, limits)
    return Structure(data)


def _scan_sequence(data: bytes, limits: Settings) -> Structure:
    """An AVIF sequence; one that ends early is completed if it contains a frame.

    Raises:
        Rejected: `truncated`, it contains no complete frame.
    """
    completed, frames = complete_sequence(data, limits.max_source_bytes)
    if frames == 0:
        raise Rejected("truncated", "The picture's data ends before the picture does.")
    return Structure(completed, notes=() if frames is None else ("the animation ends early",))


def _refuse_long_runs(data: bytes) -> None:
    """Refuse large run-length encoded bitmaps: Pillow needs half a second for a megabyte."""
    is_run_length = int.from_bytes(data[30:34], "little") in (1, 2) and len(data) > _MAX_RUN_LENGTH_BYTES
    if is_run_length and int.from_bytes(data[14:18], "little") >= 40:
        raise Rejected(
            "too_large",
            f"Run-length encoded bitmaps are read up to {_MAX_RUN_LENGTH_BYTES >> 20} MiB; convert it to PNG.",
        )


def _open(data: bytes | memoryview, formats: tuple[str, ...]) -> Image.Image:
    """Open without Pillow's own pixel limit; `_file` checks our limit."""
    with _pillow_limit:
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            return Image.open(io.BytesIO(data), formats=formats)
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def _checked(data: bytes, limits: Settings) -> bytes:
    if not data:
        raise Rejected("empty", "The file is empty.")
    if len(data) > limits.max_source_bytes:
        raise Rejected(
            "too_large",
            f"The file has {len(data) / 2**20:.1f} MiB; at most {limits.max_source_bytes / 2**20:.0f} are read.",
        )
    refuse_archive(data)
    return data


def _without_leading_space(data: bytes) -> tuple[bytes, tuple[str, ...]]:
    """The data from its signature on, and a note if white space was skipped."""
    head = data[:_LEADING_BYTES].removeprefix(b"\xef\xbb\xbf").lstrip()
    skipped = len(data[:_LEADING_BYTES]) - len(head)
    if (
        not skipped
        or _kind_of(data)
        or not (_kind_of(head) or head.startswith((b"GIF8", b"II*\0", b"MM\0*", b"BM")))
    ):
        return data, ()
    return data[skipped:], (f"{skipped} bytes of white space before the picture were skipped",)


def _format_of(image: Image.Image) -> str:
    # MPO is a JPEG with more pictures (a depth map, a preview) after the page.
    return "jpeg" if image.format == "MPO" else str(image.format).lower()


def _file(
    image: Image.Image | None, kind: str, size: tuple[int, int], structure: Structure, limits: Settings
) -> OpenedFile:
    width, height = size
    if width * height > limits.max_pixels:
        raise Rejected(
            "too_large",
            f"The picture is {width} x {height} pixels, {width * height / 1e6:.0f} megapixels;"
            f" at most {limits.max_pixels / 1e6:.0f} are read.",
        )
    pixel_bytes = _pixel_bytes(kind, structure)
    if width * height * pixel_bytes > limits.max_pixels * _MAX_PIXEL_BYTES:
        raise Rejected(
            "too_large",
            f"The picture is {width} x {height} pixels of {8 * pixel_bytes:.0f} bits;"
            f" at most {limits.max_pixels * _MAX_PIXEL_BYTES / pixel_bytes / 1e6:.0f} megapixels of these are read.",
        )
    counted = image is None or kind in ("png", "jpeg", "tiff", "gif")
    frames = structure.frames if counted else int(getattr(image, "n_frames", 1))
    if frames > limits.max_frames:
        raise Rejected(
            "too_many_frames", f"The animation has {frames} frames; at most {limits.max_frames} are read."
        )
    if kind == "tiff":
        # Pillow returns size and pixels upright; `load_deep` returns them as stored.
        orientation = 1 if image else structure.info["directory"].value(tiff_directories.ORIENTATION, 1)
    else:
        orientation = _orientation(_metadata_image(structure.info) if counted and kind != "jpeg" else image)
    if orientation in _ROTATED:
        width, height = height, width
    return OpenedFile(Header(kind, width, height, frames), structure, orientation, image)


def _pixel_bytes(kind: str, structure: Structure) -> float:
    """Bytes of a decoded pixel, for formats with more than 8 bits in a channel; 1 for others."""
    if kind == "png":
        return structure.data[24] * png_chunks.SAMPLES_PER_PIXEL.get(structure.data[25], 1) / 8
    directory = structure.info.get("directory")
    if directory is None:
        return 1
    bits = directory.values(tiff_directories.BITS, 1)
    samples = max(len(bits), directory.value(tiff_directories.SAMPLES, 1))
    return float(max(bits) * samples / 8)


def _metadata_image(info: dict[str, Any]) -> Image.Image:
    """An image of one pixel with the file's metadata: Pillow decodes a whole PNG to find its orientation."""
    image = Image.new("1", (1, 1))
    image.info.update(info)
    return image


def orientation_of(info: dict[str, Any]) -> int:
    """EXIF orientation 1..8 in the metadata of a file, under Pillow's names; 1 if there is none."""
    return _orientation(_metadata_image(info))


def _orientation(image: Image.Image | None) -> int:
    """EXIF orientation 1..8; 1 if there is none or the block is damaged."""
    try:
        return 1 if image is None else int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # noqa: BLE001 - a damaged EXIF block must not fail the page
        return 1
