"""Planning: the ordered steps for a picture. Planning reads neither disk nor network, only an `Inventory`."""

from typing import Any, Final

from panelworks.domain.cards import ACTIONS, BUNDLED, CARDS, Action
from panelworks.domain.options import ResolvedOptions
from panelworks.domain.plan import Condition, Plan, Step
from panelworks.domain.quality import QualityReport
from panelworks.domain.regions import fixable_regions, inpaintable_regions
from panelworks.models.registry import registered_card
from panelworks.settings import Settings
from panelworks.steps.catalogue import step_for
from panelworks.steps.inventory import ARTIFACT_NETWORK, AUTO, Inventory

LANCZOS: Final = "lanczos"
"""The name for resampling without a network."""
FOUND: Final = "found"
"""Parameter of a planned step that treats the regions of the quality report; `chosen` replaces it by them."""
_RESTORERS: Final = (ARTIFACT_NETWORK, "deblock-deband")
"""Models of `fix_artifacts`, best first: the network if it is available, otherwise filters without a network."""
_MAX_JPEG_QUALITIES: Final[dict[Condition, int]] = {"jpeg": 85, "strong_jpeg": 25}
"""Highest JPEG quality at which a page is restored first. The network gains 1.3 dB at quality 40 and 0.6 dB at 75. The
filters gain 0.1 dB at 20 and lose above 30, since the bundled network removes JPEG artifacts as well
(`python -m benchmarks.restoring`)."""


def plan_for(size: tuple[int, int], options: ResolvedOptions, inventory: Inventory) -> Plan:
    """The plan for a picture of `size` (width, height), before it is assessed.

    It includes conditional steps, which depend on the quality report; `chosen` selects among them. `auto` uses the bundled
    network, twice above 2x. A resize to the exact size follows the enlargement.

    Raises:
        UnknownName: `unknown_model`, or `no_provider`, no installed provider performs an action.
    """
    steps = [
        *_restoring_steps(options, inventory),
        *_enlarging_steps(options, inventory),
        _resize_step(inventory),
    ]
    steps += _finishing_steps(options, inventory)
    width, height = (max(1, round(side * options.scale)) for side in size)
    return Plan(
        steps=tuple(sorted(steps, key=lambda step: ACTIONS.index(step.action))), width=width, height=height
    )


def chosen(plan: Plan, report: QualityReport, *, good: bool, size: tuple[int, int]) -> Plan | None:
    """The plan with only the steps that the page needs; None if it needs none.

    A page of good quality (`good`) keeps its `size` (width, height) and gets only the steps that the request names.
    """
    located = [_with_found_regions(step, report, size) for step in plan.steps]
    steps = tuple(step for step in located if step is not None)
    if good:
        requested = tuple(
            step
            for step in steps
            if step.when in ("asked", "good", "regions")
            or (step.when == "paper" and _needed(step.when, report))
        )
        return Plan(steps=requested, width=size[0], height=size[1]) if requested else None
    return plan.model_copy(update={"steps": tuple(step for step in steps if _needed(step.when, report))})


def _with_found_regions(step: Step, report: QualityReport, size: tuple[int, int]) -> Step | None:
    """A step that treats found regions, with those of the report; None if there are none and it has nothing else to do."""
    if FOUND not in step.config:
        return step
    config = {name: value for name, value in step.config.items() if name != FOUND}
    if step.action == "inpaint":
        found = [one.box.model_dump() for one in inpaintable_regions(report.regions, size)]
    else:
        found = [one.model_dump() for one in fixable_regions(report.regions)]
    if step.when == "regions" and not found:
        return None
    return step.model_copy(update={"config": {**config, "regions": [*config.get("regions", ()), *found]}})


def _needed(when: Condition, report: QualityReport) -> bool:
    if when == "good":
        return False
    if when in _MAX_JPEG_QUALITIES:
        return report.jpeg_quality is not None and report.jpeg_quality <= _MAX_JPEG_QUALITIES[when]
    if when == "halftone":
        return report.content is not None and report.content.printed
    if when == "colourless":
        return report.content is not None and report.content.colourless
    if when == "paper":
        return report.content is not None and report.content.on_paper
    return True


def _restoring_steps(options: ResolvedOptions, inventory: Inventory) -> list[Step]:
    steps: list[Step] = []
    given = bool(options.inpaint or options.inpaint_scratches)
    if given or options.detect == "inpaint":
        config: dict[str, Any] = {"regions": [region.model_dump() for region in options.inpaint]}
        config |= {"scratches": True} if options.inpaint_scratches else {}
        config |= {FOUND: True} if options.detect == "inpaint" else {}
        step = step_for("inpaint", inventory, **config)
        steps.append(_with_condition(step, "asked" if given else "regions"))
    if options.gray != "off":
        step = step_for("gray", inventory)
        steps.append(_when_requested(step) if options.gray == "on" else _with_condition(step, "colourless"))
    if options.fix_artifacts == "regions":
        step = _fix_artifacts_step(inventory)
        step = step.model_copy(update={"config": {**step.config, FOUND: True}})
        steps.append(_with_condition(step, "regions"))
    elif options.fix_artifacts != "off":
        step = _fix_artifacts_step(inventory)
        condition: Condition = "jpeg" if step.digest else "strong_jpeg"
        steps.append(
            _when_requested(step) if options.fix_artifacts == "on" else _with_condition(step, condition)
        )
    if options.descreen == "on" or (options.descreen == "auto" and _can_descreen(inventory)):
        step = step_for("descreen", inventory)
        steps.append(_when_requested(step) if options.descreen == "on" else _with_condition(step, "halftone"))
    if options.levels:
        config = {"strength": options.levels}
        config |= {"points": options.tone_points.model_dump()} if options.tone_points else {}
        step = step_for("levels", inventory, **config)
        steps.append(_with_condition(step, "paper"))
    if options.denoise is not None:
        step = step_for("denoise", inventory, strength=options.denoise)
        steps.append(_with_condition(step, "good" if _denoises(options, inventory) else "asked"))
    return steps


def _fix_artifacts_step(inventory: Inventory) -> Step:
    """The step of `fix_artifacts`: as configured, otherwise the best available model."""
    model = _configured_model("fix_artifacts", inventory)
    if model != AUTO:
        return step_for("fix_artifacts", inventory)
    best = next(name for name in _RESTORERS if name not in CARDS or inventory.has(CARDS[name]))
    return step_for("fix_artifacts", inventory, best)


def _can_descreen(inventory: Inventory) -> bool:
    """Is the network for descreening available?"""
    card = CARDS.get(_configured_model("descreen", inventory))
    return card is None or inventory.has(card)


def _configured_model(action: Action, inventory: Inventory) -> str:
    return inventory.choices[action].model


def _enlarging_steps(options: ResolvedOptions, inventory: Inventory) -> list[Step]:
    model = options.model if options.model != AUTO else _configured_model("upscale", inventory)
    if model == LANCZOS:
        return []
    if model == AUTO and inventory.default_network is not None:
        model = inventory.default_network
    if model == AUTO:
        return [step_for("upscale", inventory, name) for name in _automatic_networks(options.scale)]
    if options.denoise is not None and _denoises(options, inventory):
        return [step_for("upscale", inventory, model, strength=options.denoise)]
    return [step_for("upscale", inventory, model)]


def _automatic_networks(scale: float) -> tuple[str, ...]:
    """The networks for an enlargement: the bundled one, twice above 2x. At 4x it is closer to the truth than the small 4x
    network of Real-ESRGAN, by 2.0 dB (`python -m training.evaluate --scale 4`), and needs no download."""
    return (BUNDLED,) if scale <= 2 else (BUNDLED, BUNDLED)


def _denoises(options: ResolvedOptions, inventory: Inventory) -> bool:
    """Does the enlarging network also denoise? Then only a page that is not enlarged needs a separate step."""
    model = options.model if options.model != AUTO else _configured_model("upscale", inventory)
    card = registered_card(model)
    return card is not None and card.partner is not None


def _finishing_steps(options: ResolvedOptions, inventory: Inventory) -> list[Step]:
    steps = []
    if options.face:
        steps.append(step_for("face", inventory))
    if options.colour is not None:
        steps.append(step_for("colour", inventory, strength=options.colour))
    if options.remove_background:
        matting = options.matting.model_dump() if options.matting else None
        steps.append(step_for("rembg", inventory, matting=matting))
    return [_when_requested(step) for step in steps]


def _when_requested(step: Step) -> Step:
    return _with_condition(step, "asked")


def _with_condition(step: Step, condition: Condition) -> Step:
    return step.model_copy(update={"when": condition})


def _resize_step(inventory: Inventory) -> Step:
    return step_for("resize", inventory)


def refusal_of_size(plan: Plan, settings: Settings) -> str | None:
    """The reason why a page of the plan's size is refused; None if it is allowed."""
    if plan.width * plan.height <= settings.max_output_pixels:
        return None
    return (
        f"The enhanced picture would have {plan.width * plan.height / 1e6:.0f} megapixels;"
        f" at most {settings.max_output_pixels / 1e6:.0f} are allowed."
    )
