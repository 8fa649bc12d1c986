"""What a page took of a GPU. The card and its driver are played: these machines have none."""

import sys
import threading
import time
from types import SimpleNamespace
from typing import Any

import pynvml
import pytest

from panelworks.domain.result import GpuUse
from panelworks.models import gpu
from panelworks.models.gpu import GpuReading, GpuWatch, read_gpu
from panelworks.settings import Settings

GIB = 2**30
ON_GPU = Settings(device="cuda")


def readings(*shares: float | None) -> Any:
    """A card that is the busier the more it holds; the last reading for ever."""
    left = list(shares)

    def read() -> GpuReading:
        busy = left.pop(0) if len(left) > 1 else left[0]
        return GpuReading(name="Card", used=int((busy or 0.5) * 8 * GIB), total=16 * GIB, busy=busy)

    return read


def test_the_most_memory_and_the_mean_of_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "_EVERY", 0.01)
    read, seen = readings(0.2, 1.0, 0.6, 0.6), threading.Event()
    count = iter(range(1000))

    def counted() -> GpuReading:
        if next(count) >= 3:
            seen.set()
        reading: GpuReading = read()
        return reading

    with GpuWatch(ON_GPU, counted) as watch:
        assert seen.wait(10)
    use = watch.use
    assert use is not None and use.utilisation is not None
    assert (use.name, use.memory_bytes, use.memory_total_bytes) == ("Card", 8 * GIB, 16 * GIB)
    assert use.utilisation == pytest.approx(0.6, abs=0.01)


def test_a_fast_page_is_sampled_once_all_the_same() -> None:
    with GpuWatch(ON_GPU, readings(0.4)) as watch:
        pass
    assert watch.use is not None and watch.use.utilisation == 0.4


def test_a_driver_that_does_not_tell_leaves_the_memory() -> None:
    with GpuWatch(ON_GPU, readings(None)) as watch:
        pass
    assert watch.use is not None
    assert (watch.use.utilisation, watch.use.memory_bytes) == (None, 4 * GIB)


def test_nothing_is_sampled_for_the_cpu_or_without_a_card() -> None:
    before = threading.active_count()
    with GpuWatch(Settings(device="cpu"), readings(0.4)) as watch:
        assert threading.active_count() == before
    assert watch.use is None
    with GpuWatch(ON_GPU, lambda: None) as watch:
        pass
    assert watch.use is None


def test_what_cannot_be_read_costs_no_page() -> None:
    def broken() -> GpuReading:
        raise OSError("the driver is gone")

    with GpuWatch(ON_GPU, broken) as watch:
        time.sleep(0)
    assert watch.use is None


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A torch that uses a card, and the driver's library that knows it by its UUID."""
    asked = SimpleNamespace(uuids=[])
    cuda = SimpleNamespace(
        is_available=lambda: True,
        is_initialized=lambda: True,
        current_device=lambda: 0,
        get_device_properties=lambda device: SimpleNamespace(name="Card", uuid="12-34"),
        mem_get_info=lambda: (10 * GIB, 16 * GIB),
    )
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=cuda))

    def by_uuid(uuid: str) -> str:
        asked.uuids.append(uuid)
        return "handle"

    monkeypatch.setattr(pynvml, "nvmlInit", lambda: None)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetHandleByUUID", by_uuid)
    monkeypatch.setattr(
        pynvml, "nvmlDeviceGetMemoryInfo", lambda handle: SimpleNamespace(used=7 * GIB, total=16 * GIB)
    )
    monkeypatch.setattr(
        pynvml, "nvmlDeviceGetUtilizationRates", lambda handle: SimpleNamespace(gpu=83, memory=20)
    )
    gpu._open_driver.cache_clear()
    return asked


def test_the_driver_is_asked_for_the_card_that_torch_uses(card: SimpleNamespace) -> None:
    assert read_gpu() == GpuReading(name="Card", used=7 * GIB, total=16 * GIB, busy=0.83)
    assert card.uuids == ["GPU-12-34"]


def test_a_part_of_a_card_is_told_by_torch_alone(
    card: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unknown(uuid: str) -> str:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_FOUND)

    monkeypatch.setattr(pynvml, "nvmlDeviceGetHandleByUUID", unknown)
    assert read_gpu() == GpuReading(name="Card", used=6 * GIB, total=16 * GIB, busy=None)


def test_without_torch_there_is_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    assert read_gpu() is None


def test_it_is_part_of_the_result() -> None:
    use = GpuUse(name="Card", memory_bytes=1, own_memory_bytes=1, memory_total_bytes=2, utilisation=0.5)
    assert GpuUse.model_validate_json(use.model_dump_json()) == use
