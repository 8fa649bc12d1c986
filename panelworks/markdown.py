"""Text of other people inside Markdown: shown as it is, never as a link, a picture, HTML or structure."""

import re
from typing import Final

_PUNCTUATION: Final = re.compile(r"([!-/:-@\[-`{-~])")
"""All ASCII punctuation. A backslash before any of it makes it literal (CommonMark 0.31.2, section 2.4); this also keeps
bare addresses from becoming links."""
_BREAKS: Final = re.compile(r"[\s\x00-\x1f\x7f-\x9f\u2028\u2029]+")
"""White space and control characters: a line break would end the paragraph, list item or table row."""
MAX_CHARACTERS: Final = 2000
"""Longer texts are cut: an artifact is for reading."""


def escape_markdown(text: object) -> str:
    """The text of one line that Markdown shows literally."""
    return _PUNCTUATION.sub(r"\\\1", _one_line(text))


def code_span(text: object) -> str:
    """The text as inline code, whatever backticks it holds. Not for table cells, where `|` ends the cell."""
    line = _one_line(text)
    longest = max((len(run) for run in re.findall("`+", line)), default=0)
    fence = "`" * (longest + 1)
    return f"{fence} {line} {fence}" if longest or not line.strip() else f"{fence}{line}{fence}"


def _one_line(text: object) -> str:
    line = _BREAKS.sub(" ", str(text)).strip()
    line = line.encode("utf-8", errors="replace").decode("utf-8")  # lone surrogates
    return line if len(line) <= MAX_CHARACTERS else f"{line[:MAX_CHARACTERS]}…"
