"""What planning may rely on: the configured choices, and which weights are installed or can be downloaded.

Planning itself reads no disk and no network. `panelworks.steps.catalogue.take_inventory` looks at the machine before
planning; `identify_weights` and `download_weights_of` download what a plan needs after it.
"""

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import yaml
from pydantic import Field, TypeAdapter, ValidationError

from panelworks.domain.cards import CARDS, Action, ModelCard
from panelworks.domain.fields import Frozen
from panelworks.domain.plan import Config, Plan, Step
from panelworks.errors import Misconfigured
from panelworks.models.registry import registered_card, unknown_model
from panelworks.models.weights import download_missing, record_digest
from panelworks.settings import Settings
from panelworks.steps.base import planned_card

AUTO: Final = "auto"
"""Model that the plan chooses: for `upscale` by the enlargement, for `fix_artifacts` by the inventory."""
DRAWN_NETWORKS: Final = ("opencomic-2x", "realesr-animevideov3", "realesrgan_x4plus_anime_6b")
"""Networks for drawn pages, best first: the fallback takes the first that is installed and was not planned."""
ARTIFACT_NETWORK: Final = "opencomic-artifact-removal"
"""The network that `fix_artifacts` prefers where it is available."""
_CHOSEN_BY_PLANS: Final = (ARTIFACT_NETWORK, *DRAWN_NETWORKS)
"""Networks that plans choose without a request naming them. Only these and the configured ones are looked for: the
weights of the others are large, and checking them requires computing their hash."""


class Choice(Frozen):
    """What performs an action: a model or method, optionally by another provider than its own, optionally configured."""

    model: str
    provider: str | None = None
    config: Config = Field(default_factory=dict)


DEFAULTS: Final[dict[Action, Choice]] = {
    "inpaint": Choice(model="telea"),
    "gray": Choice(model="luma"),
    "fix_artifacts": Choice(model=AUTO),
    "descreen": Choice(model="opencomic-descreen"),
    "denoise": Choice(model="realesr-general-x4v3"),
    "levels": Choice(model="paper-and-ink"),
    "upscale": Choice(model=AUTO),
    "enhance": Choice(model="aura-sr-v2"),
    "resize": Choice(model="lanczos"),
    "face": Choice(model="gfpgan-1.4"),
    "colour": Choice(model="levels"),
    "rembg": Choice(model="isnet-anime"),
}
"""What performs each action unless PANELWORKS_PROVIDERS names something else."""


class Inventory(Frozen):
    """What plans are made from. Two machines with equal inventories make equal plans.

    Whether a network is installed or only obtainable changes no plan: its weights are downloaded after planning.
    """

    choices: dict[Action, Choice]
    """What performs each action."""
    default_network: str | None = None
    """The weight file of MODEL_PATH that replaces `auto`; None where there is none."""
    files: dict[str, ModelCard] = Field(default_factory=dict)
    """Cards of the user's own weight files, by the names that requests and the configuration use."""
    installed: frozenset[str] = frozenset()
    """Names of the cards whose weights are on this machine."""
    obtainable: frozenset[str] = frozenset()
    """Names of the cards whose weights can be downloaded; empty when PANELWORKS_OFFLINE is set."""
    digests: dict[str, str] = Field(default_factory=dict)
    """SHA-256 of weights whose publisher states none, by the card's name, once they were downloaded."""
    missing_packages: frozenset[str] = frozenset()
    """Optional packages of providers that are not installed."""
    detectors: tuple[str, ...] | None = None
    """Names of the detectors that PANELWORKS_PROVIDERS chooses; None: all that are registered."""

    def has(self, card: ModelCard) -> bool:
        """Is the network installed or obtainable?"""
        return card.name in self.installed or card.name in self.obtainable

    def card_named(self, model: str) -> ModelCard:
        """The card of a registered network or of a weight file, as `models.registry.card_for` finds it.

        Raises:
            UnknownName: `unknown_model`.
        """
        card = CARDS.get(model.lower()) or self.files.get(model) or registered_card(model)
        if card is None:
            raise unknown_model(model)
        return card if card.sha256 else card.model_copy(update={"sha256": self.digests.get(card.name, "")})


def networks_to_look_for(choices: dict[Action, Choice]) -> Iterator[ModelCard]:
    """The cards of the networks on whose availability a plan may depend."""
    for name in dict.fromkeys((*_CHOSEN_BY_PLANS, choices["descreen"].model)):
        if name in CARDS:
            yield CARDS[name]


def read_choices(settings: Settings) -> dict[Action, Choice]:
    """What performs each action.

    Raises:
        Misconfigured: `bad_providers`, the file cannot be read or names an action that does not exist.
    """
    return {**DEFAULTS, **(_read_choices(settings.providers)[0] if settings.providers else {})}


def read_detectors(settings: Settings) -> tuple[str, ...] | None:
    """The names under `detect` in the file of PANELWORKS_PROVIDERS; None if it has none.

    Raises:
        Misconfigured: `bad_providers`.
    """
    return _read_choices(settings.providers)[1] if settings.providers else None


def identify_weights(plan: Plan, settings: Settings) -> tuple[Plan, tuple[str, ...]]:
    """Complete the digests of a plan: weights without a published hash are downloaded, and their hash is recorded.

    Returns:
        The plan, and a note for each file that was downloaded.

    Raises:
        Transient: `weights_unavailable`. Misconfigured: `weights_missing`.
    """
    notes: list[str] = []

    def digest_of(name: str) -> str:
        notes.extend(download_missing([CARDS[name]], settings))
        return record_digest(CARDS[name], settings)

    steps = []
    for step in plan.steps:
        parts = {
            name: digest_of(name) for name, value in step.config.items() if name in CARDS and value == ""
        }
        update = {"config": {**step.config, **parts}} if parts else {}
        steps.append(
            step.model_copy(
                update={**update, "digest": digest_of(step.model)} if step.digest == "" else update
            )
        )
    return plan.model_copy(update={"steps": tuple(steps)}), tuple(notes)


def download_weights_of(plan: Plan, settings: Settings) -> tuple[str, ...]:
    """Download the weights that the steps of a plan need and this machine lacks; returns a note for each file.

    A failure is not remembered: the next call tries again.

    Raises:
        Transient: `weights_unavailable`. Misconfigured: `weights_tampered`, `weights_changed`.
    """
    return download_missing([card for step in plan.steps for card in _registered_weights(step)], settings)


def _registered_weights(step: Step) -> Iterator[ModelCard]:
    """The cards of the registered weights that a step works with; the user's own files are never downloaded."""
    partner = CARDS.get(str(step.config.get("partner")))
    if partner is not None:
        yield partner
    if step.digest is None or step.weights is not None:
        return
    card = planned_card(step)
    yield card
    yield from (CARDS[name] for name in card.parts)


@lru_cache(maxsize=4)
def _read_choices(path: Path) -> tuple[dict[Action, Choice], tuple[str, ...] | None]:
    """The choices in a file, in which a plain text is the name of a model or method, and the detectors that it names."""
    try:
        content: Any = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
        detectors: Any = None
        if isinstance(content, dict):
            detectors = content.pop("detect", None)
            content = {k: {"model": v} if isinstance(v, str) else v for k, v in content.items()}
        names = [detectors] if isinstance(detectors, str) else detectors
        return (
            TypeAdapter(dict[Action, Choice]).validate_python(content),
            None if names is None else TypeAdapter(tuple[str, ...]).validate_python(names),
        )
    except (OSError, yaml.YAMLError) as error:
        raise Misconfigured(
            "bad_providers", f"PANELWORKS_PROVIDERS: {path} cannot be read ({type(error).__name__})."
        ) from error
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise Misconfigured(
            "bad_providers", f"PANELWORKS_PROVIDERS: {path}: {place}: {first['msg']}."
        ) from error
