"""Standard output, standard error and source arguments of the command line."""

import glob
import io
import json
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from panelworks.text import path_to_address, to_printable


def print_json(content: Any) -> None:
    """Print a JSON object on one line."""
    print(json.dumps(content, ensure_ascii=False), flush=True)


def shorten_source(source: str) -> str:
    """A source as people read it: printable, and without the middle of a long address."""
    source = to_printable(source)
    return source if len(source) <= 60 else f"{source[:20]}…{source[-36:]}"


def use_utf8() -> None:
    """Write UTF-8 in every locale. Unencodable characters are escaped."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")


@contextmanager
def expand_sources(sources: Iterable[str], largest: int) -> Iterator[list[str]]:
    """Expand globs in the sources, and replace '-' by a file with standard input.

    The file exists during the block. At most `largest` + 1 bytes of standard input are read.
    """
    with tempfile.TemporaryDirectory(prefix="panelworks-") as folder:
        spooled = Path(folder) / "stdin"
        found = expand_globs(sources)
        if "-" in found:
            spooled.write_bytes(sys.stdin.buffer.read(largest + 1))
        yield [str(spooled) if source == "-" else argument_to_address(source) for source in found]


def argument_to_address(argument: str) -> str:
    """Convert an argument to an address that records can store, whatever bytes its path has."""
    if argument.startswith(("data:", "s3://", "https://", "http://", "file://")):
        return argument
    return path_to_address(argument)


def expand_globs(sources: Iterable[str]) -> list[str]:
    """Replace globs by the matching paths.

    A pattern without matches is unchanged and becomes an error later.
    """
    found: list[str] = []
    for source in sources:
        if (
            any(character in source for character in "*?[")
            and "://" not in source
            and not Path(source).exists()
        ):
            found += sorted(glob.glob(source, recursive=True)) or [source]  # noqa: PTH207 - absolute patterns too
        else:
            found.append(source)
    return found
