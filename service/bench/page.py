"""A whole page: from its bytes to the master's, from the shell, and its peak memory."""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

from panelworks import pictures
from panelworks.domain.cards import BUNDLED, CARDS
from panelworks.domain.formats import PRESETS
from panelworks.models.loading import Recipe, load_network
from panelworks.models.tiling import choose_tile_size, run_tiled
from panelworks.page.delivery import make_variants
from panelworks.pictures import Picture
from panelworks.quality import assess
from panelworks.settings import Settings
from service.bench.subjects import Subject, page_of, weights_of

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


def stages(settings: Settings) -> dict[str, float]:
    """Seconds of each part of a 1 Mpx page, by the bundled network, in one process that is warm."""
    data = pictures.encode(page_of(*_MEGAPIXEL), "png")
    network = load_network(Recipe(CARDS[BUNDLED]), settings)
    tile = choose_tile_size(network, settings.tile)
    run_tiled(network, page_of(256, 256).pixels, tile)
    clock = _Clock()
    picture = clock.timed("decode", lambda: pictures.decode(data, settings).picture)
    clock.timed("assess", lambda: assess(picture))
    pixels = clock.timed("network", lambda: run_tiled(network, picture.pixels, tile))
    master = Picture(pixels)
    clock.timed("encode_master", lambda: pictures.encode(master, "png"))
    clock.timed("variants", lambda: list(make_variants(master, PRESETS["comic-page"])))
    codecs = clock.seconds["decode"] + clock.seconds["encode_master"]
    share = codecs / (codecs + clock.seconds["network"])
    return {**clock.seconds, "codec_share_of_bytes_to_master": round(share, 3)}


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


class _Clock:
    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def timed(self, name: str, work: Any) -> Any:
        """Do the work three times; returns the shortest time."""
        times = []
        for _ in range(3):
            began = time.perf_counter()
            result = work()
            times.append(time.perf_counter() - began)
        self.seconds[name] = round(min(times), 3)
        return result
