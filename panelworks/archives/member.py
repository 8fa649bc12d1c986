"""Archives of pages: their members, refused members, and limits."""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Literal, Protocol, Self

from panelworks.domain.books import Refusal
from panelworks.domain.fields import Frozen
from panelworks.errors import Rejected
from panelworks.limits import MIB
from panelworks.settings import Settings

ARCHIVES: Final = frozenset(
    {".cbz", ".zip", ".cbr", ".rar", ".cb7", ".7z", ".cbt", ".tar", ".pdf", ".epub"}
)  # fmt: skip
"""File extensions of books."""
ArchiveKind = Literal["zip", "epub", "pdf", "folder", "rar", "7z", "tar", "other"]


@dataclass(frozen=True)
class Member:
    """A file in an archive."""

    index: int
    """Identity in the archive: names may occur several times."""
    name: str
    """Normalized: `/` between folders, relative, without `..`."""
    bytes: int | None = None
    """Unpacked size as the archive states it; the statement may be wrong."""


class BookInfo(Frozen):
    """Metadata of a document."""

    title: str = ""
    authors: tuple[str, ...] = ()
    right_to_left: bool = False


Content = bytes | Rejected
"""The bytes of a member, or the reason why they cannot be read."""


class Archive(Protocol):
    """An open archive. Members that must not be read are in `refused`, never in `members`."""

    kind: ArchiveKind
    members: tuple[Member, ...]
    """In reading order."""
    refused: tuple[Refusal, ...]
    info: BookInfo
    """Title, authors and reading direction, where the format states them."""
    skipped: tuple[str, ...]
    """Names of system files; they are not part of the book."""
    notes: tuple[str, ...]
    """Notes for people, such as that the encoding of the names is uncertain."""

    def read(self, wanted: Collection[int]) -> Iterator[tuple[Member, Content]]:
        """The members with these indices, each once, in the fastest order."""
        ...

    def close(self) -> None: ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class ClosingArchive:
    """Base of archives: a context manager that closes the archive."""

    info: BookInfo = BookInfo()

    skipped: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def close(self) -> None:
        """Close all files and processes of the archive."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


CHUNK_BYTES: Final = 1 << 20
"""Size of the pieces in which members are unpacked."""
_MIN_CHECKED_BYTES: Final = 16 * MIB
"""The ratio of smaller files is not checked: line art in BMP has a high ratio."""


class Meter:
    """Counts the entries and bytes of one archive and enforces the limits."""

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
            Rejected: `too_large`; `bomb`, its ratio exceeds the limit.
        """
        data = bytearray()
        for block in blocks:
            data += block
            self._total += len(block)
            if len(data) > self._settings.max_source_bytes:
                raise Rejected(
                    "too_large",
                    f"It unpacks to more than {self._settings.max_source_bytes / MIB:.0f} MiB,"
                    " which is the limit.",
                )
            if packed and len(data) > max(_MIN_CHECKED_BYTES, packed * self._settings.max_archive_ratio):
                raise Rejected(
                    "bomb",
                    f"Its unpacked size is more than {self._settings.max_archive_ratio} times its packed size.",
                )
            if self._total > self._settings.max_archive_bytes:
                raise self._too_large()
        return bytes(data)

    def _too_large(self) -> Rejected:
        limit = self._settings.max_archive_bytes / 2**30
        return Rejected("too_large", f"The archive unpacks to more than {limit:.0f} GiB, which is the limit.")


def too_many_entries(settings: Settings) -> Rejected:
    """The error for an archive with too many entries."""
    return Rejected(
        "too_many_entries",
        f"The archive has more than {settings.max_archive_entries} entries, which is the limit.",
    )
