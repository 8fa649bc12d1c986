"""Making one variant of a master: crop, size, background, watermark, metadata, format and quality."""

import io
import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from PIL import Image

from panelworks.domain.formats import PictureFormat, VariantSpec, format_that_holds
from panelworks.domain.result import SourceInfo
from panelworks.pictures import Picture, encode, fit_size
from panelworks.pictures.compression import find_quality, limit_bytes
from panelworks.pictures.encode import flatten_on_white
from panelworks.pictures.jpeg_xl import is_upright, transcode_jpeg
from panelworks.pictures.metadata import Metadata, read_metadata
from panelworks.pictures.picture import Pixels
from panelworks.pictures.resample import resize
from panelworks.pictures.watermark import apply_watermark, draw_text, place_on_background
from panelworks.quality.focus import Interest, choose_crop, find_interest
from panelworks.sources.stored import stored_page

logger = logging.getLogger(__name__)
_WHITE = "#ffffff"


@dataclass(frozen=True)
class Variant:
    """One encoded derivative, in memory."""

    spec: VariantSpec
    format: PictureFormat
    """The format written: the requested one, or the next one whose side limit allows the size."""
    size: tuple[int, int]
    data: bytes
    quality: int | None = None
    """The quality that was found, for `quality: auto` and `bytes_at_most`."""
    note: str | None = None
    """What a person should know of it."""
    frames: int = 1


@dataclass
class Materials:
    """What variants of one master need beside its pixels. Thread-safe."""

    read: Callable[[str], bytes]
    """Reads the file of a stored picture."""
    decode: Callable[[bytes], Picture]
    jpeg: bytes | None = None
    """The file of the master, if it is the JPEG that was the source."""
    _interest: Interest | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def interest(self, master: Picture) -> Interest:
        """What crops of the master should keep; found once."""
        with self._lock:
            if self._interest is None:
                self._interest = find_interest(master)
            return self._interest


def _nothing(address: str) -> bytes:
    raise LookupError(address)


def no_materials() -> Materials:
    """For specs without watermarks of pictures and without metadata."""
    return Materials(_nothing, lambda data: Picture(np.zeros((1, 1, 1), dtype=np.uint8)))


def with_source(specs: tuple[VariantSpec, ...], source: SourceInfo) -> tuple[VariantSpec, ...]:
    """The variants, with the address of the source where they carry its metadata."""
    address = stored_page(source.sha256, source.format, "source")
    return tuple(
        spec if spec.metadata == "strip" else spec.model_copy(update={"source": address}) for spec in specs
    )


def variant_size(size: tuple[int, int], spec: VariantSpec) -> tuple[int, int]:
    """Width and height of a variant of a master of `size`."""
    if spec.fit != "inside" and spec.width is not None and spec.height is not None:
        return (spec.width, spec.height)
    return fit_size(size, (spec.width, spec.height))


def make_variant(
    master: Picture,
    resized: Callable[[tuple[int, int]], Picture],
    size: tuple[int, int],
    spec: VariantSpec,
    materials: Materials,
) -> Variant:
    """Make a variant of `size` (width, height), as `variant_size` states it.

    Args:
        master: The master.
        resized: Resizes the whole master.
        size: Width and height.
        spec: What is asked for.
        materials: What is needed beside the master.
    """
    format = format_that_holds(*size, spec.format)
    if spec.is_plain and format != "jxl":
        return Variant(spec, format, size, encode(resized(size), format, int(spec.quality)))
    transcoded = _transcode(master, size, spec, format, materials)
    if transcoded is not None:
        return Variant(spec, format, size, transcoded)
    picture = compose(master, resized, size, spec, materials)
    metadata = Metadata()
    if spec.metadata != "strip" and spec.source is not None:
        metadata = read_metadata(materials.read(spec.source), spec.metadata)
    return _compress(picture, format, spec, metadata)


def compose(
    master: Picture,
    resized: Callable[[tuple[int, int]], Picture],
    size: tuple[int, int],
    spec: VariantSpec,
    materials: Materials,
) -> Picture:
    """The pixels of a variant: cropped or fitted to `size`, with its background and its watermark. Arguments as `make_variant`."""
    picture = _fitted(master, resized, size, spec, materials)
    if spec.watermark is None:
        return picture
    mark = (
        materials.decode(materials.read(spec.watermark.image))
        if spec.watermark.image is not None
        else draw_text(spec.watermark.text or "", spec.watermark.colour)
    )
    return apply_watermark(picture, mark, spec.watermark)


def quality_of(picture: Picture, format: PictureFormat, spec: VariantSpec) -> int:
    """The quality that is stated, or the one that is found for `quality: auto`, in 1..100."""
    if spec.quality == "auto":
        return find_quality(flatten_on_white(picture), partial(_decoded_luma, format))
    return spec.quality


def _fitted(
    master: Picture,
    resized: Callable[[tuple[int, int]], Picture],
    size: tuple[int, int],
    spec: VariantSpec,
    materials: Materials,
) -> Picture:
    """The master cropped or fitted to `size`, on a background where one is asked for."""
    if spec.fit == "crop":
        picture = resize(_cropped(master, size, spec, materials), size)
    elif spec.fit == "fill":
        scale = min(side / whole for side, whole in zip(size, master.size, strict=True))
        inner = (max(1, round(master.width * scale)), max(1, round(master.height * scale)))
        inner = (min(inner[0], size[0]), min(inner[1], size[1]))
        return place_on_background(resized(inner), size, spec.background or _WHITE)
    else:
        picture = resized(size)
    if spec.background is not None and picture.alpha is not None:
        return place_on_background(picture, size, spec.background)
    return picture


def _cropped(master: Picture, size: tuple[int, int], spec: VariantSpec, materials: Materials) -> Picture:
    """The part of the master with the aspect ratio of `size`, around the focus."""
    scale = min(whole / side for side, whole in zip(size, master.size, strict=True))
    width = min(master.width, max(1, round(size[0] * scale)))
    height = min(master.height, max(1, round(size[1] * scale)))
    if spec.focus == "smart":
        left, top = choose_crop(materials.interest(master), master.size, (width, height))
    else:
        across, down = spec.focus
        left = round(min(max(across * master.width - width / 2, 0), master.width - width))
        top = round(min(max(down * master.height - height / 2, 0), master.height - height))
    return master.region(left, top, width, height)


def _transcode(
    master: Picture, size: tuple[int, int], spec: VariantSpec, format: PictureFormat, materials: Materials
) -> bytes | None:
    """The JPEG of the source as JPEG XL without loss, if the variant shows it unchanged; None if it does not."""
    changes = (
        format != "jxl", materials.jpeg is None, size != master.size, spec.fit != "inside",
        spec.watermark is not None, spec.metadata != "strip", spec.bytes_at_most is not None, spec.quality == "auto",
    )  # fmt: skip
    if any(changes) or materials.jpeg is None or not is_upright(materials.jpeg):
        return None
    try:
        return transcode_jpeg(materials.jpeg, size)
    except (RuntimeError, ValueError) as error:
        logger.info("variant %s is encoded from its pixels: %s", spec.name, error)
        return None


def _compress(picture: Picture, format: PictureFormat, spec: VariantSpec, metadata: Metadata) -> Variant:
    """Encode with the quality that is stated or found."""
    limited = spec.bytes_at_most is not None
    lossy_gray = limited or spec.quality == "auto"
    write = partial(
        encode, picture, format, metadata=metadata, progressive=spec.progressive, lossy_gray=lossy_gray
    )
    if format == "png":
        data = write(None)
        note = None
        if spec.bytes_at_most is not None and len(data) > spec.bytes_at_most:
            note = too_many_bytes(spec, len(data), "PNG has no quality")
        return Variant(spec, format, picture.size, data, note=note)
    quality = quality_of(picture, format, spec)
    exact = encode(picture, format, metadata=metadata) if picture.is_gray and format == "webp" else None
    if exact is not None and spec.quality != "auto" and len(exact) <= (spec.bytes_at_most or len(exact)):
        return Variant(spec, format, picture.size, exact)
    if spec.bytes_at_most is None:
        data = write(quality)
        if exact is not None and len(exact) <= len(data):  # screentone: lossless files are often smaller
            return Variant(spec, format, picture.size, exact)
        return Variant(spec, format, picture.size, data, quality if spec.quality == "auto" else None)
    highest = max(quality, spec.min_quality)
    found = limit_bytes(write, highest, spec.min_quality, spec.bytes_at_most)
    note = None
    if not found.fits:
        note = too_many_bytes(spec, len(found.data), f"at its lowest quality {found.quality}")
    if exact is not None and len(exact) <= len(found.data):
        fits = len(exact) <= spec.bytes_at_most
        note = None if fits else too_many_bytes(spec, len(exact), "without loss, which is smaller than lossy")
        return Variant(spec, format, picture.size, exact, note=note)
    return Variant(spec, format, picture.size, found.data, found.quality, note)


def too_many_bytes(spec: VariantSpec, bytes: int, reason: str) -> str:
    """A note on a variant that has more bytes than are allowed."""
    return f"variant {spec.name} has {bytes:,} bytes, more than the {spec.bytes_at_most:,} that are allowed: {reason}"


def _decoded_luma(format: PictureFormat, part: Picture, quality: int) -> Pixels:
    data = encode(part, format, quality, lossy_gray=True)
    with Image.open(io.BytesIO(data), formats=(format.upper(),)) as image:
        mode = "L" if part.is_gray else "RGB"
        pixels = np.asarray(image.convert(mode)).reshape(part.height, part.width, -1)
    return Picture(pixels).luma()
