"""The packages `realesrgan` and `gfpgan` as they are, for those who want exactly what they draw."""

from functools import lru_cache
from typing import Any, Final

import numpy as np

from panelworks.models.registry import card_for
from panelworks.pictures import Picture
from panelworks.pictures.resample import fill_transparent, resize_plane
from panelworks.providers.base import Weighted, Work
from panelworks.records import Step
from panelworks.settings import Settings

_TILE: Final = 400
"""Tile of `RealESRGANer` that its authors suggest where memory is short."""


class UpstreamProvider(Weighted):
    """Chosen in the providers' file: `upscale: {provider: upstream, model: realesrgan-x4plus}`."""

    name: Final = "upstream"
    packages = ("realesrgan", "gfpgan")

    def process(self, picture: Picture, step: Step, work: Work) -> Picture:
        from panelworks.models import upstream

        source = fill_transparent(picture)
        colour = source.pixels if not picture.is_gray else source.pixels.repeat(3, axis=2)
        model = step.weights or step.model
        if step.action == "face":
            pixels = upstream.restore(_restorer(model, work.settings), colour)
        else:
            tile = step.tile or work.settings.tile or _TILE
            pixels = upstream.enlarge(_upsampler(model, work.settings, tile), colour)
        if picture.is_gray:
            pixels = np.rint(pixels.mean(axis=2, keepdims=True)).astype(np.uint8)
        if picture.alpha is None:
            return Picture(pixels)
        return Picture(pixels, resize_plane(picture.alpha, (pixels.shape[1], pixels.shape[0])))


@lru_cache(maxsize=1)
def _upsampler(model: str, settings: Settings, tile: int) -> Any:
    from panelworks.models.upstream import real_esrganer

    return real_esrganer(card_for(model), settings, tile)


@lru_cache(maxsize=1)
def _restorer(model: str, settings: Settings) -> Any:
    from panelworks.models.upstream import gfpganer

    return gfpganer(card_for(model), settings)
