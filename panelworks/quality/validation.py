"""Validation: whether an enhanced picture is a faithful version of its source.

This module runs the checks in `checks` in order. The first one that fails is the reason of the verdict.
"""

from collections.abc import Iterator, Sequence
from functools import partial
from itertools import pairwise
from typing import Final

import numpy as np

from panelworks.domain.quality import QualityReport
from panelworks.domain.result import TARGET, Check, Verdict
from panelworks.pictures.parallel import compute_in_background, compute_together
from panelworks.pictures.picture import Picture
from panelworks.pictures.view import Pair
from panelworks.quality.checks import (
    check_alpha,
    check_gray,
    check_size,
    make_check,
    structure,
    texture,
    tone,
)
from panelworks.quality.scorers import SCORERS, Scorer, assess_result

_BAND_PIXELS: Final = 3_000_000
"""Pixels of the source that are compared at once, if a page has at least twice as many."""
_BANDS_AT_ONCE: Final = 2
"""Bands that are compared at the same time: each needs about 200 MB."""
_MIN_BAND_ROWS: Final = 384
"""Minimum rows of a band: the length over which seams are searched."""
SCORE_TOLERANCE: Final = 0.06
"""Maximum loss of overall score: the result against the source, enlarged without a network to the same size."""


def validate(
    source: Picture,
    enhanced: Picture,
    expected_size: tuple[int, int],
    before: QualityReport,
    target: float = 0.0,
    scorers: Sequence[Scorer] = SCORERS,
) -> Verdict:
    """Validate an enhancement. The verdict's reason names the first check that failed.

    Pixel checks are skipped if the size or kind is already wrong. Transparent parts are compared on white paper,
    because the colour beneath is invisible.

    Args:
        source: The source.
        enhanced: The enhanced picture.
        expected_size: The planned width and height.
        before: The report on the source, with the size of the delivery.
        target: Minimum overall score of the result.
        scorers: The scorers of the report on the result.
    """
    assessed = compute_in_background(partial(assess_result, enhanced, before, scorers))
    checks = [
        check_size(enhanced, expected_size),
        check_gray(source, enhanced),
        check_alpha(source, enhanced),
    ]
    if all(check.passed for check in checks):
        checks += compare_pixels(source, enhanced)
        checks += [_check_score(before, assessed.result()), _check_target(assessed.result(), target)]
    return _make_verdict(checks, "all checks passed", assessed.result())


def compare_pixels(source: Picture, enhanced: Picture) -> list[Check]:
    """Run the checks that compare pixels, in the order of the verdict.

    A large page is compared in bands, so that memory does not grow with it. The worst band of each check counts.
    """
    bands = list(_split_bands(source, enhanced))
    if len(bands) == 1:
        return _run_pixel_checks(source, enhanced)
    calls = [partial(_check_band, *band) for band in bands]
    found: list[list[Check]] = []
    for first in range(0, len(calls), _BANDS_AT_ONCE):
        found += compute_together(calls[first : first + _BANDS_AT_ONCE])
    return [max(same, key=lambda check: check.value) for same in zip(*found, strict=True)]


def _check_band(top: int, source: Picture, enhanced: Picture) -> list[Check]:
    """Run the pixel checks on a band whose first row is the row `top` of the source."""
    return [_shift_region(check, top) for check in _run_pixel_checks(source, enhanced)]


def _split_bands(source: Picture, enhanced: Picture) -> Iterator[tuple[int, Picture, Picture]]:
    """Yield (first row of the source, its band, the band of the result); one band if the scale is not an integer."""
    scale = enhanced.height // source.height
    rows = max(_MIN_BAND_ROWS, _BAND_PIXELS // source.width)
    if source.height < 2 * rows or enhanced.size != (source.width * scale, source.height * scale):
        yield 0, source, enhanced
        return
    edges = np.linspace(0, source.height, source.height // rows + 1).astype(int)
    for top, bottom in pairwise(int(edge) for edge in edges):
        yield (
            top,
            source.region(0, top, source.width, bottom - top),
            enhanced.region(0, top * scale, enhanced.width, (bottom - top) * scale),
        )


def _shift_region(check: Check, rows: int) -> Check:
    """Move the region of a check down by some rows."""
    if check.region is None:
        return check
    region = check.region.model_copy(update={"top": check.region.top + rows})
    return check.model_copy(update={"region": region})


def _run_pixel_checks(source: Picture, enhanced: Picture) -> list[Check]:
    pair = Pair(source, enhanced)
    return [
        tone.check_dead_regions(pair.source_luma, pair.result_luma),
        *tone.check_cell_tones(pair),
        tone.check_white_and_black(pair),
        *structure.check_alignment(pair),
        structure.check_correlation(pair),
        *structure.check_lines(pair),
        structure.check_strokes(pair),
        structure.check_halo(pair),
        texture.check_calm_areas(pair),
        texture.check_pattern(pair),
        texture.check_seams(pair),
        texture.check_stairs(pair),
        texture.check_levels(pair),
    ]


def validate_finish(faithful: Picture, master: Picture, verdict: Verdict, after: QualityReport) -> Verdict:
    """Extend the verdict by the deliberate changes after upscaling.

    Such a change may move tones and add transparency. It must not lose pixels, grayness or a drawn region.
    """
    checks = [check_size(master, faithful.size), check_gray(faithful, master)]
    if all(check.passed for check in checks):
        checks.append(tone.check_dead_regions(Picture(faithful.pixels).luma(), Picture(master.pixels).luma()))
    finished = _make_verdict(checks, verdict.reason, after, "after the enlargement: ")
    passed = finished.passed and verdict.passed
    return finished.model_copy(update={"passed": passed, "checks": (*verdict.checks, *checks)})


def _make_verdict(checks: list[Check], passed: str, after: QualityReport, when: str = "") -> Verdict:
    failed = next((check for check in checks if not check.passed), None)
    return Verdict(
        passed=failed is None,
        reason=passed if failed is None else when + failed.message,
        checks=tuple(checks),
        after=after,
    )


def _check_score(before: QualityReport, after: QualityReport) -> Check:
    """Check that the overall score does not fall."""
    lost = round(before.overall - after.overall, 4)
    message = f"the quality fell from {before.overall:.2f} to {after.overall:.2f}"
    return make_check("score", lost, SCORE_TOLERANCE, message)


def _check_target(after: QualityReport, target: float) -> Check:
    """Check that the overall score reaches the target in the settings."""
    missing = round(max(0.0, target - after.overall), 4)
    return make_check(
        TARGET, missing, 0.0, f"the score {after.overall:.2f} is below the target of {target:.2f}"
    )
