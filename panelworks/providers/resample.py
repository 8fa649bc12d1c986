"""Resampling, without a network: to the exact size asked for, or instead of a network."""

from typing import Final

from panelworks.actions import Action
from panelworks.pictures import Picture, resize
from panelworks.pictures.resample import FILTERS
from panelworks.providers.base import Work
from panelworks.records import Step

_ENLARGING: Final[frozenset[Action]] = frozenset({"resize", "upscale", "enhance"})


class ResampleProvider:
    """Resampling to the size of the plan."""

    name: Final = "resample"
    methods: Final = dict.fromkeys(FILTERS, _ENLARGING)
    packages: Final = ()

    def process(self, picture: Picture, step: Step, work: Work) -> Picture:
        return resize(picture, work.size, step.model)
