"""Validation: is the enhanced picture still the source, only better?

The checks are in `checks`; this module asks them in order. The first that fails is the reason of the verdict.
"""

from collections.abc import Iterator
from itertools import pairwise
from typing import Final

import numpy as np

from panelworks.domain.quality import QualityReport
from panelworks.domain.result import TARGET, Check, Verdict
from panelworks.pictures.picture import Picture
from panelworks.pictures.view import Pair
from panelworks.quality.checks import shape, structure, texture, tone
from panelworks.quality.checks.shape import judged
from panelworks.quality.scorers import assess

_BAND_PIXELS: Final = 3_000_000
"""Pixels of the source that are compared at once, if a page has at least twice as many."""
_LEAST_ROWS: Final = 384
"""Rows of a band at least, as long as a seam is looked for."""
SCORE_TOLERANCE: Final = 0.06
"""At the size of the source, a technical score this much below it still counts as no worse."""


def validate(
    source: Picture,
    enhanced: Picture,
    expected_size: tuple[int, int],
    before: QualityReport,
    after: QualityReport,
    target: float = 0.0,
) -> Verdict:
    """The verdict on an enhancement; its reason names the first check that failed.

    Pixel checks are skipped when the size or kind is already wrong; transparent parts are compared
    on white paper, since nobody sees the colour beneath.

    Args:
        source: What was enhanced.
        enhanced: What came out.
        expected_size: Width and height that were planned.
        before: The report on the source.
        after: The report on the result.
        target: Overall score that the result must reach at least.
    """
    checks = [
        shape.size(enhanced, expected_size),
        shape.gray(source, enhanced),
        shape.alpha(source, enhanced),
    ]
    if all(check.passed for check in checks):
        checks += compare(source, enhanced)
        checks += [_score(before, _at_its_size(source, enhanced, after)), _target(after, target)]
    return _verdict(checks, "all checks passed", after)


def compare(source: Picture, enhanced: Picture) -> list[Check]:
    """The checks that look at the pixels of both, in the order in which their answers are told.

    A large page is compared in bands, so that memory does not grow with it; of each check the worst counts.
    """
    bands = list(_bands(source, enhanced))
    if len(bands) == 1:
        return _compare(source, enhanced)
    found = [[_moved_down(check, top) for check in _compare(*parts)] for top, *parts in bands]
    return [max(same, key=lambda check: check.value) for same in zip(*found, strict=True)]


def _bands(source: Picture, enhanced: Picture) -> Iterator[tuple[int, Picture, Picture]]:
    """(first row of the source, its band, the band of the result); one where the scale is no whole number."""
    scale = enhanced.height // source.height
    rows = max(_LEAST_ROWS, _BAND_PIXELS // source.width)
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


def _moved_down(check: Check, rows: int) -> Check:
    """The check with its region as many rows further down."""
    if check.region is None:
        return check
    region = check.region.model_copy(update={"top": check.region.top + rows})
    return check.model_copy(update={"region": region})


def _compare(source: Picture, enhanced: Picture) -> list[Check]:
    pair = Pair(source, enhanced)
    return [
        tone.dead_regions(pair.source, pair.result),
        *tone.cell_tones(pair),
        tone.white_and_black(pair),
        *structure.alignment(pair),
        structure.correlation(pair),
        *structure.lines(pair),
        structure.strokes(pair),
        structure.halo(pair),
        texture.calm_areas(pair),
        texture.pattern(pair),
        texture.seams(pair),
        texture.new_stairs(pair),
        texture.levels(pair),
    ]


def validate_finish(faithful: Picture, master: Picture, verdict: Verdict, after: QualityReport) -> Verdict:
    """The verdict, continued over what was changed on purpose after the enlargement.

    Such a change may move tones and add transparency, but loses neither pixels nor grayness nor a drawn region.
    """
    checks = [shape.size(master, faithful.size), shape.gray(faithful, master)]
    if all(check.passed for check in checks):
        checks.append(tone.dead_regions(Picture(faithful.pixels), Picture(master.pixels)))
    finished = _verdict(checks, verdict.reason, after, "after the enlargement: ")
    passed = finished.passed and verdict.passed
    return finished.model_copy(update={"passed": passed, "checks": (*verdict.checks, *checks)})


def _verdict(checks: list[Check], passed: str, after: QualityReport, when: str = "") -> Verdict:
    failed = next((check for check in checks if not check.passed), None)
    return Verdict(
        passed=failed is None,
        reason=passed if failed is None else when + failed.message,
        checks=tuple(checks),
        after=after,
    )


def _at_its_size(source: Picture, enhanced: Picture, after: QualityReport) -> QualityReport:
    """The report on the result at the size of its source.

    Scores of one size are compared: a larger picture of the same grain or dots has others by itself.
    """
    if enhanced.size == source.size:
        return after
    return assess(Picture(Pair(source, enhanced).now), source=after)


def _score(before: QualityReport, after: QualityReport) -> Check:
    """At the size of the source the technical score hardly falls; the resolution rises by itself."""
    lost = round(before.technical - after.technical, 4)
    said = f"the technical quality fell from {before.technical:.2f} to {after.technical:.2f}"
    return judged("score", lost, SCORE_TOLERANCE, said)


def _target(after: QualityReport, target: float) -> Check:
    """The overall score is as high as the installation wants it."""
    missing = round(max(0.0, target - after.overall), 4)
    return judged(TARGET, missing, 0.0, f"the score {after.overall:.2f} is below the target of {target:.2f}")
