"""Sampling of a GPU. The card and its driver are simulated, so that the tests run without one."""

import sys
import threading
import time
from types import SimpleNamespace
from typing import Any

import pynvml
import pytest

from panelworks.domain.result import GpuUse
from panelworks.models import gpu
from panelworks.models.gpu import GpuReading, GpuSampler, read_gpu
from panelworks.settings import Settings

GIB = 2**30
ON_GPU = Settings(device="cuda")


def readings(*shares: float | None) -> Any:
    """A GPU whose memory follows its utilisation. The last reading repeats."""
    left = list(shares)

    def read() -> GpuReading:
        busy = left.pop(0) if len(left) > 1 else left[0]
        return GpuReading(name="Card", used=int((busy or 0.5) * 8 * GIB), total=16 * GIB, busy=busy)

    return read


def test_the_summary_has_maximum_memory_and_mean_utilisation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "_SAMPLE_SECONDS", 0.01)
    read, seen = readings(0.2, 1.0, 0.6, 0.6), threading.Event()
    count = iter(range(1000))

    def counted() -> GpuReading:
        if next(count) >= 3:
            seen.set()
        reading: GpuReading = read()
        return reading

    with GpuSampler(ON_GPU, counted) as watch:
        assert seen.wait(10)
    use = watch.use
    assert use is not None and use.utilisation is not None
    assert (use.name, use.memory_bytes, use.memory_total_bytes) == ("Card", 8 * GIB, 16 * GIB)
    assert use.utilisation == pytest.approx(0.6, abs=0.01)


def test_a_fast_page_is_sampled_once() -> None:
    with GpuSampler(ON_GPU, readings(0.4)) as watch:
        pass
    assert watch.use is not None and watch.use.utilisation == 0.4


def test_a_driver_without_utilisation_still_reports_memory() -> None:
    with GpuSampler(ON_GPU, readings(None)) as watch:
        pass
    assert watch.use is not None
    assert (watch.use.utilisation, watch.use.memory_bytes) == (None, 4 * GIB)


def test_nothing_is_sampled_for_the_cpu_or_without_a_card() -> None:
    before = threading.active_count()
    with GpuSampler(Settings(device="cpu"), readings(0.4)) as watch:
        assert threading.active_count() == before
    assert watch.use is None
    with GpuSampler(ON_GPU, lambda: None) as watch:
        pass
    assert watch.use is None


def test_a_failed_measurement_does_not_fail_the_page() -> None:
    def broken() -> GpuReading:
        raise OSError("the driver is gone")

    with GpuSampler(ON_GPU, broken) as watch:
        time.sleep(0)
    assert watch.use is None


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Simulate a torch that uses a GPU, and a driver library that finds it by its UUID."""
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
    gpu._initialize_nvml.cache_clear()
    return asked


def test_the_driver_is_queried_for_the_gpu_that_torch_uses(card: SimpleNamespace) -> None:
    assert read_gpu() == GpuReading(name="Card", used=7 * GIB, total=16 * GIB, busy=0.83)
    assert card.uuids == ["GPU-12-34"]


def test_a_mig_instance_is_read_with_torch(card: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(uuid: str) -> str:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_FOUND)

    monkeypatch.setattr(pynvml, "nvmlDeviceGetHandleByUUID", unknown)
    assert read_gpu() == GpuReading(name="Card", used=6 * GIB, total=16 * GIB, busy=None)


def test_without_torch_there_is_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    assert read_gpu() is None


def test_gpu_use_is_serialised() -> None:
    use = GpuUse(name="Card", memory_bytes=1, own_memory_bytes=1, memory_total_bytes=2, utilisation=0.5)
    assert GpuUse.model_validate_json(use.model_dump_json()) == use
