"""Upscaling: networks in tiles, AuraSR, the upstream packages, and resampling without a network.

Networks trained against a critic drift in tone: a sky changes by five levels, paper turns yellow. A network may change
detail. Calm parts of a page are therefore corrected smoothly to their former tones (`restore_tones`). Pixels beside
lines do not count in this correction. The idea comes from the colour correction of diffusion upscalers (Wang et al.,
StableSR, IJCV 2024), which replaces low frequencies.
"""

import logging
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import lru_cache, partial
from typing import Any, Final

import cv2
import numpy as np

from panelworks.domain.cards import Action
from panelworks.domain.plan import Step
from panelworks.errors import Misconfigured, ResourceExhausted
from panelworks.models.gpu import run_with_free_memory
from panelworks.models.loading import Recipe, borrow_network, free_unused_networks, network_cache
from panelworks.models.network import Network
from panelworks.models.registry import card_for
from panelworks.models.tiling import choose_batch_size, choose_tile_size, run_pages, sample_tiles
from panelworks.pictures.picture import Picture, Pixels
from panelworks.pictures.resample import FILTERS, fill_transparent, resize, resize_plane
from panelworks.pictures.view import Floats, gradient, shrink
from panelworks.settings import Settings
from panelworks.steps.base import WeightsProvider, Work, planned_card

logger = logging.getLogger(__name__)
FRAME_TILE_PIXELS: Final = 192
"""Maximum side of a tile of an animation, in source pixels: small tiles contain less that did not change."""
_SAME_SIZE_ACTIONS: Final = frozenset({"fix_artifacts", "descreen", "denoise"})
"""Actions whose result has the size of the source, whatever the scale of the network."""


class NetworkProvider(WeightsProvider):
    """Runs a network in tiles. Alpha is resampled."""

    name: Final = "network"

    def process(self, picture: Picture, step: Step, work: Work) -> Picture:
        recipe = self._recipe(step)
        try:
            result = run_with_free_memory(
                partial(self._run, picture, recipe, step, work),
                work.settings.gpu_patience_seconds,
                free_unused=partial(free_unused_networks, work.settings),
            )
        except ResourceExhausted as error:
            if work.settings.device == "cpu" or error.code == "too_large":
                raise
            logger.warning("continuing on the cpu: %s does not fit on the device", recipe.card.name)
            on_cpu = work.settings.model_copy(update={"device": "cpu"})
            result = self._run(picture, recipe, step, replace(work, settings=on_cpu))
        return resize(result, picture.size) if step.action in _SAME_SIZE_ACTIONS else result

    def borrow(self, recipe: Recipe, settings: Settings) -> AbstractContextManager[Network]:
        """Provide the network of a recipe for a block."""
        return borrow_network(recipe, settings)

    def _recipe(self, step: Step) -> Recipe:
        """Find out what to load.

        Raises:
            Misconfigured: `weights_changed`.
        """
        card = planned_card(step)
        partner = card_for(step.config["partner"]) if "partner" in step.config else None
        if partner and partner.sha256 != step.config["partner_digest"]:
            raise Misconfigured("weights_changed", f"The weights of {partner.name} changed after planning.")
        return Recipe(
            card, step.precision, partner, float(step.config.get("strength", 1.0)) if partner else 1.0
        )

    def _run(self, picture: Picture, recipe: Recipe, step: Step, work: Work) -> Picture:
        with self.borrow(recipe, work.settings) as network:
            output_pixels = picture.width * picture.height * network.scale**2
            if output_pixels > work.settings.max_output_pixels:
                raise ResourceExhausted(
                    "too_large",
                    f"The result of {recipe.card.name} would have {output_pixels / 1e6:.0f} megapixels;"
                    f" the limit is {work.settings.max_output_pixels / 1e6:.0f}.",
                )
            tile = choose_tile_size(network, step.tile or work.settings.tile)
            if work.memory is not None and step.tile is None:
                tile = min(tile, FRAME_TILE_PIXELS)
            source = fill_transparent(picture).pixels
            adapted = network.adapt_to_page(sample_tiles(network, source, tile))
            # A network that pools over the whole picture gives a tile another result in another frame.
            known = work.memory.tiles if work.memory is not None and adapted is network else None
            batch = choose_batch_size(network, tile)
            pixels = next(run_pages(adapted, [source], tile, batch, work.progress, known))
        restore_tones(source, pixels)
        if picture.alpha is None:
            return Picture(pixels)
        return Picture(pixels, resize_plane(picture.alpha, (pixels.shape[1], pixels.shape[0])))


class AuraProvider(NetworkProvider):
    """Runs AuraSR's network in overlapping tiles of its fixed size."""

    name: Final = "aura"  # type: ignore[misc] # not the provider that it extends
    packages = ("aura_sr",)

    def borrow(self, recipe: Recipe, settings: Settings) -> AbstractContextManager[Network]:
        from panelworks.models.aura import load_aura

        key = ("aura", recipe.card.sha256, settings.device)
        cache = network_cache(settings.keep_models_seconds, settings.keep_models_bytes)
        return cache.borrow(key, lambda: load_aura(recipe.card, settings))


_UPSTREAM_TILE_PIXELS: Final = 400
"""Tile size that the authors of `RealESRGANer` suggest for little memory."""


class UpstreamProvider(WeightsProvider):
    """Runs the upstream packages. Selected in the providers' file: `upscale: {provider: upstream, model:
    realesrgan-x4plus}`."""

    name: Final = "upstream"
    packages = ("realesrgan", "gfpgan")

    def process(self, picture: Picture, step: Step, work: Work) -> Picture:
        from panelworks.models import upstream

        source = fill_transparent(picture)
        colour = source.rgb()
        model, digest = step.weights or step.model, planned_card(step).sha256
        if step.action == "face":
            pixels = upstream.restore(_load_restorer(model, digest, work.settings), colour)
        else:
            tile = step.tile or work.settings.tile or _UPSTREAM_TILE_PIXELS
            pixels = upstream.enlarge(_load_upsampler(model, digest, work.settings, tile), colour)
        result = picture.with_rgb(pixels)
        if picture.alpha is None or result.alpha is not None:
            return result
        return Picture(result.pixels, resize_plane(picture.alpha, (pixels.shape[1], pixels.shape[0])))


@lru_cache(maxsize=1)
def _load_upsampler(model: str, digest: str, settings: Settings, tile: int) -> Any:
    from panelworks.models.upstream import real_esrganer

    return real_esrganer(card_for(model), settings, tile)


@lru_cache(maxsize=1)
def _load_restorer(model: str, digest: str, settings: Settings) -> Any:
    from panelworks.models.upstream import gfpganer

    return gfpganer(card_for(model), settings)


_RESIZING_ACTIONS: Final[frozenset[Action]] = frozenset({"resize", "upscale", "enhance"})


class ResampleProvider:
    """Resamples to the size of the plan."""

    name: Final = "resample"
    methods: Final = dict.fromkeys(FILTERS, _RESIZING_ACTIONS)
    packages: Final = ()

    def process(self, picture: Picture, step: Step, work: Work) -> Picture:
        return resize(picture, work.size, step.model)


_SMOOTHING_PIXELS: Final = 8.0
"""Standard deviation of the smoothing, in pixels of the source."""
_CALM_GRADIENT: Final = 6.0
"""Gradient, in levels a pixel, at which the weight of a pixel has fallen to a third."""
_MIN_WEIGHT: Final = 0.05
"""Weight of no correction: without calm pixels nearby nothing is corrected."""
_MAX_CORRECTION_LEVELS: Final = 8.0
"""Maximum correction. A larger error is a fault of the network, which validation must detect."""
_CELL_PIXELS: Final = 4
"""Side of the cells of the source whose drift is smoothed: half the standard deviation of the smoothing."""
_BAND_ROWS: Final = 64
"""Rows of the source that are measured or corrected at once: a band of a page stays in the cache of a core."""


def restore_tones(source: Pixels, result: Pixels) -> None:
    """Replace low frequencies of the result, in place, by those of the calm parts of the source.

    Args:
        source: HxWxC, the input of the network.
        result: Its output, (H*scale)x(W*scale)xC with an integer scale.
    """
    correction = _smooth_drift(*_measure_drift(source, result))
    height, scale = source.shape[0], result.shape[0] // source.shape[0]
    for top in range(0, height, _BAND_ROWS):
        rows = slice(top * scale, min(height, top + _BAND_ROWS) * scale)
        enlarged = _enlarge_band(correction, rows, result.shape[1], _CELL_PIXELS * scale)
        # The sum is rounded and saturated in one pass.
        corrected = cv2.add(enlarged, result[rows], dtype=cv2.CV_8U)
        result[rows] = np.asarray(corrected).reshape(result[rows].shape)


def _measure_drift(source: Pixels, result: Pixels) -> tuple[Floats, Floats]:
    """The drift of the calm pixels of each cell times their weight, rows x columns x C, and the weight, rows x columns.

    Both are means over the cell.
    """
    height, width = source.shape[:2]
    scale = result.shape[0] // height
    rows, columns = -(-height // _CELL_PIXELS), -(-width // _CELL_PIXELS)
    drifts = np.empty((rows, columns, source.shape[2]), dtype=np.float32)
    weights = np.empty((rows, columns), dtype=np.float32)
    for top in range(0, height, _BAND_ROWS):
        above, bottom = max(0, top - 1), min(height, top + _BAND_ROWS)
        below = min(height, bottom + 1)
        steepness = gradient(Picture(source[above:below]).luma().astype(np.float32))[top - above :]
        weight = np.exp(-np.square(steepness[: bottom - top] / np.float32(_CALM_GRADIENT)))
        after = shrink(result[top * scale : bottom * scale], (width, bottom - top))
        drift = cv2.subtract(source[top:bottom], after, dtype=cv2.CV_32F)
        drift = np.asarray(drift).reshape(bottom - top, width, -1) * weight[:, :, None]
        cells = slice(top // _CELL_PIXELS, -(-bottom // _CELL_PIXELS))
        weights[cells] = _average_cells(weight).reshape(weights[cells].shape)
        drifts[cells] = _average_cells(drift).reshape(drifts[cells].shape)
    return drifts, weights


def _average_cells(plane: Floats) -> Floats:
    """Means over the cells of a band. Pixels at the edge of the page are repeated to fill a cell."""
    rows, columns = (-(-side // _CELL_PIXELS) for side in plane.shape[:2])
    lower, right = rows * _CELL_PIXELS - plane.shape[0], columns * _CELL_PIXELS - plane.shape[1]
    if lower or right:
        plane = np.asarray(cv2.copyMakeBorder(plane, 0, lower, 0, right, cv2.BORDER_REPLICATE))
    return np.asarray(cv2.resize(plane, (columns, rows), interpolation=cv2.INTER_AREA), dtype=np.float32)


def _smooth_drift(drifts: Floats, weights: Floats) -> Floats:
    """The smoothed drift of calm pixels in each cell, rows x columns x C."""
    sigma = _SMOOTHING_PIXELS / _CELL_PIXELS
    total_weight = cv2.GaussianBlur(weights, (0, 0), sigma) + np.float32(_MIN_WEIGHT)
    smooth = np.asarray(cv2.GaussianBlur(drifts, (0, 0), sigma)).reshape(drifts.shape)
    limit = np.float32(_MAX_CORRECTION_LEVELS)
    return np.asarray(np.clip(smooth / total_weight[:, :, None], -limit, limit), dtype=np.float32)


def _enlarge_band(correction: Floats, rows: slice, width: int, factor: int) -> Floats:
    """The correction for some rows of the result, interpolated between the cells, rows x width x C.

    Args:
        correction: Of each cell.
        rows: Rows of the result. The first is the first of a cell.
        width: Of the result.
        factor: Side of a cell, in pixels of the result.
    """
    first, last = rows.start // factor, -(-rows.stop // factor)
    above, below = max(0, first - 1), min(len(correction), last + 1)  # neighbours, for the interpolation
    cells = correction[above:below]
    size = (cells.shape[1] * factor, cells.shape[0] * factor)
    enlarged = np.asarray(cv2.resize(cells, size, interpolation=cv2.INTER_LINEAR), dtype=np.float32)
    start = (first - above) * factor
    return enlarged.reshape(*size[::-1], -1)[start : start + rows.stop - rows.start, :width]
