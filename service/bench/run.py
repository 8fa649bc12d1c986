"""All figures, as JSON or as a table, and the machine that they were measured on."""

import os
import platform
import tempfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil
from rich.console import Console
from rich.table import Table

from panelworks.cli.output import print_json
from panelworks.settings import get_settings
from service.bench import page, speed

_PACKAGES = ("torch", "openvino", "spandrel", "numpy", "pillow", "realesrgan")
_FEATURES = ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "amx_int8")


def describe_machine() -> dict[str, Any]:
    """Processor, memory, accelerator and versions."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "features": _features(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "accelerator": _accelerator(),
        "system": platform.platform(terse=True),
        "python": platform.python_version(),
        "versions": {name: found for name in _PACKAGES if (found := _version(name))},
    }


def _cpuinfo() -> dict[str, str]:
    path = Path("/proc/cpuinfo")
    if not path.is_file():
        return {}
    pairs = (line.partition(":") for line in path.read_text(encoding="utf-8").splitlines())
    return {name.strip(): value.strip() for name, _, value in pairs}


def _processor() -> str:
    return _cpuinfo().get("model name") or platform.processor() or platform.machine()


def _features() -> list[str]:
    flags = _cpuinfo().get("flags", "").split()
    return [feature for feature in _FEATURES if feature in flags]


def _accelerator() -> str | None:
    import torch

    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return "mps" if torch.backends.mps.is_available() else None


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def run_bench(*, runs: int, json: bool, quick: bool) -> None:
    """Measure and print. Progress goes to standard error."""
    settings = get_settings()
    progress = Console(stderr=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        progress.print("networks ...")
        report: dict[str, Any] = {
            "machine": describe_machine(),
            "networks": speed.compare_all(settings, folder, runs),
        }
        progress.print("pages ...")
        report["pages"] = page.measure_pages(settings)
        report["cold_start_seconds"] = page.cold_start()
        if not quick:
            progress.print("peak memory on 4 megapixels ...")
            report["memory"] = page.peak_memory(settings, folder)
    if json:
        print_json(report)
    else:
        _show(report)


def _show(report: dict[str, Any]) -> None:
    console, described = Console(), report["machine"]
    console.print(
        f"{described['processor']}, {described['cores']} cores ({', '.join(described['features'])}),"
        f" {described['accelerator'] or 'no accelerator'}"
    )
    table = Table("network", "weights", "page", "runs on", "seconds", "realesrgan", "faster", "dB to fp32")
    for row in report["networks"]:
        table.add_row(
            row["network"],
            row["weights"],
            f"{row['side']} x {row['side']}",
            f"{row['runtime']} {row['precision']}",
            f"{row['seconds']:.2f}",
            f"{row['realesrgan_seconds']:.2f}" if "realesrgan_seconds" in row else "not installed",
            f"{row['times_faster']:.1f}x" if "times_faster" in row else "",
            f"{row['agreement_db']:.1f}",
        )
    console.print(table)
    console.print(_table_of_pages(report["pages"]))
    console.print(f"cold start, shell to delivered page: {report['cold_start_seconds']} s")
    if "memory" in report:
        console.print(
            f"4 Mpx page, 4x: {', '.join(f'{name} {value}' for name, value in report['memory'].items())}"
        )


def _table_of_pages(pages: list[dict[str, Any]]) -> Table:
    table = Table(
        "page",
        *pages[-1]["stages"],
        "network",
        title="Bundled network: wall seconds (CPU seconds) of the stages",
    )
    for row in pages:
        cells = [row["stages"].get(name) for name in pages[-1]["stages"]] + [row["network"]]
        table.add_row(
            f"{row['megapixels']} Mpx", *(f"{cell[0]:.2f} ({cell[1]:.2f})" if cell else "" for cell in cells)
        )
    return table
