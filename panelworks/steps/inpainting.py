"""Inpainting of regions that are given or found."""

from typing import Final, Protocol

import cv2
import numpy as np
import numpy.typing as npt

from panelworks.domain.cards import Action
from panelworks.domain.options import Region
from panelworks.domain.plan import Step
from panelworks.models.masked import run_masked
from panelworks.pictures.picture import Picture, Pixels
from panelworks.steps.base import Work, planned_card

Mask = npt.NDArray[np.uint8]
"""HxW, 255 where the picture is to be drawn anew."""
_RADIUS: Final = 5
_SPECK: Final = 5
"""Widest dust speck or scratch, in pixels."""
_STANDS_OUT: Final = 60
"""Levels by which dust differs from what surrounds it."""


class RegionDetector(Protocol):
    """Finds what is to be inpainted. Others plug in by offering the same."""

    def detect(self, picture: Picture) -> Mask:
        """The mask of a picture."""
        ...


class GivenRegions:
    """The rectangles that the caller named."""

    def __init__(self, regions: tuple[Region, ...]) -> None:
        self._regions = regions

    def detect(self, picture: Picture) -> Mask:
        mask = np.zeros(picture.pixels.shape[:2], dtype=np.uint8)
        for region in self._regions:
            mask[region.top : region.top + region.height, region.left : region.left + region.width] = 255
        return mask


class LightScratches:
    """Light specks and thin scratches in dark or toned areas, as worn film and print have them.

    Drawn light lines look the same to it: for pages that are known to be damaged.
    """

    def detect(self, picture: Picture) -> Mask:
        luma = picture.luma()
        kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (_SPECK + 2, _SPECK + 2))
        standing_out = cv2.morphologyEx(luma, cv2.MORPH_TOPHAT, kernel)
        mask = (standing_out > _STANDS_OUT).astype(np.uint8) * 255
        return np.asarray(cv2.dilate(mask, np.ones((3, 3), np.uint8)), dtype=np.uint8)


def inpainted(picture: Picture, mask: Mask) -> Picture:
    """The picture with what is masked drawn anew; all else stays to the last bit.

    Telea, An image inpainting technique based on the fast marching method, J. Graphics Tools 9, 2004.
    """
    if not mask.any():
        return picture
    pixels: Pixels = np.asarray(cv2.inpaint(_for_opencv(picture.pixels), mask, _RADIUS, cv2.INPAINT_TELEA))
    return Picture(
        np.where(mask[:, :, None] > 0, pixels.reshape(picture.pixels.shape), picture.pixels), picture.alpha
    )


def _for_opencv(pixels: Pixels) -> Pixels:
    return np.ascontiguousarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)


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
