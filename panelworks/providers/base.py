"""What every provider offers."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from panelworks.pictures import Picture
from panelworks.records import Action, Step
from panelworks.settings import Settings


def _silent(_: float) -> None:
    """Progress that nobody watches."""


@dataclass(frozen=True)
class Work:
    """What a provider may need beside the picture and its step."""

    settings: Settings
    size: tuple[int, int]
    """(width, height) that the whole plan leads to."""
    progress: Callable[[float], None] = _silent
    """Called with the finished share of this step, in [0, 1]."""


class Provider(Protocol):
    """Code that performs actions."""

    @property
    def name(self) -> str:
        """Name in plans and results."""
        ...

    @property
    def actions(self) -> frozenset[Action]:
        """What it can do."""
        ...

    def process(self, picture: Picture, step: Step, work: Work) -> Picture:
        """The picture after the step.

        Raises:
            Invalid: the result is no picture.
            ResourceExhausted: too little memory, even for the smallest tiles.
        """
        ...
