"""A model's card: what is known of it before its weights are opened."""

from pathlib import Path
from typing import Literal

from panelworks.actions import Action
from panelworks.frozen import Frozen

Architecture = Literal["compact", "rrdb", "cugan", "gfpgan", "aura", "onnx", "metric", "part", "any"]
"""`any`: whatever a file given by its path holds; `part`: a piece that another model works with; `metric`: it only looks."""


class ModelCard(Frozen):
    """What is known of a model before its weights are opened."""

    name: str
    file: str
    """File name; looked for under this name in MODEL_PATH and in the cache."""
    url: str | None
    """Where the file is published; None for one that is bundled, the user's own, or to be had elsewhere."""
    sha256: str
    """Of the file; empty where nobody published it: then the first file that is found is pinned."""
    bytes: int
    scale: int | None
    """Enlargement; None when only opening the file tells."""
    architecture: Architecture
    licence: str
    attribution: str
    purpose: str
    actions: frozenset[Action] = frozenset({"upscale"})
    """What it can do."""
    provider: str = "network"
    """Name of the provider that runs it."""
    parts: tuple[str, ...] = ()
    """Names of the cards of further files that it works with."""
    partner: str | None = None
    """Name of the card whose weights are blended with these, by the strength of `denoise`."""
    path: Path | None = None
    """Where the file lies, when that is already known."""
