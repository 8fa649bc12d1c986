"""Every hostile file through the command line: a picture or a sentence, quickly, in bounded memory."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).parents[2]
LONGEST_SECONDS = 120
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
CODES = {"archive", "damaged", "empty", "out_of_proportion", "too_large", "truncated", "unsupported_format"}


def run(path: Path, out: Path) -> tuple[dict[str, object], str, float, int]:
    """The result, the log, the seconds and the highest memory of one run of the command."""
    command = [
        sys.executable,
        "-m",
        "panelworks",
        "enhance",
        str(path),
        "--out",
        str(out),
        "--json",
        "--direct",
    ]
    began, highest = time.monotonic(), 0
    with subprocess.Popen(
        command, cwd=ROOT, env=dict(os.environ), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        watched = psutil.Process(process.pid)
        while process.poll() is None:
            try:
                highest = max(highest, watched.memory_info().rss)
            except psutil.NoSuchProcess:
                break
            time.sleep(0.02)
        output, log = process.communicate()
    return json.loads(output), log, time.monotonic() - began, highest


def test_every_hostile_file_ends_well(assets: Path, tmp_path: Path, subtests: pytest.Subtests) -> None:
    out, outside = tmp_path / "out", set((tmp_path).parent.iterdir())
    listed = {entry["file"] for entry in json.loads((assets / "badinputs" / "manifest.json").read_text())}
    assert listed >= PICTURES
    for name in sorted(listed):
        with subtests.test(name):
            result, log, seconds, memory = run(assets / "badinputs" / name, out)
            assert "Traceback" not in log
            assert seconds < LONGEST_SECONDS
            assert memory < MOST_BYTES
            if name in PICTURES:
                assert result["status"] == "success", result["error"]
            else:
                error = result["error"]
                assert isinstance(error, dict)
                assert error["code"] in CODES
                assert error["message"].endswith(".")
    assert set(tmp_path.parent.iterdir()) == outside
    assert {path.name for path in tmp_path.iterdir()} <= {"out", "cache"}
    assert {path.name for path in out.iterdir()} <= {
        "good_quality",
        "upscaled",
        "couldn't_upscale",
        "variants",
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
