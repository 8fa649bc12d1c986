"""What every provider offers."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Protocol

from panelworks.domain.cards import Action, ModelCard
from panelworks.domain.plan import Step
from panelworks.errors import Misconfigured
from panelworks.models.registry import card_for
from panelworks.pictures import Picture
from panelworks.progress import Progress, ignore_progress
from panelworks.settings import Settings


def unheard(note: str) -> None:
    """Nobody wants to know."""


@dataclass(frozen=True)
class Work:
    """What a provider may need beside the picture and its step."""

    settings: Settings
    size: tuple[int, int]
    """(width, height) that the whole plan leads to."""
    progress: Progress = ignore_progress
    """Hears of this step's finished share."""
    note: Callable[[str], Any] = unheard
    """Takes what a person should know of what was done or left."""


class Provider(Protocol):
    """Code that performs actions."""

    @property
    def name(self) -> str:
        """Name in plans and results."""
        ...

    @property
    def methods(self) -> Mapping[str, frozenset[Action]]:
        """What it can do without weights: the actions of each method, by its name."""
        ...

    @property
    def packages(self) -> tuple[str, ...]:
        """Importable names of optional packages that it needs."""
        ...

    def process(self, picture: Picture, step: Step, work: Work) -> Picture:
        """The picture after the step.

        Raises:
            Invalid: the result is no picture.
            ResourceExhausted: too little memory, even for the smallest tiles.
            Misconfigured: the weights are not what was planned with.
        """
        ...


class Weighted:
    """Base of providers that do nothing without weights and need no optional package."""

    methods: Mapping[str, frozenset[Action]] = MappingProxyType({})
    packages: tuple[str, ...] = ()


def planned_card(step: Step) -> ModelCard:
    """The card of a step's model, as it was when the step was planned.

    Raises:
        Misconfigured: `weights_changed`, the file is another one now.
    """
    card = card_for(step.weights or step.model)
    if card.sha256 and card.sha256 != step.digest:
        raise Misconfigured("weights_changed", f"The weights of {step.model} changed since the work began.")
    return card.model_copy(update={"sha256": step.digest})
