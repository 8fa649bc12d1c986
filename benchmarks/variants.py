"""The two variants of a master, beside the library sharp (libvips): decoding, resizing and encoding.

    npm install --prefix /tmp/sharp sharp
    python -m benchmarks.variants --sharp /tmp/sharp [--master FILE]

Both read the same file and make the variants of the preset `comic-page`; the runs alternate. sharp starts once and
measures itself. `ours, in the pipeline` is without decoding: the pixels of the master are in memory.
"""

import argparse
import json
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from panelworks.domain.formats import VariantSpec, preset_named
from panelworks.page.delivery import make_variants
from panelworks.pictures import decode, encode
from panelworks.pictures.parallel import stop_threads_of_opencv
from panelworks.settings import get_settings
from service.bench.subjects import page_of

_PRESET: Final = "comic-page"
_MASTER_SIZE: Final = (2884, 4096)
_SHARP: Final = """
const sharp = require("sharp"), file = process.argv[1], specs = JSON.parse(process.argv[2]);
sharp.cache(false);
require("readline").createInterface({ input: process.stdin }).on("line", async () => {
  const began = process.hrtime.bigint();
  const made = specs.map(({ width, format, quality }) =>
    sharp(file).resize({ width, withoutEnlargement: true, kernel: "lanczos3" })[format]({ quality }).toBuffer());
  await Promise.all(made);
  console.log(Number(process.hrtime.bigint() - began) / 1e9);
});
"""


def main() -> None:
    """Print the median seconds of each."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sharp", type=Path, required=True, help="folder in which npm installed sharp")
    parser.add_argument("--master", type=Path, help="a picture file; by default the sample page, enlarged")
    parser.add_argument("--runs", type=int, default=5)
    given = parser.parse_args()
    stop_threads_of_opencv()
    specs = preset_named(_PRESET)
    with tempfile.TemporaryDirectory() as folder:
        file = given.master or Path(folder) / "master.png"
        if given.master is None:
            file.write_bytes(encode(page_of(*_MASTER_SIZE), "png"))
        data, settings = file.read_bytes(), get_settings()
        master = decode(data, settings).picture
        print(f"{file.name}: {master.width} x {master.height}, {len(data) / 1e6:.1f} MB")
        with _sharp(given.sharp, file, specs) as make_with_sharp:
            subjects: dict[str, Callable[[], float]] = {
                "sharp": make_with_sharp,
                "ours": lambda: _time(lambda: make_variants(decode(data, settings).picture, specs)),
                "ours, in the pipeline": lambda: _time(lambda: make_variants(master, specs)),
            }
            seconds: dict[str, list[float]] = {name: [] for name in subjects}
            for _ in range(given.runs + 1):  # the first is a warm-up
                for name, run in subjects.items():
                    seconds[name].append(run())
    for name, measured in seconds.items():
        print(f"{name:24}{statistics.median(measured[1:]):.2f} s")


def _time(make: Callable[[], Iterator[object]]) -> float:
    began = time.perf_counter()
    for _ in make():
        pass
    return time.perf_counter() - began


@contextmanager
def _sharp(folder: Path, file: Path, specs: tuple[VariantSpec, ...]) -> Iterator[Callable[[], float]]:
    """Start sharp for a file; gives a function that makes the variants and returns the seconds it took."""
    wanted = json.dumps([spec.model_dump() for spec in specs])
    command = ["node", "--eval", _SHARP, str(file.absolute()), wanted]
    node = subprocess.Popen(command, cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)  # noqa: S603 - our script
    requests, answers = node.stdin, node.stdout
    if requests is None or answers is None:
        raise RuntimeError("node has no pipes")
    with node, requests:

        def make() -> float:
            print(file=requests, flush=True)
            return float(answers.readline())

        yield make


if __name__ == "__main__":
    main()
