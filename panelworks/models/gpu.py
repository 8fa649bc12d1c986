"""Memory and utilisation of a GPU: what this process holds, waiting for memory of others, sampling while networks run."""

import logging
import sys
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import Final, Self, TypeVar

from panelworks.domain.fields import Frozen
from panelworks.domain.result import GpuUse
from panelworks.errors import ResourceExhausted
from panelworks.settings import Settings


def gpu_memory() -> int | None:
    """Most bytes of GPU memory that torch held so far; None where no GPU was used.

    torch is asked only if it was imported: importing it to learn that it was not used costs seconds.
    """
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available() or not torch.cuda.is_initialized():
        return None
    return int(torch.cuda.max_memory_allocated())


def forget_gpu_peak() -> None:
    """Let `gpu_memory` count from now on."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.reset_peak_memory_stats()


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


_EVERY: Final = 0.2
"""Seconds between samples; the driver's own window for utilisation is a sixth of a second or more."""
_DRIVER: Final = Path("/dev/nvidiactl")


class GpuReading(Frozen):
    """A GPU at a moment."""

    name: str
    used: int
    """Bytes of its memory, by whoever."""
    total: int
    busy: float | None
    """Share of the last moment in which it computed (0 to 1)."""


def read_gpu() -> GpuReading | None:
    """The GPU that torch uses in this process; None before it does, or without one.

    torch is asked only if it was imported: importing it to learn that it was not used costs seconds.
    """
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available() or not torch.cuda.is_initialized():
        return None
    import pynvml

    properties = torch.cuda.get_device_properties(torch.cuda.current_device())
    try:
        _open_driver()
        card = pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{properties.uuid}")
        memory = pynvml.nvmlDeviceGetMemoryInfo(card)
        busy = pynvml.nvmlDeviceGetUtilizationRates(card).gpu / 100
    except pynvml.NVMLError:  # a part of a card (MIG), or a driver that does not tell
        free, total = torch.cuda.mem_get_info()
        return GpuReading(name=properties.name, used=total - free, total=total, busy=None)
    return GpuReading(name=properties.name, used=int(memory.used), total=int(memory.total), busy=busy)


@lru_cache(maxsize=1)
def _open_driver() -> None:
    import pynvml

    pynvml.nvmlInit()


class GpuWatch(AbstractContextManager["GpuWatch"]):
    """Samples the GPU, from a thread, while a block runs."""

    def __init__(self, settings: Settings, read: Callable[[], GpuReading | None] = read_gpu) -> None:
        """Nothing is sampled where networks run on a CPU."""
        self._read = read
        self._wanted = settings.device in ("auto", "cuda") and (read is not read_gpu or _DRIVER.exists())
        self._readings: list[GpuReading] = []
        self._over = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def use(self) -> GpuUse | None:
        """What was sampled; None where no GPU was used."""
        if not self._readings:
            return None
        busy = [one.busy for one in self._readings if one.busy is not None]
        return GpuUse(
            name=self._readings[-1].name,
            memory_bytes=max(one.used for one in self._readings),
            own_memory_bytes=gpu_memory() or 0,
            memory_total_bytes=self._readings[-1].total,
            utilisation=round(sum(busy) / len(busy), 3) if busy else None,
        )

    def __enter__(self) -> Self:
        if self._wanted:
            forget_gpu_peak()
            self._thread = threading.Thread(target=self._sample, name="gpu-watch", daemon=True)
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        if self._thread is not None:
            self._thread.join()
            self._take()  # a page that was faster than the first sample

    def _sample(self) -> None:
        while not self._over.wait(_EVERY):
            self._take()

    def _take(self) -> None:
        try:
            reading = self._read()
        except Exception as error:  # noqa: BLE001 - what cannot be measured must not cost the page
            logger.debug("the GPU is not read (%s)", type(error).__name__)
            return
        if reading is not None:
            self._readings.append(reading)
