"""Every hostile file through the command line: a picture or a sentence, in bounded memory."""

import contextlib
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from PIL import Image

ROOT = Path(__file__).parents[2]
MOST_BYTES = 1_800_000_000
PICTURES = {
    "jpeg_named.png", "png_named.jpg", "no_extension", "trailing_zip.png", "bomb_ztxt.png", "tiny_1x1.png", "odd_317x211.png",
    "webtoon_690x30000.jpg", "bomb_12000x12000_rgb.png", "exif_invalid.jpg", "icc_p3.png", "icc_srgb_gray.png",
    "animated.gif", "animated.webp", "漫画 🧙 é.png", "name with space & quote's $(touch pwned) ; %2e.png",
    *(f"exif_orientation_{number}.jpg" for number in (1, 2, 4, 6, 8)),
    "mode_1bit.png", "mode_cmyk.jpg", "mode_cmyk.tif", "mode_float.tif", "mode_gray.png", "mode_gray16.png",
    "mode_palette.png", "mode_rgba.png", "mode_rgba_lossless.webp",
}  # fmt: skip
"""What holds a picture that we take; everything else must be refused."""
LARGE = {"bomb_12000x12000_rgb.png"}
"""Files that are read in a process each; another one reads all others."""
STRIP, STRIP_ROWS = "webtoon_690x30000.jpg", 4000
"""Of this page the suite enhances the first rows, enough for a strip whose whole length is scored; all of it takes a minute
of CPU time."""
CODES = {"archive", "damaged", "empty", "out_of_proportion", "too_large", "truncated", "unsupported_format"}


def enhance(paths: list[Path], out: Path) -> tuple[list[dict[str, Any]], str, int]:
    """Run the command with some files; returns the results, the log and the highest memory of its process."""
    command = [
        sys.executable,
        "-m",
        "panelworks",
        "enhance",
        *map(str, paths),
        "--out",
        str(out),
        "--json",
        "--direct",
    ]
    with (out.parent / "stdout").open("w+") as output, (out.parent / "stderr").open("w+") as log:
        process = subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=log)
        watched, highest = psutil.Process(process.pid), 0
        while process.poll() is None:
            with contextlib.suppress(psutil.NoSuchProcess):
                highest = max(highest, watched.memory_info().rss)
            time.sleep(0.02)
        output.seek(0)
        log.seek(0)
        return [json.loads(line) for line in output], log.read(), highest


def shorten(page: Path, folder: Path) -> Path:
    """Write the first rows of a page; returns the path of the file, which has the same name."""
    folder.mkdir()
    with Image.open(page) as image:
        image.crop((0, 0, image.width, STRIP_ROWS)).save(folder / page.name, quality=95)
    return folder / page.name


def test_every_hostile_file_ends_well(assets: Path, tmp_path: Path, subtests: pytest.Subtests) -> None:
    out, outside = tmp_path / "out", set((tmp_path).parent.iterdir())
    listed = {entry["file"] for entry in json.loads((assets / "badinputs" / "manifest.json").read_text())}
    assert listed >= PICTURES
    names = sorted(listed - LARGE) + sorted(LARGE)
    shortened = shorten(assets / "badinputs" / STRIP, tmp_path / "strip")
    paths = {name: assets / "badinputs" / name for name in names} | {STRIP: shortened}
    results = []
    for group in (names[: -len(LARGE)], *([name] for name in sorted(LARGE))):
        found, log, memory = enhance([paths[name] for name in group], out)
        assert "Traceback" not in log
        assert memory < MOST_BYTES
        results += found
    for name, result in zip(names, results, strict=True):
        with subtests.test(name):
            if name in PICTURES:
                assert result["status"] == "success", result["error"]
            else:
                error = result["error"]
                assert error["code"] in CODES
                assert error["message"].endswith(".")
    assert set(tmp_path.parent.iterdir()) == outside
    assert {path.name for path in tmp_path.iterdir()} <= {"out", "cache", "stdout", "stderr", "strip"}
    assert {path.name for path in out.iterdir()} <= {
        "good_quality",
        "upscaled",
        "couldn't_upscale",
        "variants",
        "previews",
        "results",
    }
    assert not list(out.rglob(".panelworks-*"))
    assert not (ROOT / "pwned").exists()


def test_all_orientations_show_the_same_page(assets: Path, tmp_path: Path) -> None:
    import numpy as np

    from panelworks.pictures import decode
    from panelworks.settings import Settings

    pages = [
        decode((assets / "badinputs" / f"exif_orientation_{n}.jpg").read_bytes(), Settings()).picture.pixels
        for n in (1, 2, 4, 6, 8)
    ]
    for page in pages:
        assert page.shape == (432, 306, 3)
        assert np.abs(page.astype(int) - pages[0]).mean() < 6


def test_colours_of_odd_modes_are_near_the_original(assets: Path) -> None:
    import numpy as np

    from panelworks.pictures import decode
    from panelworks.settings import Settings

    def pixels(name: str) -> "np.ndarray[tuple[int, ...], np.dtype[np.int64]]":
        return decode((assets / "badinputs" / name).read_bytes(), Settings()).picture.pixels.astype(np.int64)

    colour = pixels("png_named.jpg")
    assert np.abs(pixels("mode_cmyk.jpg") - colour).mean() < 12
    assert np.abs(pixels("mode_palette.png") - colour).mean() < 12
    assert np.abs(pixels("mode_gray16.png") - pixels("mode_gray.png")).mean() < 2
    assert np.abs(pixels("mode_float.tif") - pixels("mode_gray.png")).mean() < 2
