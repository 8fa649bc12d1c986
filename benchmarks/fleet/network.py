"""The flow of a book in workers of the benchmark. Only the network is replaced: it takes a fixed time."""

import threading
import time
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from flows.enhance_book import enhance_book
from panelworks.domain.cards import Action
from panelworks.domain.plan import Step
from panelworks.pictures import Picture, resize
from panelworks.steps.base import Work
from panelworks.steps.catalogue import PROVIDERS

__all__ = ["NAME", "enhance_book"]

NAME: Final = "stand-in"
_SCALE: Final = 2
_DEVICE: Final = threading.Lock()


class StandIn:
    """A device that processes one page at a time. Each takes the seconds in its configuration."""

    name = NAME
    packages: tuple[str, ...] = ()
    methods: Mapping[str, frozenset[Action]] = MappingProxyType({NAME: frozenset({"upscale"})})

    def process(self, picture: Picture, step: Step, work: Work) -> Picture:
        with _DEVICE:
            time.sleep(float(step.config["seconds"]))
        return resize(picture, (picture.width * _SCALE, picture.height * _SCALE))


PROVIDERS[NAME] = StandIn()
