"""Inpainting of regions that are given or detected, by OpenCV or by a network such as LaMa."""

from typing import Final, Protocol

import cv2
import numpy as np
import numpy.typing as npt

from panelworks.domain.cards import Action, ModelCard
from panelworks.domain.options import Region
from panelworks.domain.plan import Step
from panelworks.errors import Invalid, Misconfigured
from panelworks.models.weight_files import read_arrays
from panelworks.models.weights import require_weights
from panelworks.pictures.picture import Picture, Pixels
from panelworks.settings import Settings
from panelworks.steps.base import Work, planned_card

Mask = npt.NDArray[np.uint8]
"""HxW, 255 where the picture is inpainted."""
_TELEA_RADIUS_PIXELS: Final = 5
_MAX_SPECK_PIXELS: Final = 5
"""Maximum width of a dust speck or scratch."""
_MIN_CONTRAST_LEVELS: Final = 60
"""Minimum difference between dust and its surroundings."""


class RegionDetector(Protocol):
    """Finds the regions to inpaint. Other detectors implement this interface."""

    def detect(self, picture: Picture) -> Mask:
        """Return the mask of a picture."""
        ...


class GivenRegions:
    """The rectangles that the caller specified."""

    def __init__(self, regions: tuple[Region, ...]) -> None:
        self._regions = regions

    def detect(self, picture: Picture) -> Mask:
        mask = np.zeros(picture.pixels.shape[:2], dtype=np.uint8)
        for region in self._regions:
            mask[region.top : region.top + region.height, region.left : region.left + region.width] = 255
        return mask


class LightScratches:
    """Light specks and thin scratches in dark or toned areas, as on worn film and print.

    It cannot distinguish them from drawn light lines. Use it for pages that are known to be damaged.
    """

    def detect(self, picture: Picture) -> Mask:
        luma = picture.luma()
        kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (_MAX_SPECK_PIXELS + 2, _MAX_SPECK_PIXELS + 2))
        standing_out = cv2.morphologyEx(luma, cv2.MORPH_TOPHAT, kernel)
        mask = (standing_out > _MIN_CONTRAST_LEVELS).astype(np.uint8) * 255
        return np.asarray(cv2.dilate(mask, np.ones((3, 3), np.uint8)), dtype=np.uint8)


def inpaint(picture: Picture, mask: Mask) -> Picture:
    """Inpaint the masked pixels; all other pixels stay identical.

    Telea, An image inpainting technique based on the fast marching method, J. Graphics Tools 9, 2004.
    """
    if not mask.any():
        return picture
    pixels: Pixels = np.asarray(
        cv2.inpaint(_for_opencv(picture.pixels), mask, _TELEA_RADIUS_PIXELS, cv2.INPAINT_TELEA)
    )
    return Picture(
        np.where(mask[:, :, None] > 0, pixels.reshape(picture.pixels.shape), picture.pixels), picture.alpha
    )


def _for_opencv(pixels: Pixels) -> Pixels:
    return np.ascontiguousarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)


_INPAINT_ACTIONS: Final[frozenset[Action]] = frozenset({"inpaint"})


class InpaintingProvider:
    """Inpaints with OpenCV's fast marching method, or with a network if the step has weights."""

    name: Final = "inpainting"
    methods: Final = {"telea": _INPAINT_ACTIONS}
    packages: Final = ()

    def process(self, picture: Picture, step: Step, work: Work) -> Picture:
        mask = np.maximum.reduce([detector.detect(picture) for detector in _detectors(step)])
        work.note(f"{np.count_nonzero(mask)} pixels inpainted")
        if step.digest is None:
            return inpaint(picture, mask)
        return inpaint_with_network(planned_card(step), picture, mask, work.settings)


def _detectors(step: Step) -> list[RegionDetector]:
    regions = tuple(Region.model_validate(one) for one in step.config.get("regions", ()))
    detectors: list[RegionDetector] = [GivenRegions(regions)]
    return [*detectors, LightScratches()] if step.config.get("scratches") else detectors


_CONTEXT_PIXELS: Final = 96
"""Context around a masked region in the network's input."""


def inpaint_with_network(card: ModelCard, picture: Picture, mask: Pixels, settings: Settings) -> Picture:
    """Inpaint the masked pixels with a network; all other pixels stay identical. The input is the surroundings of each
    mask.

    Raises:
        Misconfigured: `unsupported_model`, the file is not an inpainting network.
        Invalid: `network_failed`.
    """
    import torch
    from spandrel import MaskedImageModelDescriptor

    from panelworks.models.torch_network import identify_network, pick_device

    state = {
        name: torch.from_numpy(array) for name, array in read_arrays(require_weights(card, settings)).items()
    }
    network = identify_network(state)
    if not isinstance(network, MaskedImageModelDescriptor):
        raise Misconfigured("unsupported_model", f"{card.name} is not an inpainting network.")
    device = pick_device(settings.device)
    network.to(device).eval()
    colour = picture.rgb()
    result = colour.copy()
    for rows, columns in _masked_regions(mask):
        hole = mask[rows, columns] > 0
        source = torch.from_numpy(result[rows, columns].astype(np.float32).transpose(2, 0, 1)[None] / 255)
        holes = torch.from_numpy(hole.astype(np.float32)[None, None])
        try:
            with torch.inference_mode():
                output = network(source.to(device), holes.to(device)).float().cpu().numpy()
        except RuntimeError as error:
            raise Invalid("network_failed", f"{card.name} failed ({type(error).__name__}).") from error
        drawn = np.rint(np.clip(output[0].transpose(1, 2, 0), 0, 1) * 255).astype(np.uint8)
        result[rows, columns][hole] = drawn[hole]
    redrawn = picture.with_rgb(result).pixels
    return Picture(np.where(mask[:, :, None] > 0, redrawn, picture.pixels), picture.alpha)


def _masked_regions(mask: Pixels) -> list[tuple[slice, slice]]:
    """Slices of the masked regions with their context."""
    _, _, boxes, _ = cv2.connectedComponentsWithStats(cv2.dilate(mask, np.ones((9, 9), np.uint8)))
    return [
        (
            slice(max(0, top - _CONTEXT_PIXELS), top + height + _CONTEXT_PIXELS),
            slice(max(0, left - _CONTEXT_PIXELS), left + width + _CONTEXT_PIXELS),
        )
        for left, top, width, height, _ in boxes[1:].tolist()
    ]
