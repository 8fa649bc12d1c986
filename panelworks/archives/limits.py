"""The limits of an archive, held while it is read: what a header states may lie."""

from collections.abc import Iterable
from typing import Final

from panelworks.errors import Rejected
from panelworks.settings import MIB, Settings

CHUNK: Final = 1 << 20
"""Bytes that are unpacked at a time."""
_RATIO_FROM: Final = 16 * MIB
"""Unpacked bytes from which a ratio is suspicious: line art in BMP packs well, but is small."""


class Meter:
    """Counts what comes out of one archive."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._entries = 0
        self._declared = 0
        self._total = 0

    def entry(self, declared: int | None) -> None:
        """Count an entry of the listing.

        Raises:
            Rejected: `too_many_entries`, `too_large`: the whole archive is refused.
        """
        self._entries += 1
        self._declared += declared or 0
        if self._entries > self._settings.max_archive_entries:
            raise too_many_entries(self._settings)
        if self._declared > self._settings.max_archive_bytes:
            raise self._too_large()

    def gather(self, blocks: Iterable[bytes], packed: int | None = None) -> bytes:
        """The bytes of one entry that takes `packed` bytes in the archive.

        Raises:
            Rejected: `too_large`; `bomb`, it grows without measure.
        """
        data = bytearray()
        for block in blocks:
            data += block
            self._total += len(block)
            if len(data) > self._settings.max_source_bytes:
                raise Rejected(
                    "too_large",
                    f"It unpacks to more than {self._settings.max_source_bytes / MIB:.0f} MiB,"
                    " which is the most that is read.",
                )
            if packed and len(data) > max(_RATIO_FROM, packed * self._settings.max_archive_ratio):
                raise Rejected(
                    "bomb", f"It grows more than {self._settings.max_archive_ratio} times when unpacked."
                )
            if self._total > self._settings.max_archive_bytes:
                raise self._too_large()
        return bytes(data)

    def _too_large(self) -> Rejected:
        limit = self._settings.max_archive_bytes / 2**30
        return Rejected(
            "too_large", f"The archive unpacks to more than {limit:.0f} GiB, which is the most that is read."
        )


def too_many_entries(settings: Settings) -> Rejected:
    """The error for an archive with more entries than are read."""
    return Rejected(
        "too_many_entries",
        f"The archive has more than {settings.max_archive_entries} entries, which is the most that is read.",
    )
