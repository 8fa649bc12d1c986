"""Resizing to the exact size asked for, without a network."""

from typing import Final

from panelworks.pictures import Picture, resize
from panelworks.providers.base import Work
from panelworks.records import Action, Step


class ResampleProvider:
    """Lanczos resampling to the size of the plan."""

    name: Final = "resample"
    actions: Final[frozenset[Action]] = frozenset({"resize"})

    def process(self, picture: Picture, step: Step, work: Work) -> Picture:
        return resize(picture, work.size)
