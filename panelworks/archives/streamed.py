"""RAR, 7Z, TAR and damaged ZIP files through libarchive, which reads from the front to the end."""

import locale
import logging
from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from panelworks.archives.limits import CHUNK, Meter
from panelworks.archives.member import ArchiveKind, Closing, Content, Member, Refusal
from panelworks.archives.naming import decoded_names, is_system_file, natural_key, normalised
from panelworks.errors import Misconfigured, Rejected
from panelworks.settings import Settings

logger = logging.getLogger(__name__)

_FORMATS: Final[dict[bytes, tuple[ArchiveKind, str]]] = {
    b"Rar!\x1a\x07\x01": ("rar", "rar5"),
    b"Rar!": ("rar", "rar"),
    b"7z\xbc\xaf": ("7z", "7zip"),
    b"PK": ("zip", "zip"),
    b"": ("tar", "tar"),
}
"""Beginnings of files: the kind, and libarchive's name of the one format that is tried. It knows stranger ones, too."""
_FILTERS: Final = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"(\xb5/\xfd": "zstd"}
"""How a TAR may be packed as a whole. libarchive knows more ways, some of which start other programs."""
_LOCKED: Final = ("encrypt", "passphrase", "password")
"""Words in libarchive's messages about archives that are locked."""
_BROKEN_OFF: Final = Refusal(
    name="(what follows)",
    code="truncated",
    message="The archive is damaged from here on; what came before is read.",
)


class StreamedArchive(Closing):
    """The members of an archive that is read as a stream."""

    kind: ArchiveKind

    def __init__(self, path: Path, settings: Settings) -> None:
        """Open the file and list it.

        Raises:
            Rejected: `unsupported_archive`, `encrypted_archive`, `too_many_entries`, `too_large`.
            Misconfigured: `missing_library`.
        """
        self._libarchive = _library()
        self._path, self._settings = path, settings
        with path.open("rb") as file:
            start = file.read(8)
        self.kind, self._format = next(one for mark, one in _FORMATS.items() if start.startswith(mark))
        self._filter = next((name for mark, name in _FILTERS.items() if start.startswith(mark)), "none")
        self.members, self.refused = self._list()

    def _list(self) -> tuple[tuple[Member, ...], tuple[Refusal, ...]]:
        listed, broken_off = self._listed()
        names = decoded_names([raw for _, raw, _, _ in listed])
        members, refused, skipped = [], [], list[str]()
        for (index, _, size, regular), decoded in zip(listed, names, strict=True):
            name = normalised(decoded)
            if isinstance(name, Refusal):
                refused.append(name)
            elif is_system_file(name):
                skipped.append(name)
            elif regular:
                members.append(Member(index, name, size))
            else:
                refused.append(
                    Refusal(name=name, code="symlink", message="It is a link or device; it is left out.")
                )
        self.skipped = tuple(skipped)
        if broken_off:
            refused.append(_BROKEN_OFF)
        return tuple(sorted(members, key=lambda member: natural_key(member.name))), tuple(refused)

    def _listed(self) -> tuple[list[tuple[int, bytes, int | None, bool]], bool]:
        """Index, name as stored, size and whether it is a plain file, of each entry; and whether the listing breaks off."""
        meter, listed = Meter(self._settings), []
        try:
            for index, entry in self._entries():
                meter.entry(entry.size)
                if not entry.isdir:
                    listed.append((index, _raw_name(entry.pathname, index), entry.size, bool(entry.isreg)))
        except self._libarchive.ArchiveError as error:
            if _locked(error):
                raise Rejected(
                    "encrypted_archive", "The archive is locked with a password; unlock it first."
                ) from error
            if not listed:
                raise Rejected(
                    "unsupported_archive",
                    "This is no archive that is read here, or it is damaged at its beginning.",
                ) from error
            return listed, True
        return listed, False

    def read(self, wanted: Collection[int]) -> Iterator[tuple[Member, Content]]:
        meter, by_index = Meter(self._settings), {member.index: member for member in self.members}
        open_ends = {index for index in wanted if index in by_index}
        try:
            for index, entry in self._entries():
                if not open_ends:
                    return
                if index in open_ends:
                    open_ends.discard(index)
                    yield by_index[index], self._content(entry, meter)
        except self._libarchive.ArchiveError as error:
            logger.info("%s breaks off: %s", self._path.name, error)
        for index in sorted(open_ends):
            yield by_index[index], Rejected("truncated", "The archive breaks off before this.")

    def _entries(self) -> Iterator[tuple[int, Any]]:
        with self._libarchive.file_reader(str(self._path), self._format, self._filter) as archive:
            yield from enumerate(archive)

    def _content(self, entry: Any, meter: Meter) -> Content:
        try:
            data = meter.gather(entry.get_blocks(CHUNK))
        except Rejected as error:
            return error
        except self._libarchive.ArchiveError as error:
            if _locked(error):
                return Rejected("encrypted_archive", "It is locked with a password.")
            return Rejected("damaged", "Its data in the archive is damaged.")
        if entry.size is not None and len(data) != entry.size:
            return Rejected("damaged", "Its data in the archive is damaged.")
        return data


def _raw_name(name: str | bytes | None, index: int) -> bytes:
    """The name as stored, or as UTF-8; a number where libarchive gives none."""
    if isinstance(name, bytes):
        return name
    if name is None:
        return f"unnamed-{index:05d}".encode()
    try:
        return name.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # UTF-16 of a 7Z with half a character
        return name.encode("utf-8", "replace")


def _use_utf8_names() -> None:
    """libarchive converts names to the character set of the C library's locale, and gives none for a name that this
    does not hold: in a locale without UTF-8 all names of a 7Z or RAR with other letters would be missing."""
    if locale.nl_langinfo(locale.CODESET).upper().replace("-", "") == "UTF8":
        return
    for name in ("C.UTF-8", "C.utf8", "en_US.UTF-8", "UTF-8"):
        with suppress(locale.Error):
            locale.setlocale(locale.LC_CTYPE, name)
            return
    logger.warning("no UTF-8 locale is installed: names with other than ASCII letters may be missing")


def _locked(error: Exception) -> bool:
    return any(word in str(error).lower() for word in _LOCKED)


def _library() -> Any:
    try:
        import libarchive
    except Exception as error:
        raise Misconfigured(
            "missing_library",
            "RAR, 7Z and TAR files need libarchive: apt-get install libarchive13, or brew install libarchive.",
        ) from error
    _use_utf8_names()
    return libarchive
