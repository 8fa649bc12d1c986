"""Watermarks of requests: their pictures are stored when a page is planned, so that every worker draws the same one, and
the content key contains its hash."""

import hashlib
import threading
import time
from collections.abc import Callable
from typing import Final

from panelworks import pictures
from panelworks.domain.formats import MEDIA_TYPES, VariantSpec
from panelworks.domain.options import EnhanceOptions
from panelworks.domain.treatment import Treatment
from panelworks.domain.watermark import Watermark
from panelworks.errors import Rejected
from panelworks.limits import MIB
from panelworks.pictures.watermark import check_text
from panelworks.settings import Settings
from panelworks.sources.fetch import Fetched
from panelworks.sources.stored import stored_source
from panelworks.storage.content import ContentStore

_MAX_PIXELS: Final = 16_000_000
_MAX_BYTES: Final = 16 * MIB
_KEPT_SECONDS: Final = 60.0
"""A picture on the network is fetched again after this time."""
_MAX_KEPT: Final = 64


class Watermarks:
    """Stores the pictures of watermarks."""

    def __init__(self, fetch: Callable[[str], Fetched], store: ContentStore, settings: Settings) -> None:
        """`fetch` reads an address."""
        self._fetch = fetch
        self._store = store
        self._limits = settings.model_copy(
            update={"max_pixels": _MAX_PIXELS, "max_source_bytes": min(_MAX_BYTES, settings.max_source_bytes)}
        )
        self._kept: dict[str, tuple[float, str]] = {}
        self._lock = threading.Lock()

    def stored(self, options: EnhanceOptions) -> EnhanceOptions:
        """The options with the addresses of stored pictures in place of what the request names.

        Raises:
            Rejected: a watermark is not a picture, is too large, or has a text that cannot be drawn.
            Transient, Misconfigured, UnsafeSource: as `fetch`.
        """
        if not watermarks_of(options):
            return options
        update = {
            "watermark": self._stored(options.watermark),
            "variants": tuple(self._stored_spec(spec) for spec in options.variants),
        }
        return options.model_copy(update=update)

    def _stored_spec(self, spec: VariantSpec) -> VariantSpec:
        if spec.watermark is None:
            return spec
        return spec.model_copy(update={"watermark": self._stored(spec.watermark)})

    def _stored(self, mark: Watermark | None) -> Watermark | None:
        if mark is None:
            return None
        if mark.text is not None:
            check_text(mark.text)
        if mark.image is None or mark.image.startswith("stored:"):
            return mark
        return mark.model_copy(update={"image": self._address_of(mark.image)})

    def _address_of(self, image: str) -> str:
        remote = image.startswith(("https://", "http://", "s3://"))
        with self._lock:
            seconds, address = self._kept.get(image, (0.0, ""))
        if remote and address and time.monotonic() - seconds < _KEPT_SECONDS:
            return address
        data = self._fetch(image).data
        try:
            decoded = pictures.decode(data, self._limits)
        except Rejected as error:
            raise Rejected(error.code, f"The picture of the watermark: {error.message}") from error
        header, size = decoded.header, decoded.picture.size
        self._store.put(data, MEDIA_TYPES[header.format], size)
        address = stored_source(hashlib.sha256(data).hexdigest(), header.format, "watermark")
        with self._lock:
            if len(self._kept) >= _MAX_KEPT:
                self._kept.clear()
            if remote:
                self._kept[image] = (time.monotonic(), address)
        return address


def watermarks_of(treatment: Treatment) -> list[Watermark]:
    """The watermarks that a request or a rule names."""
    marks = [treatment.watermark, *(spec.watermark for spec in treatment.variants)]
    return [mark for mark in marks if mark is not None]
