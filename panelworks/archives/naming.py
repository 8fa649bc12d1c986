"""Names of members: unsafe names are refused, legacy encodings decoded, and names sorted in natural order."""

import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import PurePosixPath
from typing import Final

from panelworks.archives.encodings import NameEncoding, decide_encoding
from panelworks.domain.books import Refusal
from panelworks.domain.formats import PICTURE_SUFFIXES
from panelworks.text import to_printable, to_storable

_ROOT: Final = re.compile(r"(?:[A-Za-z]:)?/+|[A-Za-z]:(?=[^/]*/)")
"""The root, drive or both at the start of a path."""
_SYSTEM: Final = frozenset({
    "__macosx", ".ds_store", ".appledouble", ".appledb", ".appledesktop", ".apdisk", ".localized", ".fseventsd",
    ".spotlight-v100", ".temporaryitems", ".trashes", ".documentrevisions-v100", ".volumeicon.icns", ".trash",
    "network trash folder", "thumbs.db", "ehthumbs.db", "desktop.ini", "$recycle.bin", "system volume information",
    "@eadir", "#recycle", "#snapshot", ".@__thumb", "@recycle", "lost+found", ".directory", ".nomedia", ".picasa.ini",
    ".thumbnails", ".git", ".svn", ".hg", ".gitignore", ".stfolder", ".stversions", ".stignore",
})  # fmt: skip
"""Names of files and folders of systems and tools, in lower case."""
_SYSTEM_PREFIXES: Final = ("._", ".trash-", ".fuse_hidden", ".nfs0", ".panelworks-")
"""Prefixes of such names: resource forks, trash, deleted open files, unfinished books of Panelworks."""
_UNSAFE: Final = re.compile(r'[<>:"|?*\\]')
_RESERVED: Final = {
    "con", "prn", "aux", "nul", *(f"com{n}" for n in range(1, 10)), *(f"lpt{n}" for n in range(1, 10)),
}  # fmt: skip
_MAX_NAME_BYTES: Final = 230
"""File systems allow 255; a number may be appended."""
_MAX_SHOWN_NAMES: Final = 5
_MAX_EXTENSION_BYTES: Final = 16
"""A longer extension counts as part of the name."""


def normalised(name: str) -> str | Refusal:
    """The name with `/` between folders, or the reason why it is refused.

    Backslashes, from Windows, separate folders. A root and a drive are removed: nothing is unpacked under its name. Names
    with `..` are refused.
    """
    path = unicodedata.normalize("NFC", name.replace("\\", "/"))
    if root := _ROOT.match(path):
        path = path[root.end() :]
    if "\x00" in path:
        return _unsafe(name)
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if ".." in parts or not parts:
        return _unsafe(name)
    return "/".join(parts)


def _unsafe(name: str) -> Refusal:
    return Refusal(
        name=to_printable(name[:200]),
        code="unsafe_name",
        message="Its name points outside the book; it was skipped.",
    )


def is_system_file(name: str) -> bool:
    """Is this a file of an operating system or tool: resource fork, thumbnail cache, trash? A leading dot alone does not
    count."""
    return any(
        part.lower() in _SYSTEM or part.lower().startswith(_SYSTEM_PREFIXES) for part in name.split("/")
    )


def may_be_picture(name: str) -> bool:
    """May the file be a picture, by its name? Files without an extension may; the content decides."""
    suffix = PurePosixPath(name).suffix.lower()
    return not suffix or suffix in PICTURE_SUFFIXES


def skipped_note(names: Sequence[str]) -> str:
    """A note on files that were skipped because they are no pictures by their names."""
    shown = ", ".join(to_printable(name) for name in names[:_MAX_SHOWN_NAMES])
    more = ", …" if len(names) > _MAX_SHOWN_NAMES else ""
    return (
        f"{len(names)} {'file' if len(names) == 1 else 'files'} skipped, not named as pictures: {shown}{more}"
    )


def in_natural_order(names: Iterable[str]) -> list[str]:
    """The names sorted naturally: page 2 before page 10, ignoring case."""
    return sorted(names, key=natural_key)


def natural_key(name: str) -> tuple[object, str]:
    """The sort key of a name."""
    return _natural_order()(name), name


@cache
def _natural_order() -> Callable[[str], object]:
    from natsort import natsort_keygen, ns

    return natsort_keygen(alg=ns.PATH | ns.IGNORECASE)


_CERTAIN_CHARACTERS: Final = 2
"""Non-ASCII characters from which a valid UTF-8 name is decoded as UTF-8, regardless of the other names."""


@dataclass(frozen=True)
class DecodedNames:
    """Decoded names of members without a stated encoding."""

    names: list[str]
    notes: tuple[str, ...]
    """A note if the encoding is uncertain."""


def decoded_names(
    raw: Sequence[bytes], encoding: str | None = None, *, one_by_one: bool = False
) -> DecodedNames:
    """Decode the names of members without a stated encoding.

    Args:
        raw: All names of an archive.
        encoding: Their encoding. With None, names that are clearly UTF-8 are decoded as UTF-8, and the others in the
            encoding that fits them best.
        one_by_one: The names are independent of each other, as on a disk: each valid UTF-8 name is UTF-8.
    """
    alone = (
        [name for name in raw if _is_utf_8(name, is_enough=one_by_one)] if one_by_one or not encoding else []
    )
    certain = frozenset(alone)
    others = [name for name in raw if name not in certain and not name.isascii()]
    found = NameEncoding(encoding, doubtful=False) if encoding else decide_encoding(others)
    names = [name.decode("utf-8" if name in certain else found.encoding, errors="replace") for name in raw]
    if not found.doubtful:
        return DecodedNames(names, ())
    example = next(name for name, data in zip(names, raw, strict=True) if data == others[0])
    return DecodedNames(
        names,
        (
            f"the encoding of the names is uncertain: decoded as {found.encoding}, such as {to_printable(example)};"
            " --name-encoding sets another one",
        ),
    )


def _is_utf_8(name: bytes, *, is_enough: bool) -> bool:
    """Is a non-ASCII name valid UTF-8? One such character is valid in legacy encodings as well; two rarely are."""
    try:
        foreign = sum(not character.isascii() for character in name.decode())
    except UnicodeDecodeError:
        return False
    return foreign >= (1 if is_enough else _CERTAIN_CHARACTERS)


def safe_everywhere(name: str) -> str:
    """A name that is valid on every system: no reserved characters or words, no trailing dot or space, only printable
    characters."""
    *folders, last = to_storable(name).split("/")
    stem, dot, extension = last.rpartition(".")
    if not dot or not stem or len(extension.encode()) > _MAX_EXTENSION_BYTES:
        stem, extension = last, ""
    return "/".join([*(_safe_part(folder, "") for folder in folders), _safe_part(stem, extension)])


def _safe_part(stem: str, extension: str) -> str:
    stem = _UNSAFE.sub("_", stem).rstrip(". ") or "_"
    extension = _UNSAFE.sub("_", extension).rstrip(". ")
    if stem.split(".")[0].lower() in _RESERVED:
        stem = f"_{stem}"
    stem = stem.encode()[: _MAX_NAME_BYTES - len(extension.encode())].decode(errors="ignore")
    return f"{stem}.{extension}" if extension else stem


def unique(names: Iterable[str]) -> list[str]:
    """The names, with a number after the stem where a name equals an earlier one, ignoring case."""
    used: set[str] = set()
    found = []
    for name in names:
        folder, slash, last = name.rpartition("/")
        stem, dot, extension = last.rpartition(".")
        stem, extension = (stem, f".{extension}") if dot and stem else (last, "")
        candidate, number = name, 1
        while candidate.casefold() in used:
            number += 1
            candidate = f"{folder}{slash}{stem}-{number}{extension}"
        used.add(candidate.casefold())
        found.append(candidate)
    return found


def in_order(names: Sequence[str]) -> list[str]:
    """Names whose sorted order is the given order: with a number in front if necessary."""
    if in_natural_order(names) == list(names):
        return list(names)
    width = len(str(len(names)))
    return [f"{position:0{width}d}-{name.rpartition('/')[2]}" for position, name in enumerate(names, start=1)]
