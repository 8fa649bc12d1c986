"""A folder of pages, on a disk or in a bucket: only the files directly in it."""

from collections.abc import Collection, Iterator
from pathlib import PurePosixPath

from panelworks.archives.member import ARCHIVES, ArchiveKind, ClosingArchive, Content, Member, Meter
from panelworks.archives.naming import decoded_names, is_system_file, natural_key
from panelworks.domain.books import Refusal
from panelworks.errors import Misconfigured, Rejected
from panelworks.settings import Settings
from panelworks.storage import ObjectFolder
from panelworks.text import to_printable


class FolderArchive(ClosingArchive):
    """The files of one folder."""

    kind: ArchiveKind = "folder"

    def __init__(
        self,
        folder: ObjectFolder,
        settings: Settings,
        refused: tuple[Refusal, ...] = (),
        *,
        only: str | None = None,
    ) -> None:
        """List the folder without the files in `refused` and without archives, which are books of their own.

        With `only` the book consists of this file: a multi-page TIFF.

        Raises:
            Rejected: `too_many_entries`, `too_large`.
        """
        self._folder, self._settings, self._meter = folder, settings, Meter(settings)
        if only is None:
            found = [file for file in folder.files() if "/" not in file.name]
        else:
            alone = folder.info(only)
            found = [] if alone is None else [alone]
        self.skipped = tuple(sorted(to_printable(file.name) for file in found if is_system_file(file.name)))
        without = {refusal.name for refusal in refused}
        files = [
            file
            for file in found
            if not is_system_file(file.name)
            and file.name not in without
            and PurePosixPath(file.name).suffix.lower() not in ARCHIVES
        ]
        for file in files:
            self._meter.entry(file.bytes)
        self._names = [file.name for file in files]
        named = decoded_names(
            [name.encode("utf-8", "surrogateescape") for name in self._names],
            settings.name_encoding,
            one_by_one=True,
        )
        self.notes = named.notes
        members = [
            Member(index, name, file.bytes)
            for index, (name, file) in enumerate(zip(named.names, files, strict=True))
        ]
        self.members = tuple(sorted(members, key=lambda member: natural_key(member.name)))
        self.refused = tuple(
            refusal.model_copy(update={"name": to_printable(refusal.name)})
            for refusal in refused
            if not is_system_file(refusal.name)
        )

    def read(self, wanted: Collection[int]) -> Iterator[tuple[Member, Content]]:
        for member in self.members:
            if member.index in wanted:
                yield member, self._content(self._names[member.index])

    def _content(self, name: str) -> Content:
        try:
            data = self._folder.read(name, limit=self._settings.max_source_bytes)
        except Rejected as error:
            return error
        except Misconfigured as error:  # of this file: its permissions, or the disk
            return Rejected(error.code, error.message)
        return data if data is not None else Rejected("not_found", "It was removed while the book was read.")
