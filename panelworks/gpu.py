"""What a page took of a GPU: memory and utilisation, sampled while its networks ran."""

import logging
import sys
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from panelworks.frozen import Frozen
from panelworks.models.memory import forget_gpu_peak, gpu_memory
from panelworks.settings import Settings

logger = logging.getLogger(__name__)

_EVERY: Final = 0.2
"""Seconds between samples; the driver's own window for utilisation is a sixth of a second or more."""
_DRIVER: Final = Path("/dev/nvidiactl")


class GpuUse(Frozen):
    """What a page took of a GPU."""

    name: str
    memory_bytes: int
    """Most that was in use on the card, by whoever."""
    own_memory_bytes: int
    """Most that this process held of it."""
    memory_total_bytes: int
    utilisation: float | None
    """Mean share of the time in which the card computed, by whoever (0 to 1); None where the driver does not tell."""


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
