"""Upscaling by a network."""

import logging
from typing import Final

from panelworks.errors import Misconfigured, ResourceExhausted
from panelworks.models.loading import load_network
from panelworks.models.registry import ModelCard, card_for
from panelworks.models.tiling import run_tiled
from panelworks.pictures import Picture
from panelworks.pictures.resample import fill_transparent, resize_plane
from panelworks.providers.base import Work
from panelworks.records import Action, Step

logger = logging.getLogger(__name__)


class NetworkProvider:
    """Runs a network tile by tile; alpha is resampled beside the colour."""

    name: Final = "network"
    actions: Final[frozenset[Action]] = frozenset({"upscale"})

    def process(self, picture: Picture, step: Step, work: Work) -> Picture:
        card = card_for(step.weights or step.model)
        if card.sha256 != step.digest:
            raise Misconfigured(
                "weights_changed", f"The weights of {step.model} changed since the work began."
            )
        tile = step.tile or work.settings.tile
        try:
            return _upscale(picture, card, step, tile, work)
        except ResourceExhausted as error:
            if work.settings.device == "cpu" or error.code == "too_large":
                raise
            logger.warning("%s does not fit on the device: going on with the cpu", card.name)
            on_cpu = work.settings.model_copy(update={"device": "cpu"})
            return _upscale(picture, card, step, tile, Work(on_cpu, work.size, work.progress))


def _upscale(picture: Picture, card: ModelCard, step: Step, tile: int, work: Work) -> Picture:
    network = load_network(card, work.settings, step.precision)
    drawn = picture.width * picture.height * network.scale**2
    if drawn > work.settings.max_output_pixels:
        raise ResourceExhausted(
            "too_large",
            f"{card.name} would draw {drawn / 1e6:.0f} megapixels;"
            f" at most {work.settings.max_output_pixels / 1e6:.0f} are made.",
        )
    pixels = run_tiled(network, fill_transparent(picture).pixels, tile, work.progress)
    if picture.alpha is None:
        return Picture(pixels)
    return Picture(pixels, resize_plane(picture.alpha, (pixels.shape[1], pixels.shape[0])))
