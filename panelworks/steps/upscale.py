"""Enlarging: networks in tiles, AuraSR, the upstream packages, and resampling without a network."""

import logging
from contextlib import AbstractContextManager
from functools import lru_cache, partial
from typing import Any, Final

from panelworks.domain.cards import Action
from panelworks.domain.plan import Step
from panelworks.errors import Misconfigured, ResourceExhausted
from panelworks.models.anchoring import anchor
from panelworks.models.gpu import with_room
from panelworks.models.loading import Recipe, free_unused, network_for, residency
from panelworks.models.network import Network
from panelworks.models.registry import card_for
from panelworks.models.tiling import batch_for, run_pages, samples_of, tile_for
from panelworks.pictures import Picture, resize
from panelworks.pictures.resample import FILTERS, fill_transparent, resize_plane
from panelworks.settings import Settings
from panelworks.steps.base import Weighted, Work, planned_card

logger = logging.getLogger(__name__)
_SAME_SIZE: Final = frozenset({"fix_artifacts", "descreen", "denoise"})
"""Actions whose result has the size of the picture, whatever the network enlarges."""


class NetworkProvider(Weighted):
    """Runs a network tile by tile; alpha is resampled beside the colour."""

    name: Final = "network"

    def process(self, picture: Picture, step: Step, work: Work) -> Picture:
        recipe = self._recipe(step)
        try:
            result = with_room(
                partial(self._run, picture, recipe, step, work),
                work.settings.gpu_patience_seconds,
                make_room=partial(free_unused, work.settings),
            )
        except ResourceExhausted as error:
            if work.settings.device == "cpu" or error.code == "too_large":
                raise
            logger.warning("%s does not fit on the device: going on with the cpu", recipe.card.name)
            on_cpu = work.settings.model_copy(update={"device": "cpu"})
            result = self._run(picture, recipe, step, Work(on_cpu, work.size, work.progress, work.note))
        return resize(result, picture.size) if step.action in _SAME_SIZE else result

    def lend(self, recipe: Recipe, settings: Settings) -> AbstractContextManager[Network]:
        """The network of a recipe for a block."""
        return network_for(recipe, settings)

    def _recipe(self, step: Step) -> Recipe:
        """What to load.

        Raises:
            Misconfigured: `weights_changed`.
        """
        card = planned_card(step)
        partner = card_for(step.config["partner"]) if "partner" in step.config else None
        if partner and partner.sha256 != step.config["partner_digest"]:
            raise Misconfigured(
                "weights_changed", f"The weights of {partner.name} changed since the work began."
            )
        return Recipe(
            card, step.precision, partner, float(step.config.get("strength", 1.0)) if partner else 1.0
        )

    def _run(self, picture: Picture, recipe: Recipe, step: Step, work: Work) -> Picture:
        with self.lend(recipe, work.settings) as network:
            drawn = picture.width * picture.height * network.scale**2
            if drawn > work.settings.max_output_pixels:
                raise ResourceExhausted(
                    "too_large",
                    f"{recipe.card.name} would draw {drawn / 1e6:.0f} megapixels;"
                    f" at most {work.settings.max_output_pixels / 1e6:.0f} are made.",
                )
            tile = tile_for(network, step.tile or work.settings.tile)
            source = fill_transparent(picture).pixels
            settled = network.settled(samples_of(network, source, tile))
            pixels = next(run_pages(settled, [source], tile, batch_for(network, tile), work.progress))
        anchor(source, pixels)
        if picture.alpha is None:
            return Picture(pixels)
        return Picture(pixels, resize_plane(picture.alpha, (pixels.shape[1], pixels.shape[0])))


class AuraProvider(NetworkProvider):
    """AuraSR's network in overlapping tiles of the one size that it takes."""

    name: Final = "aura"  # type: ignore[misc] # another provider than the one that it extends
    packages = ("aura_sr",)

    def lend(self, recipe: Recipe, settings: Settings) -> AbstractContextManager[Network]:
        from panelworks.models.aura import load_aura

        key = ("aura", recipe.card.sha256, settings.device)
        held = residency(settings.keep_models_seconds, settings.keep_models_bytes)
        return held.lent(key, lambda: load_aura(recipe.card, settings))


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


_ENLARGING: Final[frozenset[Action]] = frozenset({"resize", "upscale", "enhance"})


class ResampleProvider:
    """Resampling to the size of the plan."""

    name: Final = "resample"
    methods: Final = dict.fromkeys(FILTERS, _ENLARGING)
    packages: Final = ()

    def process(self, picture: Picture, step: Step, work: Work) -> Picture:
        return resize(picture, work.size, step.model)
