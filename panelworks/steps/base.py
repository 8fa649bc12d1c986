"""The interface of providers."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Protocol, TypeVar

from panelworks.domain.cards import Action, ModelCard
from panelworks.domain.plan import Step
from panelworks.errors import Misconfigured
from panelworks.models.registry import card_for
from panelworks.models.tile_cache import TileCache
from panelworks.pictures import Picture
from panelworks.progress import Progress, ignore_progress
from panelworks.settings import Settings

Measured = TypeVar("Measured")


def ignore_note(note: str) -> None:
    """Discard a note. The default where no caller needs it."""


@dataclass(frozen=True)
class FrameMemory:
    """What a step remembers from one frame of an animation to the next."""

    tiles: TileCache
    measured: dict[str, Any] = field(default_factory=dict)
    """What the step measured on the first frame: all frames are treated alike."""


@dataclass(frozen=True)
class Work:
    """Context of a step for its provider."""

    settings: Settings
    size: tuple[int, int]
    """(width, height) of the plan's result."""
    progress: Progress = ignore_progress
    """Called with the finished share of this step."""
    note: Callable[[str], Any] = ignore_note
    """Called with notes for people on what the step did or skipped."""
    memory: FrameMemory | None = None
    """Of an animation; None for a still picture."""

    def measure(self, name: str, call: Callable[[], Measured]) -> Measured:
        """What `call` measures on the picture; for an animation what it measured on the first frame."""
        if self.memory is None:
            return call()
        if name not in self.memory.measured:
            self.memory.measured[name] = call()
        found: Measured = self.memory.measured[name]
        return found


class Provider(Protocol):
    """Code that performs actions."""

    @property
    def name(self) -> str:
        """Name in plans and results."""
        ...

    @property
    def methods(self) -> Mapping[str, frozenset[Action]]:
        """Methods without weights: the actions of each method, by its name."""
        ...

    @property
    def packages(self) -> tuple[str, ...]:
        """Import names of the optional packages that it needs."""
        ...

    def process(self, picture: Picture, step: Step, work: Work) -> Picture:
        """Apply a step to a picture.

        Raises:
            Invalid: the result is not a valid picture.
            ResourceExhausted: too little memory, even with the smallest tiles.
            Misconfigured: the weights changed after planning.
        """
        ...


class WeightsProvider:
    """Base of providers that always use weights and need no optional package."""

    methods: Mapping[str, frozenset[Action]] = MappingProxyType({})
    packages: tuple[str, ...] = ()


def planned_card(step: Step) -> ModelCard:
    """Find the card of a step's model with the hash that the step was planned with.

    Raises:
        Misconfigured: `weights_changed`, the file changed since then.
    """
    card = card_for(step.weights or step.model)
    if card.sha256 and card.sha256 != step.digest:
        raise Misconfigured("weights_changed", f"The weights of {step.model} changed after planning.")
    return card.model_copy(update={"sha256": step.digest})
