"""Memory and utilisation of a GPU: measuring both, and waiting for memory that other processes hold."""

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
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

import psutil

from panelworks.domain.fields import Frozen
from panelworks.domain.result import GpuUse
from panelworks.errors import ResourceExhausted
from panelworks.settings import Settings

if TYPE_CHECKING:
    import torch

logger = logging.getLogger(__name__)
Result = TypeVar("Result")


def _torch_on_gpu() -> Any:
    """The module torch if it uses a GPU in this process, else None.

    torch is queried only if it is already imported, because importing it takes seconds.
    """
    torch = sys.modules.get("torch")
    return torch if torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized() else None


def free_device_memory(device: "torch.device") -> int:
    """Free memory in bytes: that of the GPU, or that of this machine for any other device."""
    if device.type == "cuda":
        return int(sys.modules["torch"].cuda.mem_get_info(device)[0])
    return int(psutil.virtual_memory().available)


def peak_gpu_memory() -> int | None:
    """Maximum bytes of GPU memory that torch has held; None if no GPU is in use."""
    torch = _torch_on_gpu()
    if torch is None:
        return None
    return int(torch.cuda.max_memory_allocated())


def reset_peak_gpu_memory() -> None:
    """Restart the measurement of `peak_gpu_memory`."""
    torch = _torch_on_gpu()
    if torch is not None:
        torch.cuda.reset_peak_memory_stats()


_POLL_SECONDS: Final = 1.0
_MIN_OTHERS_SHARE: Final = 0.05
"""Minimum share of the memory that others must hold to wait for them. Less is drivers and contexts."""
_MIN_FREE_GROWTH: Final = 1.1
"""Minimum growth of the free memory, as a factor, before another attempt."""


@dataclass(frozen=True)
class GpuMemory:
    """Memory of a GPU in bytes."""

    total: int
    free: int
    own: int
    """Reserved by this process, whether in use or not."""

    @property
    def others(self) -> int:
        """Approximate memory of other processes."""
        return self.total - self.free - self.own


def read_gpu_memory() -> GpuMemory | None:
    """Memory of the GPU that torch uses in this process; None without one."""
    torch = _torch_on_gpu()
    if torch is None:
        return None
    free, total = torch.cuda.mem_get_info()
    return GpuMemory(total=int(total), free=int(free), own=int(torch.cuda.memory_reserved()))


def run_with_free_memory(
    run: Callable[[], Result],
    patience_seconds: float,
    *,
    free_unused: Callable[[], None],
    read_memory: Callable[[], GpuMemory | None] = read_gpu_memory,
    sleep: Callable[[float], None] = time.sleep,
) -> Result:
    """Run a function that may run out of memory. On failure free memory of this process, then wait for that of others.

    Args:
        run: The function. It may be called several times.
        patience_seconds: Maximum total time to wait for other processes.
        free_unused: Frees unused memory of this process.
        read_memory: Reads the memory of the GPU.
        sleep: Waits for some seconds.

    Raises:
        ResourceExhausted: there is still too little memory, or no other process holds any.
    """
    try:
        return run()
    except ResourceExhausted as error:
        if error.code != "out_of_memory" or read_memory() is None:
            raise
    free_unused()
    waited = 0.0
    while True:
        before = read_memory()
        try:
            return run()
        except ResourceExhausted:
            if (
                before is None
                or before.others < _MIN_OTHERS_SHARE * before.total
                or waited >= patience_seconds
            ):
                raise
        logger.info(
            "waiting for GPU memory: other processes hold %d of %d MiB",
            before.others >> 20,
            before.total >> 20,
        )
        while waited < patience_seconds:
            sleep(_POLL_SECONDS)
            waited += _POLL_SECONDS
            now = read_memory()
            if now is not None and now.free > _MIN_FREE_GROWTH * before.free:
                break


_SAMPLE_SECONDS: Final = 0.2
"""Seconds between samples. The driver averages utilisation over at least a sixth of a second."""
NVIDIA_DRIVER_FILE: Final = Path("/dev/nvidiactl")
"""Exists where the driver of an NVIDIA GPU is loaded."""


class GpuReading(Frozen):
    """State of a GPU at one moment."""

    name: str
    used: int
    """Bytes in use by all processes."""
    total: int
    busy: float | None
    """Utilisation, 0 to 1; None if the driver does not report it."""


def read_gpu() -> GpuReading | None:
    """State of the GPU that torch uses in this process; None if torch uses none."""
    torch = _torch_on_gpu()
    if torch is None:
        return None
    import pynvml

    properties = torch.cuda.get_device_properties(torch.cuda.current_device())
    try:
        _initialize_nvml()
        card = pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{properties.uuid}")
        memory = pynvml.nvmlDeviceGetMemoryInfo(card)
        busy = pynvml.nvmlDeviceGetUtilizationRates(card).gpu / 100
    except pynvml.NVMLError:  # a MIG instance, or a driver that does not report it
        free, total = torch.cuda.mem_get_info()
        return GpuReading(name=properties.name, used=total - free, total=total, busy=None)
    return GpuReading(name=properties.name, used=int(memory.used), total=int(memory.total), busy=busy)


@lru_cache(maxsize=1)
def _initialize_nvml() -> None:
    import pynvml

    pynvml.nvmlInit()


class GpuSampler(AbstractContextManager["GpuSampler"]):
    """Samples the GPU in a thread while a block runs."""

    def __init__(self, settings: Settings, read: Callable[[], GpuReading | None] = read_gpu) -> None:
        """Nothing is sampled if networks run on a CPU."""
        self._read = read
        self._is_enabled = settings.device in ("auto", "cuda") and (
            read is not read_gpu or NVIDIA_DRIVER_FILE.exists()
        )
        self._readings: list[GpuReading] = []
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def use(self) -> GpuUse | None:
        """Summary of the samples; None if no GPU was used."""
        if not self._readings:
            return None
        busy = [reading.busy for reading in self._readings if reading.busy is not None]
        return GpuUse(
            name=self._readings[-1].name,
            memory_bytes=max(reading.used for reading in self._readings),
            own_memory_bytes=peak_gpu_memory() or 0,
            memory_total_bytes=self._readings[-1].total,
            utilisation=round(sum(busy) / len(busy), 3) if busy else None,
        )

    def __enter__(self) -> Self:
        if self._is_enabled:
            reset_peak_gpu_memory()
            self._thread = threading.Thread(target=self._sample, name="gpu-watch", daemon=True)
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopped.set()
        if self._thread is not None:
            self._thread.join()
            self._add_sample()  # the page may have been faster than the first sample

    def _sample(self) -> None:
        while not self._stopped.wait(_SAMPLE_SECONDS):
            self._add_sample()

    def _add_sample(self) -> None:
        try:
            reading = self._read()
        except Exception as error:  # noqa: BLE001 - a failed measurement must not fail the page
            logger.debug("GPU is not sampled: %s", type(error).__name__)
            return
        if reading is not None:
            self._readings.append(reading)
