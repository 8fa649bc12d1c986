"""Waiting for memory of a GPU that others hold."""

import logging
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeVar

from panelworks.errors import ResourceExhausted

logger = logging.getLogger(__name__)

Result = TypeVar("Result")

_LOOK_SECONDS: Final = 1.0
_OTHERS: Final = 0.05
"""Share of the card that others must hold for waiting to make sense: less is drivers and contexts."""
_MORE: Final = 1.1
"""What was free must have grown by so much before it is tried again."""


@dataclass(frozen=True)
class CardMemory:
    """Bytes of a GPU's memory."""

    total: int
    free: int
    own: int
    """Held by this process, in use or not."""

    @property
    def others(self) -> int:
        """Held by other processes, about."""
        return self.total - self.free - self.own


def card_memory() -> CardMemory | None:
    """That of the GPU which torch uses in this process; None without one."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available() or not torch.cuda.is_initialized():
        return None
    free, total = torch.cuda.mem_get_info()
    return CardMemory(total=int(total), free=int(free), own=int(torch.cuda.memory_reserved()))


def with_room(
    run: Callable[[], Result],
    patience: float,
    *,
    make_room: Callable[[], None],
    memory: Callable[[], CardMemory | None] = card_memory,
    sleep: Callable[[float], None] = time.sleep,
) -> Result:
    """Run something that may find too little memory: then free our own, then wait for that of others, and run it again.

    Args:
        run: What to run; it may be run several times.
        patience: Seconds to wait for others in all.
        make_room: Frees what this process holds and does not use.
        memory: How the card stands.
        sleep: Waits.

    Raises:
        ResourceExhausted: there is still too little, or nobody else holds any.
    """
    try:
        return run()
    except ResourceExhausted as error:
        if error.code != "out_of_memory" or memory() is None:
            raise
    make_room()
    waited = 0.0
    while True:
        before = memory()
        try:
            return run()
        except ResourceExhausted:
            if before is None or before.others < _OTHERS * before.total or waited >= patience:
                raise
        logger.info("others hold %d of %d MiB of the GPU: waiting", before.others >> 20, before.total >> 20)
        while waited < patience:
            sleep(_LOOK_SECONDS)
            waited += _LOOK_SECONDS
            now = memory()
            if now is not None and now.free > _MORE * before.free:
                break
