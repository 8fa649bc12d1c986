"""Tone and colour by histograms."""

from typing import Final

from panelworks.actions import Action
from panelworks.pictures import Picture
from panelworks.pictures.tone import corrected
from panelworks.providers.base import Work
from panelworks.records import Step

_COLOUR: Final[frozenset[Action]] = frozenset({"colour"})


class ToneProvider:
    """White balance, levels, contrast and saturation."""

    name: Final = "tone"
    methods: Final = {"levels": _COLOUR}
    packages: Final = ()

    def process(self, picture: Picture, step: Step, work: Work) -> Picture:
        return corrected(picture, float(step.config.get("strength", 1.0)))
