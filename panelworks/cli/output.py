"""Standard output, standard error and the arguments of the command line."""

import glob
import io
import json
import logging
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from panelworks.text import path_to_address, to_printable


def start_logging(level: str) -> None:
    """Log to standard error; standard output belongs to results."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_OneLine("%(asctime)s %(levelname)s %(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    logging.getLogger("panelworks").setLevel(level.upper())


def print_json(content: Any) -> None:
    """One JSON object on one line."""
    print(json.dumps(content, ensure_ascii=False), flush=True)


class _OneLine(logging.Formatter):
    """A message of the log is one line, whatever names are in it; a traceback follows it."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the name of the base class
        return to_printable(super().formatMessage(record))


def use_utf8() -> None:
    """Write UTF-8 in every locale, and what no text can hold as an escape."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")


@contextmanager
def expanded(sources: Iterable[str], largest: int) -> Iterator[list[str]]:
    """The sources with globs replaced by what they match, and '-' by a file that holds standard input.

    The file lives as long as the block; of standard input at most one byte more than `largest` is read.
    """
    with tempfile.TemporaryDirectory(prefix="panelworks-") as folder:
        spooled = Path(folder) / "stdin"
        found = expand_globs(sources)
        if "-" in found:
            spooled.write_bytes(sys.stdin.buffer.read(largest + 1))
        yield [str(spooled) if source == "-" else addressed(source) for source in found]


def addressed(argument: str) -> str:
    """An argument of the command line as an address that records can hold, whatever bytes are in its path."""
    if argument.startswith(("data:", "s3://", "https://", "http://", "file://")):
        return argument
    return path_to_address(argument)


def expand_globs(sources: Iterable[str]) -> list[str]:
    """Replace globs by what they match.

    A pattern that matches nothing stays as it is and becomes an error of its own.
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
