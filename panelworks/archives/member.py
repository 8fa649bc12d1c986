"""What an archive holds, and what of it is not touched."""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Literal, Protocol, Self

from panelworks.domain.books import Refusal
from panelworks.domain.fields import Frozen
from panelworks.errors import Rejected
from panelworks.settings import MIB, Settings

ARCHIVES: Final = frozenset(
    {".cbz", ".zip", ".cbr", ".rar", ".cb7", ".7z", ".cbt", ".tar", ".pdf", ".epub"}
)  # fmt: skip
"""Extensions of files that are books."""
ArchiveKind = Literal["zip", "epub", "pdf", "folder", "rar", "7z", "tar", "other"]


@dataclass(frozen=True)
class Member:
    """A file in an archive."""

    index: int
    """Identity in the archive: names may occur twice."""
    name: str
    """Normalised: `/` between folders, relative, without `..`."""
    bytes: int | None = None
    """Unpacked size as the archive states it; it may lie."""


class BookInfo(Frozen):
    """What a document says of itself."""

    title: str = ""
    authors: tuple[str, ...] = ()
    right_to_left: bool = False


Content = bytes | Rejected
"""A member's bytes, or why they cannot be had."""


class Archive(Protocol):
    """An opened archive. Members that must not be read are among the refused, never among the members."""

    kind: ArchiveKind
    members: tuple[Member, ...]
    """In the order in which they are read by people."""
    refused: tuple[Refusal, ...]
    info: BookInfo
    """Title, authors and reading direction, where the format states them."""
    skipped: tuple[str, ...]
    """Names of files that systems leave behind; they are no part of the book."""
    notes: tuple[str, ...]
    """What a person should know of the archive, such as that the encoding of its names is in doubt."""

    def read(self, wanted: Collection[int]) -> Iterator[tuple[Member, Content]]:
        """The members with these indices, each once, in the order that is fastest."""
        ...

    def close(self) -> None: ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class Closing:
    """The `with` of an archive."""

    info: BookInfo = BookInfo()

    skipped: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def close(self) -> None:
        """Free what the archive holds open."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


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
