"""The packages `realesrgan` and `gfpgan` as they are, for those who want exactly what they draw."""

from functools import lru_cache
from typing import Any, Final

from panelworks.models.registry import card_for
from panelworks.pictures import Picture
from panelworks.pictures.resample import fill_transparent, resize_plane
from panelworks.providers.base import Weighted, Work, planned_card
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
        colour = source.rgb()
        model, digest = step.weights or step.model, planned_card(step).sha256
        if step.action == "face":
            pixels = upstream.restore(_restorer(model, digest, work.settings), colour)
        else:
            tile = step.tile or work.settings.tile or _TILE
            pixels = upstream.enlarge(_upsampler(model, digest, work.settings, tile), colour)
        result = picture.with_rgb(pixels)
        if picture.alpha is None or result.alpha is not None:
            return result
        return Picture(result.pixels, resize_plane(picture.alpha, (pixels.shape[1], pixels.shape[0])))


@lru_cache(maxsize=1)
def _upsampler(model: str, digest: str, settings: Settings, tile: int) -> Any:
    from panelworks.models.upstream import real_esrganer

    return real_esrganer(card_for(model), settings, tile)


@lru_cache(maxsize=1)
def _restorer(model: str, digest: str, settings: Settings) -> Any:
    from panelworks.models.upstream import gfpganer

    return gfpganer(card_for(model), settings)
