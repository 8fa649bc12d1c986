"""Standard output, standard error and the arguments of the command line."""

import glob
import json
import logging
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from panelworks.sources import inline


def start_logging(level: str) -> None:
    """Log to standard error; standard output belongs to results."""
    logging.basicConfig(
        level=logging.WARNING, stream=sys.stderr, format="%(asctime)s %(levelname)s %(message)s"
    )
    logging.getLogger("panelworks").setLevel(level.upper())


def print_json(content: Any) -> None:
    """One JSON object on one line."""
    print(json.dumps(content, ensure_ascii=False), flush=True)


def expand(sources: Iterable[str]) -> list[str]:
    """Replace globs by what they match, and '-' by the bytes of standard input.

    A pattern that matches nothing stays as it is and becomes an error of its own.
    """
    expanded: list[str] = []
    for source in sources:
        if source == "-":
            expanded.append(inline(sys.stdin.buffer.read()))
        elif (
            any(character in source for character in "*?[")
            and "://" not in source
            and not Path(source).exists()
        ):
            expanded += sorted(glob.glob(source, recursive=True)) or [source]  # noqa: PTH207 - absolute patterns too
        else:
            expanded.append(source)
    return expanded
