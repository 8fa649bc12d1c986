"""Networks that draw what is masked, such as LaMa: the part around each mask is given to them."""

from typing import Final

import cv2
import numpy as np

from panelworks.domain.cards import ModelCard
from panelworks.errors import Invalid, Misconfigured
from panelworks.models.weight_files import read_arrays
from panelworks.models.weights import weights_path
from panelworks.pictures.picture import Picture, Pixels
from panelworks.settings import Settings

_CONTEXT: Final = 96
"""Pixels around a masked region that the network sees."""


def run_masked(card: ModelCard, picture: Picture, mask: Pixels, settings: Settings) -> Picture:
    """The picture with what is masked drawn by a network; all else stays to the last bit.

    Raises:
        Misconfigured: `unsupported_model`, the file is no inpainting network.
        Invalid: `network_failed`.
    """
    import torch
    from spandrel import MaskedImageModelDescriptor

    from panelworks.models.torch_network import described, pick_device

    state = {
        name: torch.from_numpy(array) for name, array in read_arrays(weights_path(card, settings)).items()
    }
    network = described(state)
    if not isinstance(network, MaskedImageModelDescriptor):
        raise Misconfigured("unsupported_model", f"{card.name} is no inpainting network.")
    device = pick_device(settings.device)
    network.to(device).eval()
    colour = picture.rgb()
    result = colour.copy()
    for rows, columns in _places(mask):
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


def _places(mask: Pixels) -> list[tuple[slice, slice]]:
    """Where masked regions lie, with what surrounds them."""
    _, _, boxes, _ = cv2.connectedComponentsWithStats(cv2.dilate(mask, np.ones((9, 9), np.uint8)))
    return [
        (
            slice(max(0, top - _CONTEXT), top + height + _CONTEXT),
            slice(max(0, left - _CONTEXT), left + width + _CONTEXT),
        )
        for left, top, width, height, _ in boxes[1:].tolist()
    ]
