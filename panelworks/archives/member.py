"""What an archive holds, and what of it is not touched."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Literal, Protocol, Self

from panelworks.errors import Rejected
from panelworks.frozen import Frozen

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


class Refusal(Frozen):
    """A member that is left alone, and why."""

    name: str
    code: str
    message: str


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
