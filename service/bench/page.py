"""A whole page: by stage, from the shell, and its peak memory."""

import inspect
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final, cast

from panelworks import pictures
from panelworks.domain.cards import BUNDLED, CARDS
from panelworks.domain.request import PageRequest
from panelworks.models.loading import Recipe, load_network
from panelworks.models.tiling import choose_tile_size, run_tiled
from panelworks.page.direct import DirectStages, complete
from panelworks.page.engine import Engine
from panelworks.page.pipeline import Stages, enhance_page
from panelworks.settings import Settings
from panelworks.sources.fetch import inline
from service.bench.subjects import Subject, page_of, weights_of

PAGE_SIZES: Final = ((384, 512), (1000, 1000), (1530, 2160))
"""Widths and heights of the measured pages: 0.2, 1.0 and 3.3 megapixels."""
_RUNS: Final = 3
_MEGAPIXEL: Final = (1000, 1000)
_FOUR: Final = (2000, 2000)
_MEMORY_SUBJECT: Final = Subject("compact, 16 convolutions", "realesr-animevideov3", 0, 16)

_MEASURED: Final = """
import json, resource, sys
from pathlib import Path
sys.argv = [""]
from panelworks.settings import get_settings
from panelworks.models.registry import card_for_file
from service.bench.subjects import page_of
settings, card, pixels = get_settings(), card_for_file(Path({path!r})), page_of(*{size!r}).pixels
base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
if {ours!r}:
    from panelworks.models.loading import Recipe, load_network
    from panelworks.models.tiling import choose_tile_size
    from panelworks.models.tiling import run_tiled
    network = load_network(Recipe(card), settings)
    out = run_tiled(network, pixels, choose_tile_size(network, None))
else:
    from panelworks.models.upstream import enlarge, real_esrganer
    out = enlarge(real_esrganer(card, settings, 0), pixels)
print(json.dumps([resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, out.nbytes]))
"""


class MeasuredStages:
    """The stages of direct mode; `spent` has the wall seconds and the CPU seconds of each."""

    def __init__(self, stages: DirectStages) -> None:
        self._stages = stages
        self.spent: dict[str, list[float]] = {}

    def __getattr__(self, name: str) -> Any:
        stage = getattr(self._stages, name)
        if not inspect.iscoroutinefunction(stage):
            return stage

        async def measured(*given: Any, **named: Any) -> Any:
            wall, cpu = time.perf_counter(), time.process_time()
            try:
                return await stage(*given, **named)
            finally:
                self.spent[name] = [time.perf_counter() - wall, time.process_time() - cpu]

        return measured


def measure_pages(settings: Settings) -> list[dict[str, Any]]:
    """Wall and CPU seconds of the stages of pages of several sizes, in one process that is warm.

    A page is what a user gets: from the bytes of its file to delivered variants, by the bundled network. The fastest
    of three runs counts. "network" is a part of "enhance": inference and tiling.
    """
    with tempfile.TemporaryDirectory() as folder:
        settings = settings.model_copy(update={"cache_dir": Path(folder) / "cache"})
        engine = Engine(settings)
        network = load_network(Recipe(CARDS[BUNDLED]), settings)
        tile = choose_tile_size(network, settings.tile)
        found = []
        for size in PAGE_SIZES:
            picture = page_of(*size)
            request = PageRequest(
                source=inline(pictures.encode(picture, "png")),
                out=f"{folder}/out",
                job_id="bench",
                force=True,
            )
            runs = [_measure_page(request, engine) for _ in range(1 + _RUNS)][1:]
            wall, cpu = time.perf_counter(), time.process_time()
            run_tiled(network, picture.pixels, tile)
            part = [time.perf_counter() - wall, time.process_time() - cpu]
            fastest = min(runs, key=lambda stages: stages["total"][0])
            stages = {name: [round(value, 3) for value in pair] for name, pair in fastest.items()}
            megapixels = round(size[0] * size[1] / 1e6, 1)
            found.append(
                {
                    "megapixels": megapixels,
                    "size": size,
                    "stages": stages,
                    "network": [round(value, 3) for value in part],
                }
            )
        return found


def _measure_page(request: PageRequest, engine: Engine) -> dict[str, list[float]]:
    stages = MeasuredStages(DirectStages(engine))
    wall, cpu = time.perf_counter(), time.process_time()
    complete(enhance_page(request, cast(Stages, stages)))
    return {**stages.spent, "total": [time.perf_counter() - wall, time.process_time() - cpu]}


def cold_start() -> float:
    """Seconds from the shell to a delivered 1 Mpx page, by the bundled network, without a server."""
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "page.png"
        page.write_bytes(pictures.encode(page_of(*_MEGAPIXEL), "png"))
        command = [sys.executable, "-m", "panelworks", "enhance", str(page), "--out", f"{folder}/out"]
        environment = {"PANELWORKS_CACHE_DIR": f"{folder}/cache"}
        began = time.perf_counter()
        _run([*command, "--direct"], environment)
        return round(time.perf_counter() - began, 2)


def peak_memory(settings: Settings, folder: Path) -> dict[str, Any]:
    """Peak MiB of a process that enlarges a 4 Mpx page four times, ours and the package's."""
    card, _ = weights_of(_MEMORY_SUBJECT, settings, folder)
    found: dict[str, Any] = {}
    for name, ours in (("ours_mib", True), ("realesrgan_mib", False)):
        program = _MEASURED.format(path=str(card.path), size=_FOUR, ours=ours)
        try:
            peak, result = json.loads(_run([sys.executable, "-c", program], {}).splitlines()[-1])
        except subprocess.CalledProcessError:
            continue
        found[name] = round(peak / 1024)
        found["pictures_mib"] = round(1.0625 * result / 2**20)
    if "realesrgan_mib" in found:
        found["share"] = round(found["ours_mib"] / found["realesrgan_mib"], 2)
    return found


def _run(command: list[str], environment: dict[str, str]) -> str:
    import os

    done = subprocess.run(  # noqa: S603 - our own command line
        command, env={**os.environ, **environment}, capture_output=True, text=True, check=True
    )
    return done.stdout
