"""The alternatives to a plan that failed validation, in the order of the settings."""

from collections.abc import Callable, Iterable
from typing import Final

from panelworks.domain.cards import ACTIONS, BUNDLED, CARDS, Action
from panelworks.domain.plan import Plan, Step
from panelworks.domain.quality import QualityReport
from panelworks.domain.result import TARGET, Verdict
from panelworks.models.tiling import MIN_TILE_PIXELS
from panelworks.settings import FallbackMethod
from panelworks.steps.catalogue import step_for
from panelworks.steps.inventory import DRAWN_NETWORKS, Inventory
from panelworks.steps.regional import is_regional

_ENLARGING: Final[frozenset[Action]] = frozenset({"upscale", "enhance"})
_RESTORING: Final[frozenset[Action]] = frozenset({"fix_artifacts", "descreen", "denoise"})
_ALTERNATIVE_TILE_PIXELS: Final = 128
"""Side of the tiles in `tile`; a plan with tiles of this size gets half of it."""
DEBLOCKING_MODEL: Final = "deblock-deband"
"""Removes JPEG artifacts before Lanczos resampling, without a network: it cannot invent detail."""
_MAX_DEBLOCKED_JPEG_QUALITY: Final = 60
"""Pages of a higher JPEG quality are not deblocked before Lanczos resampling."""

_SCORE_CHECKS: Final = frozenset({"score", TARGET})
"""Checks of the score: neither precision nor tiles change the score of a page."""
_EQUAL_VALUE_TOLERANCE: Final = 0.05
"""Relative difference up to which two values of a failed check count as equal."""

NAMES: Final[dict[FallbackMethod, str]] = {
    "fp32": "the same network in fp32",
    "tile": "the same network with other tiles",
    "plain": "no restoring before the enlargement",
    "alternative": "another network for drawn pages",
    "bundled": "the bundled network",
    "lanczos": "Lanczos resampling with gentle deblocking",
}
"""Names for people. Results contain them."""


def alternatives(
    plan: Plan, before: QualityReport, ways: Iterable[FallbackMethod], inventory: Inventory, failed: Verdict
) -> tuple[tuple[str, Plan], ...]:
    """The alternatives to `plan`, which failed for a page with the report `before`: (name for people, plan).

    They have the order of `ways`. Those that do not apply to the plan, equal it or an earlier one, or cannot change the
    failed checks are skipped. A plan without networks has no alternatives.
    """
    scores_alone = bool(failed.failed_checks) and failed.failed_checks.keys() <= _SCORE_CHECKS
    if not any(step.digest is not None for step in plan.steps if step.action in _ENLARGING | _RESTORING):
        return ()
    found: list[tuple[str, Plan]] = []
    for way in ways:
        other = _WAYS[way](plan, before, inventory)
        if (
            other is not None
            and other.steps
            and not (scores_alone and repeats_networks(plan, other))
            and other.steps not in (plan.steps, *(one.steps for _, one in found))
        ):
            found.append((NAMES[way], other))
    return tuple(found)


def repeats_networks(plan: Plan, other: Plan) -> bool:
    """Does `other` run the same networks as `plan`, only with another precision or other tiles?"""
    neutral = {"precision": None, "tile": None}
    return [step.model_copy(update=neutral) for step in plan.steps] == [
        step.model_copy(update=neutral) for step in other.steps
    ]


def repeats_failure(first: Verdict, second: Verdict) -> bool:
    """Did the same checks fail with nearly the same values?"""
    one, other = first.failed_checks, second.failed_checks
    return (
        bool(one)
        and one.keys() == other.keys()
        and all(
            abs(one[name] - other[name]) <= _EQUAL_VALUE_TOLERANCE * max(abs(one[name]), abs(other[name]))
            for name in one
        )
    )


def _fp32(plan: Plan, before: QualityReport, inventory: Inventory) -> Plan | None:
    return _with(plan, (_changed(step, precision="fp32") for step in plan.steps))


def _tile(plan: Plan, before: QualityReport, inventory: Inventory) -> Plan | None:
    tiles = (
        max(MIN_TILE_PIXELS, min(_ALTERNATIVE_TILE_PIXELS, (step.tile or 2 * _ALTERNATIVE_TILE_PIXELS) // 2))
        for step in plan.steps
    )
    return _with(
        plan,
        (_changed(step, precision="fp32", tile=tile) for step, tile in zip(plan.steps, tiles, strict=True)),
    )


def _plain(plan: Plan, before: QualityReport, inventory: Inventory) -> Plan | None:
    return _with(plan, (step for step in plan.steps if step.action not in _RESTORING))


def _alternative(plan: Plan, before: QualityReport, inventory: Inventory) -> Plan | None:
    planned = {step.model for step in plan.steps}
    for name in DRAWN_NETWORKS:
        card = CARDS.get(name)
        if card is not None and name not in planned and card.name in inventory.installed:
            return _enlarged_by(plan, [step_for("upscale", inventory, name)])
    return None


def _bundled(plan: Plan, before: QualityReport, inventory: Inventory) -> Plan | None:
    return _enlarged_by(plan, [step_for("upscale", inventory, BUNDLED)])


def _lanczos(plan: Plan, before: QualityReport, inventory: Inventory) -> Plan | None:
    """No networks; a compressed page is deblocked first."""
    kept = [step for step in plan.steps if step.action not in _ENLARGING | _RESTORING]
    if any(is_regional(step) for step in plan.steps):  # the rest of the page stays as it is
        regional = (step for step in plan.steps if is_regional(step))
        kept += [
            step_for("fix_artifacts", inventory, DEBLOCKING_MODEL, regions=step.config["regions"])
            for step in regional
        ]
    elif before.jpeg_quality is not None and before.jpeg_quality <= _MAX_DEBLOCKED_JPEG_QUALITY:
        kept.append(step_for("fix_artifacts", inventory, DEBLOCKING_MODEL))
    return _with(plan, kept)


def _enlarged_by(plan: Plan, enlarging: list[Step]) -> Plan | None:
    """The plan without restoring steps and with other enlarging steps; None if no network enlarges in it."""
    if not any(step.action in _ENLARGING and step.digest for step in plan.steps):
        return None
    kept = (step for step in plan.steps if step.action not in _ENLARGING | _RESTORING)
    return _with(plan, [*enlarging, *kept])


def _changed(step: Step, **change: object) -> Step:
    """The step with other options of its network; steps without a network are unchanged."""
    runs_network = step.digest is not None and step.action in _ENLARGING | _RESTORING
    return step.model_copy(update=change) if runs_network else step


def _with(plan: Plan, steps: Iterable[Step]) -> Plan:
    return plan.model_copy(
        update={"steps": tuple(sorted(steps, key=lambda step: ACTIONS.index(step.action)))}
    )


_WAYS: Final[dict[FallbackMethod, Callable[[Plan, QualityReport, Inventory], Plan | None]]] = {
    "fp32": _fp32,
    "tile": _tile,
    "plain": _plain,
    "alternative": _alternative,
    "bundled": _bundled,
    "lanczos": _lanczos,
}
