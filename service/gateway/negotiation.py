"""Choosing a format for a client by its `Accept` header, and converting a picture where no stored format fits."""

import asyncio
import re
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from panelworks import pictures
from panelworks.domain.formats import MEDIA_TYPES, PictureFormat
from panelworks.errors import PanelworksError, Rejected
from panelworks.pictures.jpeg_xl import decode_jpeg_xl, is_jpeg_xl
from panelworks.settings import Settings

PREFERRED: Final[tuple[PictureFormat, ...]] = ("avif", "webp", "jpeg")
"""Formats for the web, the smallest files first. Of several that a client accepts equally, the first stored one is sent."""
QUALITIES: Final[Mapping[PictureFormat, int]] = {"avif": 70, "webp": 85, "jpeg": 85}
"""Quality of converted pictures."""
MAX_CONVERTED_PIXELS: Final = 16_000_000
"""Larger pictures are not converted; a variant of a page has 12 million at most."""
MAX_CACHE_BYTES: Final = 64 << 20
"""Converted pictures in the memory of a gateway. The least recently used are removed first."""
_MAX_ACCEPT_CHARACTERS: Final = 2000
_QUALITY: Final = re.compile(r"(?:0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)", re.ASCII)
_RANGE: Final = re.compile(r"(\*|[a-z0-9!#$&^_.+-]+)/(\*|[a-z0-9!#$&^_.+-]+)", re.ASCII)


def accepted_qualities(accept: str | None, media_types: Iterable[str]) -> dict[str, float]:
    """How much a client wants each media type, from 0 (not at all) to 1, by the most specific range that names it.

    Without a header, or with one that names no range at all, everything is accepted.
    """
    ranges = dict(_parse(accept or ""))
    if not ranges:
        return dict.fromkeys(media_types, 1.0)
    return {
        one: next((ranges[key] for key in (one, f"{one.partition('/')[0]}/*", "*/*") if key in ranges), 0.0)
        for one in media_types
    }


def _parse(accept: str) -> Iterable[tuple[str, float]]:
    """The media ranges of a header with their qualities. What is not well-formed is left out."""
    for entry in accept[:_MAX_ACCEPT_CHARACTERS].lower().split(","):
        media, *parameters = (part.strip() for part in entry.split(";"))
        if not _RANGE.fullmatch(media) or (media.startswith("*/") and media != "*/*"):
            continue
        quality = next((one[2:].strip() for one in parameters if one.startswith("q=")), "1")
        if _QUALITY.fullmatch(quality):
            yield media, float(quality)


def choose(accept: str | None, stored: Sequence[str]) -> tuple[str, bool]:
    """The media type to send, and whether the picture has to be converted to it.

    Stored pictures come first, the first one of `stored` before others; a picture is converted only for clients that accept none
    of them.

    Raises:
        Rejected: `not_acceptable`, the client accepts no format that can be made.
    """
    qualities = accepted_qualities(accept, (*stored, *(MEDIA_TYPES[one] for one in PREFERRED)))
    made = [MEDIA_TYPES[one] for one in PREFERRED if MEDIA_TYPES[one] not in stored]
    for media_types, convert in ((list(stored), False), (made, True)):
        best = max(media_types, key=lambda one: qualities[one], default=None)
        if best is not None and qualities[best] > 0:
            return best, convert
    raise Rejected("not_acceptable", "There is no format of this picture that the header Accept allows.")


class Conversions:
    """Pictures that were converted for clients, one at a time, with a cache in memory."""

    def __init__(self, settings: Settings, max_bytes: int = MAX_CACHE_BYTES) -> None:
        self._settings = settings
        self._max_bytes = max_bytes
        self._lock = asyncio.Lock()
        self._made: OrderedDict[tuple[str, str], bytes] = OrderedDict()

    @property
    def cached_bytes(self) -> int:
        """Bytes in the cache."""
        return sum(len(data) for data in self._made.values())

    async def convert(self, etag: str, data: bytes, media_type: str) -> bytes:
        """The first frame of a picture in another format.

        Args:
            etag: Identity of the stored picture.
            data: Its bytes.
            media_type: That of AVIF, WebP or JPEG.

        Raises:
            Rejected: `not_acceptable`, it is too large, animated or damaged.
        """
        key = (etag, media_type)
        async with self._lock:  # requests for one picture wait for one conversion
            if key not in self._made:
                self._made[key] = await asyncio.to_thread(_convert, data, media_type, self._settings)
            self._made.move_to_end(key)
            found = self._made[key]
            while self.cached_bytes > self._max_bytes:
                self._made.popitem(last=False)
            return found


def _convert(data: bytes, media_type: str, settings: Settings) -> bytes:
    format = next(one for one in PREFERRED if MEDIA_TYPES[one] == media_type)
    try:
        if is_jpeg_xl(data):
            return pictures.encode(decode_jpeg_xl(data, MAX_CONVERTED_PIXELS), format, QUALITIES[format])
        header = pictures.read_header(data, settings)
        if header.frames > 1 or header.width * header.height > MAX_CONVERTED_PIXELS:
            raise _not_converted()
        return pictures.encode(pictures.decode(data, settings).picture, format, QUALITIES[format])
    except PanelworksError as error:
        raise _not_converted() from error


def _not_converted() -> Rejected:
    return Rejected(
        "not_acceptable",
        "This picture is too large, animated or damaged; it is sent only in its stored format.",
    )
