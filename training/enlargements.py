"""Enlargements: a page of known truth, reduced, possibly damaged, and enlarged again by filters and networks.

The quality head is fitted on them beside the ladders, and `benchmarks.delivery` ranks them by score and by fidelity.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Final

import cv2
import numpy as np
from PIL import Image

from panelworks.domain.cards import BUNDLED
from panelworks.models.network import Network
from panelworks.models.tiling import run_tiled
from training.ladders import CLEAN_SCORE, COMPONENTS, DISTORTIONS, Component, Pixels, Rung

FILTERS: Final = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
FACTORS: Final = (1.5, 2.0, 3.0, 4.0)
DAMAGES: Final[dict[str, tuple[str, float]]] = {
    "q75": ("jpeg", 75),
    "q40": ("jpeg", 40),
    "q20": ("jpeg", 20),
    "blur": ("blur", 1.0),
    "noise": ("noise", 7),
}
"""Damage of the reduced page before it is enlarged: name of the distortion and its severity."""
_TILE_PIXELS: Final = 256
_REDUCING: Final = (Image.Resampling.BICUBIC, Image.Resampling.LANCZOS, Image.Resampling.BOX)
_HALO_SIGMA: Final = 1.2
_HALO_AMOUNTS: Final = (0.5, 1.0, 1.5, 2.5, 4.0, 6.0)
"""Amounts of unsharp masking on the rungs of a ladder of halos."""


_NETWORK_SHARPNESS: Final = {1.5: 0.975, 2.0: 0.975, 3.0: 0.97, 4.0: 0.965}
"""Wanted sharpness of a page that a network enlarged, by factor: nearly that of a clean page."""
_FILTER_SHARPNESS: Final = {
    "bilinear": {1.5: 0.66, 2.0: 0.42, 3.0: 0.36, 4.0: 0.32},
    "bicubic": {1.5: 0.70, 2.0: 0.45, 3.0: 0.39, 4.0: 0.35},
    "lanczos": {1.5: 0.72, 2.0: 0.47, 3.0: 0.41, 4.0: 0.36},
}
"""Wanted sharpness of a page that a filter enlarged, by factor: by 2 or more, the page is not fit for print."""
_DAMAGE_SCORES: Final[dict[str, tuple[Component, float]]] = {
    "q75": ("compression", 0.90),
    "q40": ("compression", 0.72),
    "q20": ("compression", 0.55),
    "blur": ("sharpness", 0.52),
    "noise": ("noise", 0.58),
}
"""Wanted score of a component of a page that was damaged before a network enlarged it."""
_HALO_SHARPNESS: Final = {
    "truth": (0.92, 0.86, 0.80, 0.74, 0.67, 0.60),
    BUNDLED: (0.90, 0.84, 0.78, 0.72, 0.65, 0.58),
    "bicubic": (0.44, 0.43, 0.42, 0.41, 0.40, 0.38),
}
"""Wanted sharpness on each rung of a ladder of halos, by what is sharpened."""


@dataclass(frozen=True)
class Enlargement:
    """A page of the size of its truth that was enlarged."""

    method: str
    """A filter, or the name of a network."""
    factor: float
    damage: str
    """A key of `DAMAGES`; empty: none."""
    pixels: Pixels


def make_enlargements(
    clean: Pixels,
    networks: Mapping[str, Network],
    seed: int,
    factors: tuple[float, ...] = FACTORS,
    damages: tuple[str, ...] = ("", *DAMAGES),
) -> Iterator[Enlargement]:
    """Reduce a clean HxWx3 page by each factor, damage it, and enlarge it by each filter and network."""
    random = Random(seed)
    for factor in factors:
        whole = Image.fromarray(clean)
        sides = (max(16, round(whole.width / factor)), max(16, round(whole.height / factor)))
        small = np.asarray(whole.resize(sides, random.choice(_REDUCING)))
        for damage in damages:
            source = small
            if damage:
                name, severity = DAMAGES[damage]
                source = DISTORTIONS[name].apply(small, severity, Random(seed))
            for method in (*FILTERS, *networks):
                pixels = enlarge(
                    source, (whole.width, whole.height), networks.get(method, FILTERS.get(method))
                )
                yield Enlargement(method, factor, damage, pixels)


def enlarge(source: Pixels, size: tuple[int, int], method: Network | Image.Resampling | None) -> Pixels:
    """Enlarge a page to `size` (width, height); a network runs until the page is large enough, as a plan runs it."""
    if method is None:
        raise ValueError("there is no such filter or network")
    if isinstance(method, Image.Resampling):
        return np.asarray(Image.fromarray(source).resize(size, method))
    pixels = source
    while pixels.shape[1] < size[0]:
        pixels = run_tiled(method, pixels, _TILE_PIXELS)
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.LANCZOS))


def sharpen(pixels: Pixels, amount: float) -> Pixels:
    """Sharpen by unsharp masking; large amounts draw halos beside lines."""
    values = pixels.astype(np.float32)
    soft = cv2.GaussianBlur(values, (0, 0), _HALO_SIGMA)
    return np.clip(np.rint(values + amount * (values - soft)), 0, 255).astype(np.uint8)


def make_halos(pixels: Pixels) -> Iterator[tuple[int, Pixels]]:
    """Yield (rung, page) with halos that grow from rung to rung."""
    for rung, amount in enumerate(_HALO_AMOUNTS, start=1):
        yield rung, sharpen(pixels, amount)


def make_enlarged_rungs(clean: Pixels, networks: Mapping[str, Network], number: int) -> Iterator[Rung]:
    """Make the rungs of a clean page for fitting: enlarged by each filter and network by 2, by filters and the bundled network by
    another factor; enlarged after damage; and with halos. `number`, that of the page, selects factor and damages.
    """
    other = (1.5, 3.0, 4.0)[number % 3]
    damages = (("q20", "blur"), ("noise", "q40"), ("q75", "q20"))[number % 3]
    bundled = {BUNDLED: networks[BUNDLED]}
    enlarged = list(make_enlargements(clean, networks, number, (2.0,), ("",)))
    enlarged += make_enlargements(clean, bundled, number, (other,), ("",))
    for one in enlarged:
        yield _make_rung(one)
        if one.method in _HALO_SHARPNESS and one.factor == 2.0:
            yield from _make_halo_rungs(one.pixels, one.method)
    for one in make_enlargements(clean, bundled, number, (2.0,), damages):
        if one.method in ("bicubic", BUNDLED):
            yield _make_rung(one)
    yield from _make_halo_rungs(clean, "truth")


def _make_rung(one: Enlargement) -> Rung:
    sharpness = _FILTER_SHARPNESS.get(one.method, _NETWORK_SHARPNESS)[one.factor]
    wanted = dict.fromkeys(COMPONENTS, CLEAN_SCORE) | {"sharpness": sharpness}
    if one.damage:
        component, score = _DAMAGE_SCORES[one.damage]
        wanted[component] = min(wanted[component], score)
    return Rung("enlarged", 0, one.pixels, tuple(wanted.values()), one.method, one.factor, one.damage)


def _make_halo_rungs(pixels: Pixels, method: str, rungs: Sequence[int] = (2, 4, 6)) -> Iterator[Rung]:
    factor = 1.0 if method == "truth" else 2.0
    for rung, sharpened in make_halos(pixels):
        if rung in rungs:
            wanted = dict.fromkeys(COMPONENTS, CLEAN_SCORE) | {"sharpness": _HALO_SHARPNESS[method][rung - 1]}
            yield Rung("halo", rung, sharpened, tuple(wanted.values()), method, factor, "halo")
