"""`fix_artifacts: regions`: the affected parts of a page are treated, with soft borders; all other pixels stay identical."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Final

import cv2
import numpy as np

from panelworks.domain.plan import Step
from panelworks.domain.regions import FIXABLE_KINDS, ArtifactKind, ArtifactRegion, Region
from panelworks.pictures.picture import Picture, Pixels
from panelworks.pictures.view import Floats
from panelworks.progress import part_progress
from panelworks.quality.content import estimate_jpeg_quality
from panelworks.steps.base import Provider, Work, ignore_note
from panelworks.steps.deblocking import smooth_bands, smooth_noise

FEATHER_PIXELS: Final = 16
"""Width of the border outside of a region in which the treatment fades out."""
_CONTEXT_PIXELS: Final = 48
"""Surroundings of a region that are treated with it: the border, and the context that the treatment needs. A multiple of
the 8 of JPEG blocks."""
_MAX_BAND_STEP: Final = 17.0
"""Largest step between bands that is smoothed where banding was found, in levels: those that count as bands, with rounding."""
Fix = Callable[[Picture], Picture]


def is_regional(step: Step) -> bool:
    """Does the step treat only parts of the page?"""
    return step.action == "fix_artifacts" and "regions" in step.config


def fix_regions(provider: Provider, picture: Picture, step: Step, work: Work) -> Picture:
    """Treat the regions of a step: JPEG blocks by its provider, banding and noise by filters.

    Raises:
        PanelworksError: as `Provider.process`.
    """
    regions = [ArtifactRegion.model_validate(one) for one in step.config["regions"]]
    of_kind: dict[ArtifactKind, list[ArtifactRegion]] = {
        kind: [one for one in regions if one.kind == kind] for kind in FIXABLE_KINDS
    }
    config = {name: value for name, value in step.config.items() if name != "regions"}
    if of_kind["jpeg_blocks"] and step.digest is None:
        config["jpeg_quality"] = _estimate_quality(picture, of_kind["jpeg_blocks"])
    whole = step.model_copy(update={"config": config})
    used = [kind for kind, found in of_kind.items() if found]
    for index, kind in enumerate(used):
        quiet = replace(work, note=ignore_note, progress=part_progress(work.progress, index, len(used)))
        fixes: Mapping[ArtifactKind, Fix] = {
            "jpeg_blocks": lambda part, quiet=quiet: provider.process(part, whole, quiet),  # type: ignore[misc]
            "banding": partial(smooth_bands, max_step=_MAX_BAND_STEP),
            "noise": smooth_noise,
        }
        picture = treat(picture, of_kind[kind], fixes[kind])
        work.note(_describe(of_kind[kind], picture))
    return picture


def _describe(regions: list[ArtifactRegion], picture: Picture) -> str:
    count = "1 region" if len(regions) == 1 else f"{len(regions)} regions"
    share = sum(one.area for one in regions) / (picture.width * picture.height)
    return f"{regions[0].title} treated in {count}, {share:.0%} of the page"


def _estimate_quality(picture: Picture, regions: Iterable[Region]) -> int | None:
    """The JPEG quality in the largest of some regions: one for all, so that neighbouring regions have no seam."""
    largest = max(regions, key=lambda one: one.area)
    part = picture.region(largest.left, largest.top, largest.width, largest.height)
    return estimate_jpeg_quality(part)


def treat(picture: Picture, regions: Iterable[Region], fix: Fix) -> Picture:
    """Apply `fix` to regions of a picture. Within `FEATHER_PIXELS` around them it fades out; beyond, pixels stay identical.

    Args:
        picture: The page. Alpha is unchanged.
        regions: They may overlap; parts outside of the page are ignored.
        fix: Keeps the size of a picture, and its number of channels.
    """
    page = Region(left=0, top=0, width=picture.width, height=picture.height)
    inside = [one for one in (region.within(page) for region in regions) if one is not None]
    result = picture.pixels.copy()
    for region in inside:
        part = _around(region, page, _CONTEXT_PIXELS)
        source = picture.region(part.left, part.top, part.width, part.height)
        treated = fix(Picture(np.ascontiguousarray(source.pixels), source.alpha)).pixels
        weights = _weights(part, inside)
        blended = source.pixels + weights[:, :, None] * (treated.astype(np.float32) - source.pixels)
        core = _around(region, page, FEATHER_PIXELS)
        rows = slice(core.top - part.top, core.top - part.top + core.height)
        columns = slice(core.left - part.left, core.left - part.left + core.width)
        result[core.top : core.top + core.height, core.left : core.left + core.width] = np.rint(
            np.clip(blended[rows, columns], 0, 255)
        )
    return Picture(result, picture.alpha)


def _around(region: Region, page: Region, reach: int) -> Region:
    """The region with its surroundings, as far as they are on the page."""
    left, top = max(0, region.left - reach), max(0, region.top - reach)
    right = min(page.width, region.left + region.width + reach)
    bottom = min(page.height, region.top + region.height + reach)
    return Region(left=left, top=top, width=right - left, height=bottom - top)


def _weights(part: Region, regions: Iterable[Region]) -> Floats:
    """The weight of the treatment in a part of the page, HxW: 1 in the regions, 0 from `FEATHER_PIXELS` outside of them."""
    outside: Pixels = np.full((part.height, part.width), 255, dtype=np.uint8)
    for one in _inside(part, regions):
        outside[one.top : one.top + one.height, one.left : one.left + one.width] = 0
    distance = cv2.distanceTransform(outside, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    near = np.clip(1 - distance / np.float32(FEATHER_PIXELS), 0, 1)
    return np.asarray(near * near * (3 - 2 * near), dtype=np.float32)


def _inside(part: Region, regions: Iterable[Region]) -> Iterator[Region]:
    for region in regions:
        cut = region.within(part)
        if cut is not None:
            yield cut
