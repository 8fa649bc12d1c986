"""JPEG artifacts without a network: blocks and bands."""

from typing import Final

from panelworks.actions import Action
from panelworks.pictures import Picture
from panelworks.providers.base import Work
from panelworks.quality.compression import estimated_quality
from panelworks.records import Step
from panelworks.restoration.banding import smooth_bands
from panelworks.restoration.jpeg import WIDEST, smooth_blocks

_UNKNOWN_QUALITY: Final = 60
"""Taken where the grid cannot be found, as after cropping or rescaling."""
_FIX: Final[frozenset[Action]] = frozenset({"fix_artifacts"})


class DeblockingProvider:
    """Smooths blocks and bands by plain arithmetic."""

    name: Final = "deblocking"
    methods: Final = {"deblock": _FIX, "deband": _FIX, "deblock-deband": _FIX}
    packages: Final = ()

    def process(self, picture: Picture, step: Step, work: Work) -> Picture:
        if "deblock" in step.model and picture.width <= WIDEST:
            quality = estimated_quality(picture)
            picture = smooth_blocks(picture, quality or _UNKNOWN_QUALITY)
            work.note(f"JPEG blocks smoothed (quality {quality or 'unknown'})")
        if "deband" in step.model:
            picture = smooth_bands(picture)
        return picture
