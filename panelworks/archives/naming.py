"""Names of members: hostile ones refused, foreign ones decoded, all of them in natural order."""

import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Final

from panelworks.archives.encodings import NameEncoding, decide_encoding
from panelworks.domain.books import Refusal
from panelworks.text import to_printable, to_storable

_ROOT: Final = re.compile(r"(?:[A-Za-z]:)?/+|[A-Za-z]:(?=[^/]*/)")
"""The root, drive or both that a path begins with."""
_SYSTEM: Final = frozenset({
    "__macosx", ".ds_store", ".appledouble", ".appledb", ".appledesktop", ".apdisk", ".localized", ".fseventsd",
    ".spotlight-v100", ".temporaryitems", ".trashes", ".documentrevisions-v100", ".volumeicon.icns", ".trash",
    "network trash folder", "thumbs.db", "ehthumbs.db", "desktop.ini", "$recycle.bin", "system volume information",
    "@eadir", "#recycle", "#snapshot", ".@__thumb", "@recycle", "lost+found", ".directory", ".nomedia", ".picasa.ini",
    ".thumbnails", ".git", ".svn", ".hg", ".gitignore", ".stfolder", ".stversions", ".stignore",
})  # fmt: skip
"""Names of files and folders that systems and tools leave behind, in lower case."""
_SYSTEM_PREFIXES: Final = ("._", ".trash-", ".fuse_hidden", ".nfs0", ".panelworks-")
"""Beginnings of such names: resource forks, trash, deleted files that are still open, unfinished books of ours."""
_UNSAFE: Final = re.compile(r'[<>:"|?*\\]')
_RESERVED: Final = {
    "con", "prn", "aux", "nul", *(f"com{n}" for n in range(1, 10)), *(f"lpt{n}" for n in range(1, 10)),
}  # fmt: skip
_LONGEST: Final = 230
"""Bytes of a name: file systems take 255, and a number may have to go behind it."""
_LONGEST_EXTENSION: Final = 16
"""Bytes of an extension; what is longer belongs to the name."""


def normalised(name: str) -> str | Refusal:
    """The name with `/` between folders, or why it must not be used.

    Backslashes come from Windows and are folders. A root and a drive are left out: nothing is unpacked by its name. Names
    that leave their folder are refused.
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
        message="Its name leads out of the book; it is left out.",
    )


def is_system_file(name: str) -> bool:
    """Is this something that a system left behind: resource fork, thumbnail cache, trash? A name that begins with a dot
    is no sign of that."""
    return any(
        part.lower() in _SYSTEM or part.lower().startswith(_SYSTEM_PREFIXES) for part in name.split("/")
    )


def in_natural_order(names: Iterable[str]) -> list[str]:
    """Page 2 before page 10, whatever the case."""
    return sorted(names, key=natural_key)


def natural_key(name: str) -> tuple[object, str]:
    """What to sort names by."""
    return _natural_order()(name), name


@cache
def _natural_order() -> Callable[[str], object]:
    from natsort import natsort_keygen, ns

    return natsort_keygen(alg=ns.PATH | ns.IGNORECASE)


_CERTAIN_CHARACTERS: Final = 2
"""Characters beyond ASCII from which a name that is valid UTF-8 is taken for it whatever the other names are."""


@dataclass(frozen=True)
class DecodedNames:
    """The names of members that state no encoding."""

    names: list[str]
    notes: tuple[str, ...]
    """That the encoding is in doubt, if it is."""


def decoded_names(
    raw: Sequence[bytes], encoding: str | None = None, *, one_by_one: bool = False
) -> DecodedNames:
    """Names of members that state no encoding.

    Args:
        raw: The names of an archive, all of them.
        encoding: What they are known to be; None takes UTF-8 for the names that are surely UTF-8, and for the others
            what fits all of these best.
        one_by_one: Each name was made by itself, as on a disk: every one that can be UTF-8 is UTF-8.
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
            f"the encoding of the names is in doubt: read as {found.encoding}, such as {to_printable(example)};"
            " --name-encoding sets another one",
        ),
    )


def _is_utf_8(name: bytes, *, is_enough: bool) -> bool:
    """Is a name beyond ASCII valid UTF-8? One such character is found in legacy encodings, too; two hardly ever are."""
    try:
        foreign = sum(not character.isascii() for character in name.decode())
    except UnicodeDecodeError:
        return False
    return foreign >= (1 if is_enough else _CERTAIN_CHARACTERS)


def safe_everywhere(name: str) -> str:
    """The name as every system takes it: no reserved characters or words, no trailing dot or blank, nothing that is
    not printable."""
    *folders, last = to_storable(name).split("/")
    stem, dot, extension = last.rpartition(".")
    if not dot or not stem or len(extension.encode()) > _LONGEST_EXTENSION:
        stem, extension = last, ""
    return "/".join([*(_safe_part(folder, "") for folder in folders), _safe_part(stem, extension)])


def _safe_part(stem: str, extension: str) -> str:
    stem = _UNSAFE.sub("_", stem).rstrip(". ") or "_"
    extension = _UNSAFE.sub("_", extension).rstrip(". ")
    if stem.split(".")[0].lower() in _RESERVED:
        stem = f"_{stem}"
    stem = stem.encode()[: _LONGEST - len(extension.encode())].decode(errors="ignore")
    return f"{stem}.{extension}" if extension else stem


def unique(names: Iterable[str]) -> list[str]:
    """The names, those that differ from an earlier one by case at most with a number behind the stem."""
    taken: set[str] = set()
    found = []
    for name in names:
        folder, slash, last = name.rpartition("/")
        stem, dot, extension = last.rpartition(".")
        stem, extension = (stem, f".{extension}") if dot and stem else (last, "")
        candidate, number = name, 1
        while candidate.casefold() in taken:
            number += 1
            candidate = f"{folder}{slash}{stem}-{number}{extension}"
        taken.add(candidate.casefold())
        found.append(candidate)
    return found


def in_order(names: Sequence[str]) -> list[str]:
    """Names that sort as they are listed: with a number in front where they would not."""
    if in_natural_order(names) == list(names):
        return list(names)
    width = len(str(len(names)))
    return [f"{position:0{width}d}-{name.rpartition('/')[2]}" for position, name in enumerate(names, start=1)]
