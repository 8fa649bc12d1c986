"""What every provider offers."""

from dataclasses import dataclass
from typing import Protocol

from panelworks.pictures import Picture
from panelworks.progress import Progress, silent
from panelworks.records import Action, Step
from panelworks.settings import Settings


@dataclass(frozen=True)
class Work:
    """What a provider may need beside the picture and its step."""

    settings: Settings
    size: tuple[int, int]
    """(width, height) that the whole plan leads to."""
    progress: Progress = silent
    """Hears of this step's finished share."""


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
