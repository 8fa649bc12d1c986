"""Planning: the ordered steps for a picture, and what to try when they do not work out."""

import logging
from functools import lru_cache

from panelworks.errors import Transient
from panelworks.models.registry import BUNDLED, CARDS, DEFAULT_4X, ModelCard, card_for
from panelworks.models.weights import weights_path
from panelworks.providers import provider_for
from panelworks.records import Plan, SettledOptions, Step
from panelworks.settings import Settings

logger = logging.getLogger(__name__)

LANCZOS = "lanczos"
"""The model that is none: resampling alone."""
_CAREFUL_TILE = 128


def plan_for(size: tuple[int, int], options: SettledOptions, settings: Settings) -> Plan:
    """The plan for a picture of `size` (width, height).

    `auto` takes the bundled network up to 2x and a 4x network above; a resize to the exact size
    asked for comes last. Extra actions follow the enlargement.

    Raises:
        UnknownName: `unknown_model`, or `no_provider` for an action that nothing performs.
    """
    steps = [_network_step(card, settings) for card in _cards(options, settings)]
    steps.append(_resize_step())
    if options.face:
        steps.append(Step(action="face", provider=provider_for("face").name, model="auto"))
    if options.remove_background:
        steps.append(Step(action="rembg", provider=provider_for("rembg").name, model="auto"))
    width, height = (max(1, round(side * options.scale)) for side in size)
    return Plan(steps=tuple(steps), width=width, height=height)


def alternatives(plan: Plan, settings: Settings) -> tuple[tuple[str, Plan], ...]:
    """What to try, in order, after `plan` has failed: (a name for people, the plan).

    The same network with full precision and smaller tiles, the bundled network, Lanczos.
    """
    networks = [step for step in plan.steps if step.action == "upscale"]
    others = [step for step in plan.steps if step.action != "upscale"]
    tries: list[tuple[str, list[Step]]] = []
    if networks:
        careful = [
            step.model_copy(
                update={"precision": "fp32", "tile": min(_CAREFUL_TILE, step.tile or _CAREFUL_TILE)}
            )
            for step in networks
        ]
        tries.append(("the same network in fp32 with smaller tiles", careful))
        if any(step.model != BUNDLED for step in networks):
            tries.append(("the bundled network", [_network_step(CARDS[BUNDLED], settings)]))
        tries.append(("Lanczos resampling", []))
    return tuple(
        (name, plan.model_copy(update={"steps": (*replacement, *others)})) for name, replacement in tries
    )


def _cards(options: SettledOptions, settings: Settings) -> tuple[ModelCard, ...]:
    if options.model == LANCZOS:
        return ()
    if options.model != "auto":
        return (card_for(options.model),)
    if options.scale <= 2:
        return (CARDS[BUNDLED],)
    if _obtainable(DEFAULT_4X, settings):
        return (CARDS[DEFAULT_4X],)
    return (CARDS[BUNDLED], CARDS[BUNDLED])


@lru_cache(maxsize=8)
def _obtainable(name: str, settings: Settings) -> bool:
    """Are the weights here, or can they be fetched? Asked once in a process."""
    try:
        weights_path(CARDS[name], settings)
    except Transient as error:
        logger.warning("%s The bundled network runs twice instead.", error)
        return False
    return True


def _network_step(card: ModelCard, settings: Settings) -> Step:
    return Step(
        action="upscale",
        provider=provider_for("upscale").name,
        model=card.name,
        digest=card.sha256,
        weights=str(card.path) if card.architecture == "any" else None,
        tile=settings.tile,
    )


def _resize_step() -> Step:
    return Step(action="resize", provider=provider_for("resize").name, model=LANCZOS)
