"""What the structure of a file says before any pixel is decoded, for every format."""

from dataclasses import dataclass, field
from typing import Any, Final

from panelworks.errors import Rejected

MAX_PARTS: Final = 300_000
"""Segments, chunks or blocks of one file. Encoders write blocks of 255 bytes or more, and few small ones."""


@dataclass(frozen=True)
class Structure:
    """A file as its decoder shall read it, and what was found on the way."""

    data: bytes | memoryview
    """What the decoder reads: the file without what it must not stumble over."""
    frames: int = 1
    """Frames of an animation, or pages of a TIFF."""
    notes: tuple[str, ...] = ()
    """What was odd without an effect on the pixels."""
    damage: str | None = None
    """Why the pixels may be wrong; None where nothing says so."""
    info: dict[str, Any] = field(default_factory=dict)
    """Metadata that was read here, under the names that Pillow uses."""


def refuse_parts(what: str) -> Rejected:
    """The error for a file that no honest encoder writes."""
    return Rejected(
        "out_of_proportion", f"The file has {what}, far more than a picture needs, and is not decoded."
    )
