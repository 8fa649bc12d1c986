"""ZIP and CBZ: members are read in any order, and a damaged member does not affect the others."""

import io
import lzma
import stat
import struct
import zipfile
import zlib
from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO, Final

from panelworks.archives.member import (
    CHUNK_BYTES,
    ArchiveKind,
    ClosingArchive,
    Content,
    Member,
    Meter,
    too_many_entries,
)
from panelworks.archives.naming import DecodedNames, decoded_names, is_system_file, natural_key, normalised
from panelworks.domain.books import Refusal
from panelworks.errors import Rejected
from panelworks.settings import Settings

_ENCRYPTED: Final = 0x1
_UTF8: Final = 0x800
_FIELD: Final = struct.Struct("<HH")
"""Type and size of an extra field."""
_UNICODE_PATH: Final = 0x7075
"""Info-ZIP's field for a name in UTF-8 (APPNOTE.TXT, 4.6.9): version, CRC-32 of the legacy name, name."""
_MAX_DIRECTORY_BYTES: Final = 64 << 20
_ENTRIES_PER_FILE: Final = 2
"""Entries of the directory for each file that an archive may have: folders have entries as well."""
_UNICODE_PATH_HEAD: Final = struct.Struct("<BI")


class ZipArchive(ClosingArchive):
    """The members of a ZIP file."""

    kind: ArchiveKind = "zip"

    def __init__(self, path: Path, settings: Settings) -> None:
        """Open the file and list it.

        Raises:
            Rejected: `damaged`, it has no readable directory; `encrypted_archive`; `too_many_entries`, `too_large`.
        """
        try:
            self._zip = _LimitedZip(path, settings)
        except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
            raise Rejected("damaged", "The archive's directory is damaged.") from error
        self._meter, self._name_encoding = Meter(settings), settings.name_encoding
        self._infos: dict[int, zipfile.ZipInfo] = {}
        try:
            self.members, self.refused = self._list()
        except BaseException:
            self._zip.close()
            raise

    def _list(self) -> tuple[tuple[Member, ...], tuple[Refusal, ...]]:
        infos = [info for info in self._zip.infolist() if not _is_folder(info)]
        members, refused, skipped, encrypted = [], [], list[str](), 0
        decoded = _names(infos, self._name_encoding)
        self.notes = decoded.notes
        for index, (info, name) in enumerate(zip(infos, decoded.names, strict=True)):
            self._meter.entry(info.file_size)
            path = normalised(name)
            if isinstance(path, Refusal):
                refused.append(path)
                continue
            if is_system_file(path):
                skipped.append(path)
                continue
            if stat.S_ISLNK(info.external_attr >> 16):
                refused.append(Refusal(name=path, code="symlink", message="It is a link and was skipped."))
            elif info.flag_bits & _ENCRYPTED:
                encrypted += 1
                refused.append(
                    Refusal(name=path, code="encrypted_archive", message="It is locked with a password.")
                )
            else:
                self._infos[index] = info
                members.append(Member(index, path, info.file_size))
        self.skipped = tuple(skipped)
        if encrypted and not members:
            raise Rejected("encrypted_archive", "The archive is locked with a password; unlock it first.")
        return tuple(sorted(members, key=lambda member: natural_key(member.name))), tuple(refused)

    def read(self, wanted: Collection[int]) -> Iterator[tuple[Member, Content]]:
        for member in self.members:
            if member.index in wanted:
                yield member, self._content(self._infos[member.index])

    def _content(self, info: zipfile.ZipInfo) -> Content:
        try:
            with self._zip.open(info) as file:
                return self._meter.gather(blocks_of(file), info.compress_size)
        except Rejected as error:
            return error
        except NotImplementedError:
            return Rejected("unsupported_compression", "Its compression method is not supported.")
        except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, OSError, RuntimeError, ValueError):
            return Rejected("damaged", "Its data in the archive is damaged.")

    def close(self) -> None:
        self._zip.close()


class _LimitedFile(io.BufferedReader):
    """A file that refuses reads larger than the limit of an archive's directory."""

    def __init__(self, path: Path, settings: Settings) -> None:
        super().__init__(io.FileIO(path))
        self._settings = settings

    def read(self, size: int | None = -1, /) -> bytes:
        if size is not None and size > _MAX_DIRECTORY_BYTES:
            raise too_many_entries(self._settings)
        return super().read(size)


class _LimitedList(list[zipfile.ZipInfo]):
    """The entries of an archive. Adding an entry above the limit raises an error."""

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self._settings = settings
        self._limit = _ENTRIES_PER_FILE * settings.max_archive_entries

    def append(self, entry: zipfile.ZipInfo, /) -> None:
        if len(self) >= self._limit:
            raise too_many_entries(self._settings)
        super().append(entry)


class _LimitedZip(zipfile.ZipFile):
    """A ZIP file whose directory is limited while it is read: the size stated at its end may be wrong."""

    def __init__(self, path: Path, settings: Settings) -> None:
        """Open the file.

        Raises:
            Rejected: `too_many_entries`.
            BadZipFile, OSError, ValueError, NotImplementedError: the directory is damaged.
        """
        self._settings = settings
        self._source = _LimitedFile(path, settings)
        try:
            super().__init__(self._source)
        except BaseException:
            self._source.close()
            raise

    def __setattr__(self, name: str, value: object) -> None:
        super().__setattr__(name, _LimitedList(self._settings) if name == "filelist" else value)

    def close(self) -> None:
        super().close()
        self._source.close()


def _is_folder(info: zipfile.ZipInfo) -> bool:
    """Is the entry a folder? Its name ends in a slash; some programs for Windows write a backslash."""
    return info.filename.endswith("/") or (info.filename.endswith("\\") and not info.file_size)


def blocks_of(file: IO[bytes]) -> Iterator[bytes]:
    """The bytes of a file in pieces."""
    while block := file.read(CHUNK_BYTES):
        yield block


def _names(infos: list[zipfile.ZipInfo], encoding: str | None) -> DecodedNames:
    """The decoded names. Python decodes names without a stated encoding as cp437."""
    stated = [_stated_name(info) for info in infos]
    unstated = [info for info, name in zip(infos, stated, strict=True) if name is None]
    decoded = decoded_names([_raw_name(info) for info in unstated], encoding)
    names = iter(decoded.names)
    return DecodedNames([next(names) if name is None else name for name in stated], decoded.notes)


def _stated_name(info: zipfile.ZipInfo) -> str | None:
    """The name, if the archive states its encoding: by a flag, or in an extra field; None otherwise."""
    if info.flag_bits & _UTF8:
        return info.orig_filename
    data = info.extra
    while len(data) >= _FIELD.size:
        kind, size = _FIELD.unpack_from(data)
        field, data = data[_FIELD.size : _FIELD.size + size], data[_FIELD.size + size :]
        if kind == _UNICODE_PATH and len(field) > _UNICODE_PATH_HEAD.size:
            version, checksum = _UNICODE_PATH_HEAD.unpack_from(field)
            # The checksum is that of the legacy name: a program that renames a member may leave an outdated field.
            if version == 1 and checksum == zlib.crc32(_raw_name(info)):
                with suppress(UnicodeDecodeError):
                    return field[_UNICODE_PATH_HEAD.size :].decode()
    return None


def _raw_name(info: zipfile.ZipInfo) -> bytes:
    return info.orig_filename.encode("cp437", errors="replace")
