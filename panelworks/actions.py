"""The actions: what a step may do to a picture, in the order of a chain."""

from typing import Final, Literal, get_args

Action = Literal[
    "inpaint",
    "fix_artifacts",
    "descreen",
    "denoise",
    "upscale",
    "enhance",
    "resize",
    "face",
    "colour",
    "rembg",
]
"""What a step does to a picture."""

ACTIONS: Final[tuple[Action, ...]] = get_args(Action)
"""All actions, in the order in which a chain performs them."""

ENLARGING: Final[frozenset[Action]] = frozenset({"upscale", "enhance", "resize"})
"""Actions that bring a picture to its size."""

DELIBERATE: Final[frozenset[Action]] = frozenset({"inpaint", "descreen", "face", "colour", "rembg"})
"""Actions that change on purpose what a page shows: the validator does not hold them against it."""
