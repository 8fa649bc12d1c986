"""Validation: is the enhanced picture still the source, only better?

The checks are in `checks`; this module asks them in order. The first that fails is the reason of the verdict.
"""

from typing import Final

from panelworks.pictures.picture import Picture
from panelworks.quality.assess import assess
from panelworks.quality.checks import shape, structure, texture, tone
from panelworks.quality.checks.verdicts import judged
from panelworks.quality.pair import Pair
from panelworks.quality.report import QualityReport
from panelworks.records import Check, Verdict

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
    """The checks that look at the pixels of both, in the order in which their answers are told."""
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
    return finished.model_copy(update={"checks": (*verdict.checks, *checks)})


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
    pair = Pair(source, enhanced)
    return assess(Picture(pair.now))


def _score(before: QualityReport, after: QualityReport) -> Check:
    """At the size of the source the technical score hardly falls; the resolution rises by itself."""
    lost = round(before.technical - after.technical, 4)
    said = f"the technical quality fell from {before.technical:.2f} to {after.technical:.2f}"
    return judged("score", lost, SCORE_TOLERANCE, said)


def _target(after: QualityReport, target: float) -> Check:
    """The overall score is as high as the installation wants it."""
    missing = round(max(0.0, target - after.overall), 4)
    return judged(
        "target", missing, 0.0, f"the score {after.overall:.2f} is below the target of {target:.2f}"
    )
