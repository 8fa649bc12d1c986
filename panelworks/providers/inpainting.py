"""Inpainting of regions that are given or found."""

from typing import Final

import numpy as np

from panelworks.actions import Action
from panelworks.models.masked import run_masked
from panelworks.options import Region
from panelworks.pictures import Picture
from panelworks.providers.base import Work, planned_card
from panelworks.records import Step
from panelworks.restoration.inpainting import GivenRegions, LightScratches, RegionDetector, inpainted

_INPAINT: Final[frozenset[Action]] = frozenset({"inpaint"})


class InpaintingProvider:
    """OpenCV's fast marching, or a network such as LaMa where its weights are."""

    name: Final = "inpainting"
    methods: Final = {"telea": _INPAINT}
    packages: Final = ()

    def process(self, picture: Picture, step: Step, work: Work) -> Picture:
        mask = np.maximum.reduce([detector.detect(picture) for detector in _detectors(step)])
        work.note(f"{np.count_nonzero(mask)} pixels inpainted")
        if step.digest is None:
            return inpainted(picture, mask)
        return run_masked(planned_card(step), picture, mask, work.settings)


def _detectors(step: Step) -> list[RegionDetector]:
    regions = tuple(Region.model_validate(one) for one in step.config.get("regions", ()))
    detectors: list[RegionDetector] = [GivenRegions(regions)]
    return [*detectors, LightScratches()] if step.config.get("scratches") else detectors
