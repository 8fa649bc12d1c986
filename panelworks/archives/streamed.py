"""RAR, 7Z, TAR and damaged ZIP files through libarchive, which reads them sequentially in a child process."""

import os
from collections.abc import Collection, Iterator
from contextlib import closing
from pathlib import Path
from typing import Final

from panelworks.archives.member import ArchiveKind, ClosingArchive, Content, Member, Meter
from panelworks.archives.naming import decoded_names, is_system_file, natural_key, normalised
from panelworks.archives.sandbox import TOO_COSTLY, Sandbox
from panelworks.archives.sandbox_child import Limits
from panelworks.domain.books import Refusal
from panelworks.errors import Rejected
from panelworks.settings import Settings

_FORMATS: Final[dict[bytes, tuple[ArchiveKind, str]]] = {
    b"Rar!\x1a\x07\x01": ("rar", "rar5"),
    b"Rar!": ("rar", "rar"),
    b"7z\xbc\xaf": ("7z", "7zip"),
    b"PK": ("zip", "zip"),
    b"": ("tar", "tar"),
}
"""Signatures: the kind, and libarchive's name of the only format that is tried."""
_FILTERS: Final = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"(\xb5/\xfd": "zstd"}
"""Allowed compression of a whole TAR. libarchive supports more, some by starting other programs."""
_PARSER: Final = "panelworks.archives.parsers.packed"
_OUTPUT_RESERVE_BYTES: Final = 4 << 20
"""Size of a reply in addition to the largest file."""
_MAX_KILLS: Final = 3
"""Child processes that the files of one archive may crash or exceed the limits of."""
_INCOMPLETE: Final = Refusal(
    name="(what follows)",
    code="truncated",
    message="The archive is damaged from here on; the entries before are read.",
)


class StreamedArchive(ClosingArchive):
    """The members of an archive that is read as a stream."""

    kind: ArchiveKind

    def __init__(self, path: Path, settings: Settings) -> None:
        """Open the file and list it.

        Raises:
            Rejected: `unsupported_archive`, `encrypted_archive`, `too_many_entries`, `too_large`,
                `document_too_costly`, `parser_crashed`.
            Misconfigured: `missing_library`.
        """
        self._address, self._settings = os.fsencode(path), settings
        with path.open("rb") as file:
            start = file.read(8)
        self.kind, self._format = next(one for mark, one in _FORMATS.items() if start.startswith(mark))
        self._filter = next((name for mark, name in _FILTERS.items() if start.startswith(mark)), "none")
        self.members, self.refused = self._list()

    def _list(self) -> tuple[tuple[Member, ...], tuple[Refusal, ...]]:
        listed, is_incomplete = self._listed()
        named = decoded_names([raw for _, raw, _, _ in listed], self._settings.name_encoding)
        self.notes = named.notes
        members, refused, skipped = [], [], list[str]()
        for (index, _, size, regular), decoded in zip(listed, named.names, strict=True):
            name = normalised(decoded)
            if isinstance(name, Refusal):
                refused.append(name)
            elif is_system_file(name):
                skipped.append(name)
            elif regular:
                members.append(Member(index, name, size))
            else:
                refused.append(
                    Refusal(name=name, code="symlink", message="It is a link or device and was skipped.")
                )
        self.skipped = tuple(skipped)
        if is_incomplete:
            refused.append(_INCOMPLETE)
        return tuple(sorted(members, key=lambda member: natural_key(member.name))), tuple(refused)

    def _listed(self) -> tuple[list[tuple[int, bytes, int | None, bool]], bool]:
        """Index, name as stored, size and whether it is a regular file, for each entry; and whether the listing is incomplete."""
        meter, listed = Meter(self._settings), list[tuple[int, bytes, int | None, bool]]()
        stream = self._sandbox(self._settings.document_seconds).stream(
            f"{_PARSER}:entries", self._address, self._format, self._filter
        )
        with closing(stream):
            for batch in stream:
                if batch == ["locked"]:
                    raise Rejected(
                        "encrypted_archive", "The archive is locked with a password; unlock it first."
                    )
                if batch == ["damaged"]:
                    if listed:
                        return listed, True
                    raise Rejected(
                        "unsupported_archive",
                        "This is not a supported archive, or its beginning is damaged.",
                    )
                for index, name, size, folder, regular in batch:
                    meter.entry(size)
                    if not folder:
                        listed.append((index, name, size, regular))
        return listed, False

    def read(self, wanted: Collection[int]) -> Iterator[tuple[Member, Content]]:
        meter, by_index = Meter(self._settings), {member.index: member for member in self.members}
        left = {index for index in wanted if index in by_index}
        for _ in range(_MAX_KILLS):
            try:
                for index, content in self._contents(sorted(left), meter):
                    left.discard(index)
                    yield by_index[index], content
            except Rejected as error:
                if not left:
                    return
                # Entries are read in order: the first remaining one ended the process. The others are read without it.
                culprit = min(left)
                left.discard(culprit)
                yield by_index[culprit], error
            else:
                missing = Rejected("truncated", "The archive ends before this file.")
                break
        else:
            missing = Rejected(
                TOO_COSTLY,
                f"{_MAX_KILLS} files of the archive exceeded a limit; those after them are not read.",
            )
        for index in sorted(left):
            yield by_index[index], missing

    def _contents(self, wanted: list[int], meter: Meter) -> Iterator[tuple[int, Content]]:
        stream = self._sandbox(self._settings.document_page_seconds).stream(
            f"{_PARSER}:contents",
            self._address,
            self._format,
            self._filter,
            wanted,
            self._settings.max_source_bytes,
        )
        with closing(stream):
            for index, how, data in stream:
                if how == "locked":
                    yield index, Rejected("encrypted_archive", "It is locked with a password.")
                elif how == "damaged":
                    yield index, Rejected("damaged", "Its data in the archive is damaged.")
                elif how is not None:
                    yield index, _metered(data, meter)

    def _sandbox(self, seconds: float) -> Sandbox:
        output = self._settings.max_source_bytes + _OUTPUT_RESERVE_BYTES
        return Sandbox(Limits(seconds, self._settings.parser_memory_bytes, output))


def _metered(data: bytes, meter: Meter) -> Content:
    try:
        return meter.gather([data])
    except Rejected as error:
        return error
