"""Planning: the ordered steps for a picture, and what to try when they do not work out."""

from typing import Any, Final

from panelworks.domain.cards import ACTIONS, BUNDLED, CARDS, DEFAULT_4X, Action
from panelworks.domain.options import ResolvedOptions
from panelworks.domain.plan import Condition, Plan, Step
from panelworks.domain.quality import QualityReport
from panelworks.models.registry import registered_card
from panelworks.settings import Settings
from panelworks.steps.catalogue import step_for
from panelworks.steps.inventory import ARTIFACT_NETWORK, AUTO, Inventory

LANCZOS: Final = "lanczos"
"""The model that is none: resampling alone."""
_RESTORERS: Final = (ARTIFACT_NETWORK, "deblock-deband")
"""What `fix_artifacts` takes by itself: the network where its file is, else plain arithmetic."""
_JPEG: Final[dict[Condition, int]] = {"jpeg": 85, "strong_jpeg": 25}
"""Highest JPEG quality at which a page is restored first. The network gains 1.3 dB at 40 and 0.6 at 75; plain
arithmetic gains 0.1 dB at 20 and loses above 30, for the bundled network knows JPEG itself
(`python -m benchmarks.restoring`)."""


def plan_for(size: tuple[int, int], options: ResolvedOptions, inventory: Inventory) -> Plan:
    """The plan for a picture of `size` (width, height), before it was looked at.

    It holds also the steps that the report decides about; `chosen` settles it. `auto` takes the bundled
    network up to 2x and a 4x network above; a resize to the exact size asked for follows the enlargement.

    Raises:
        UnknownName: `unknown_model`, or `no_provider` for an action that nothing performs.
    """
    steps = [*_restoring(options, inventory), *_enlarging(options, inventory), _resize_step(inventory)]
    steps += _finishing(options, inventory)
    width, height = (max(1, round(side * options.scale)) for side in size)
    return Plan(
        steps=tuple(sorted(steps, key=lambda step: ACTIONS.index(step.action))), width=width, height=height
    )


def chosen(plan: Plan, report: QualityReport, *, good: bool, size: tuple[int, int]) -> Plan | None:
    """The plan with those steps that the page needs; None when it needs none.

    A good page (`good`) keeps its `size` (width, height), and only what was asked for by name is done to it.
    """
    if good:
        asked = tuple(step for step in plan.steps if step.when in ("asked", "good"))
        return Plan(steps=asked, width=size[0], height=size[1]) if asked else None
    return plan.model_copy(update={"steps": tuple(step for step in plan.steps if _needed(step.when, report))})


def _needed(when: Condition, report: QualityReport) -> bool:
    if when == "good":
        return False
    if when in _JPEG:
        return report.jpeg_quality is not None and report.jpeg_quality <= _JPEG[when]
    if when == "halftone":
        return report.content is not None and report.content.printed
    return True


def _restoring(options: ResolvedOptions, inventory: Inventory) -> list[Step]:
    steps: list[Step] = []
    if options.inpaint or options.inpaint_scratches:
        config: dict[str, Any] = {"regions": [region.model_dump() for region in options.inpaint]}
        config |= {"scratches": True} if options.inpaint_scratches else {}
        steps.append(_asked(step_for("inpaint", inventory, **config)))
    if options.fix_artifacts != "off":
        step = _fixing(inventory)
        condition: Condition = "jpeg" if step.digest else "strong_jpeg"
        steps.append(_asked(step) if options.fix_artifacts == "on" else _if(step, condition))
    if options.descreen == "on" or (options.descreen == "auto" and _may_descreen(inventory)):
        step = step_for("descreen", inventory)
        steps.append(_asked(step) if options.descreen == "on" else _if(step, "halftone"))
    if options.denoise is not None:
        step = step_for("denoise", inventory, strength=options.denoise)
        steps.append(_if(step, "good" if _blends(options, inventory) else "asked"))
    return steps


def _fixing(inventory: Inventory) -> Step:
    """What `fix_artifacts` does: as configured, or the best that is here."""
    model = _model("fix_artifacts", inventory)
    if model != AUTO:
        return step_for("fix_artifacts", inventory)
    best = next(name for name in _RESTORERS if name not in CARDS or inventory.has(CARDS[name]))
    return step_for("fix_artifacts", inventory, best)


def _may_descreen(inventory: Inventory) -> bool:
    """Is the network that descreens here, or to be had?"""
    card = CARDS.get(_model("descreen", inventory))
    return card is None or inventory.has(card)


def _model(action: Action, inventory: Inventory) -> str:
    return inventory.choices[action].model


def _enlarging(options: ResolvedOptions, inventory: Inventory) -> list[Step]:
    model = options.model if options.model != AUTO else _model("upscale", inventory)
    if model == LANCZOS:
        return []
    if model == AUTO and inventory.default_network is not None:
        model = inventory.default_network
    if model == AUTO:
        return [step_for("upscale", inventory, name) for name in _auto(options.scale, inventory)]
    if options.denoise is not None and _blends(options, inventory):
        return [step_for("upscale", inventory, model, strength=options.denoise)]
    return [step_for("upscale", inventory, model)]


def _auto(scale: float, inventory: Inventory) -> tuple[str, ...]:
    """The networks for an enlargement, by settings alone: a download that fails must not change the plan."""
    if scale <= 2:
        return (BUNDLED,)
    return (DEFAULT_4X,) if inventory.has(CARDS[DEFAULT_4X]) else (BUNDLED, BUNDLED)


def _blends(options: ResolvedOptions, inventory: Inventory) -> bool:
    """Does the network that enlarges denoise as well? Then only a page that is not enlarged needs a step of its own."""
    model = options.model if options.model != AUTO else _model("upscale", inventory)
    card = registered_card(model)
    return card is not None and card.partner is not None


def _finishing(options: ResolvedOptions, inventory: Inventory) -> list[Step]:
    steps = []
    if options.face:
        steps.append(step_for("face", inventory))
    if options.colour is not None:
        steps.append(step_for("colour", inventory, strength=options.colour))
    if options.remove_background:
        matting = options.matting.model_dump() if options.matting else None
        steps.append(step_for("rembg", inventory, matting=matting))
    return [_asked(step) for step in steps]


def _asked(step: Step) -> Step:
    return _if(step, "asked")


def _if(step: Step, condition: Condition) -> Step:
    return step.model_copy(update={"when": condition})


def _resize_step(inventory: Inventory) -> Step:
    return step_for("resize", inventory)


def refusal_of_size(plan: Plan, settings: Settings) -> str | None:
    """Why no page of the plan's size is made; None when one is."""
    if plan.width * plan.height <= settings.max_output_pixels:
        return None
    return (
        f"The enhanced picture would have {plan.width * plan.height / 1e6:.0f} megapixels;"
        f" at most {settings.max_output_pixels / 1e6:.0f} are made."
    )
