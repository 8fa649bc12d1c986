"""Memory and time of animations: 3 and 300 frames of a page, enhanced twofold with the bundled network.

python -m benchmarks.animations [--size 640x480] [--frames 3 --frames 300] [--kind moving|blink]

Each number of frames runs in a separate process, because the peak of a process never falls.
"""

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from panelworks.domain.options import EnhanceOptions
from panelworks.domain.request import PageRequest
from panelworks.page.direct import enhance_directly
from panelworks.page.engine import Engine
from panelworks.pictures import Picture, decode, resize
from panelworks.pictures.animation_files import WebpWriter
from panelworks.settings import get_settings
from panelworks.sources.fetch import inline

_PAGE = Path(__file__).parents[1] / "examples" / "pages"
_MIB = 2**20


def _write_source(size: tuple[int, int], count: int, kind: str) -> bytes:
    """An animation of a sample page: a disc that moves over it, or two frames that alternate."""
    page = decode(sorted(_PAGE.glob("*.png"))[0].read_bytes(), get_settings()).picture
    page = Picture(resize(page, size).rgb())
    writer = WebpWriter(0)
    rows, columns = np.ogrid[: size[1], : size[0]]
    for number in range(count):
        step = number % 2 if kind == "blink" else number
        left, top = (40 + 7 * step) % size[0], (60 + 3 * step) % size[1]
        pixels = page.pixels.copy()
        pixels[(columns - left) ** 2 + (rows - top) ** 2 < 400] = (200, 40, 60)
        writer.add(Picture(pixels), 40)
    return writer.finish()


def run(size: tuple[int, int], count: int, kind: str) -> None:
    """Enhance one animation and print time and memory."""
    data = _write_source(size, count, kind)
    settings = get_settings().model_copy(update={"max_frames": count, "upscale_scale": 2.0})
    with tempfile.TemporaryDirectory() as folder:
        settings = settings.model_copy(update={"cache_dir": Path(folder) / "cache"})
        engine = Engine(settings)
        before, began = _peak(), time.monotonic()
        result = enhance_directly(
            PageRequest(source=inline(data), out=folder, options=EnhanceOptions(), job_id=f"{count}"), engine
        )
    if result.master is None:
        raise SystemExit(f"not enhanced: {result.error}")
    print(
        f"{size[0]} x {size[1]}, {count} frames, {kind}: {time.monotonic() - began:.1f} s, peak {_peak()} MiB"
        f" ({before} before), source {len(data) / _MIB:.1f} MiB, master {result.master.bytes / _MIB:.1f} MiB,"
        f" {result.master.frames} frames, {result.route}, seconds {result.seconds}",
        flush=True,
    )


def _peak() -> int:
    """Peak memory of this process in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", default="640x480", help="WIDTHxHEIGHT")
    parser.add_argument("--frames", action="append", type=int, help="may be repeated")
    parser.add_argument("--kind", choices=("moving", "blink"), default="moving")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    width, height = (int(side) for side in args.size.split("x"))
    if args.one:
        run((width, height), args.frames[0], args.kind)
        return
    for count in args.frames or [3, 300]:
        command = [sys.executable, "-m", "benchmarks.animations", "--one", "--size", args.size]
        subprocess.run([*command, "--frames", str(count), "--kind", args.kind], check=True)  # noqa: S603 - this module


if __name__ == "__main__":
    main()
