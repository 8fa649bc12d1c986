"""Frames of real, small videos: containers, times, orientation, colours, limits and damage."""

from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from panelworks.errors import PanelworksError, Rejected
from panelworks.settings import Settings
from panelworks.video.clip import Clip, Frame
from panelworks.video.signature import is_video
from tests.pages import file_of, psnr
from tests.servers import QuietHandler, serving
from tests.videos import BLACK, HEIGHT, WHITE, WIDTH, Pixels, page, still, timed, write_sound, write_video

SHORT = timed([*still(page(1), 0.5), *still(page(2), 0.5)])


def read(path: Path, seconds: float, settings: Settings) -> Frame:
    with Clip(path, settings) as clip:
        return clip.read(seconds)


def refused(path: Path, settings: Settings, seconds: float | None = 0.0) -> PanelworksError:
    """The error of reading a time, or of a search for the best frame."""
    with Clip(path, settings) as clip, pytest.raises(PanelworksError) as caught:
        if seconds is None:
            clip.best(clip.survey())
        else:
            clip.read(seconds)
    assert caught.value.message.endswith(".")
    assert "document" not in caught.value.message
    return caught.value


@pytest.mark.parametrize(
    ("name", "codec", "options"),
    [
        ("a.mp4", "libx264", {}),
        ("a.mov", "mjpeg", {"qmin": "1", "qmax": "2"}),
        ("a.webm", "libvpx", {"deadline": "realtime"}),
        ("a.mkv", "libx265", {"x265-params": "log-level=none"}),
    ],
)
def test_containers_are_read(
    name: str, codec: str, options: dict[str, str], tmp_path: Path, settings: Settings
) -> None:
    pixel_format = "yuvj420p" if codec == "mjpeg" else "yuv420p"
    path = write_video(tmp_path / name, SHORT, codec, pixel_format, options=options)
    assert is_video(path.read_bytes()[:64])
    with Clip(path, settings) as clip:
        assert clip.duration == pytest.approx(1.0, abs=0.06)
        for seconds, seed in ((0.0, 1), (0.49, 1), (0.5, 2), (0.95, 2)):
            assert psnr(clip.read(seconds).picture.pixels, page(seed)) > 22, seconds


def test_times_are_exact_at_a_variable_rate(tmp_path: Path, settings: Settings) -> None:
    times = [0, 40, 41, 500, 533, 1900]
    frames = [(one, page(1 + index % 3)) for index, one in enumerate(times)]
    path = write_video(tmp_path / "vfr.mp4", frames, muxing={"video_track_timescale": "1000"})
    with Clip(path, settings) as clip:
        for index, one in enumerate(times):
            frame = clip.read(one / 1000)
            assert round(frame.seconds * 1000) == one
            assert psnr(frame.picture.pixels, page(1 + index % 3)) > 22
        assert round(clip.read(0.4999).seconds * 1000) == 41
        survey = clip.survey()
    assert [round(one * 1000) for one in survey.measured.times] == times
    assert refused(path, settings, 60.0).code == "bad_time"


@pytest.mark.parametrize("rotation", [90, 180, 270])
def test_the_rotation_is_applied(rotation: int, tmp_path: Path, settings: Settings) -> None:
    path = write_video(tmp_path / "turned.mp4", SHORT[:3], rotation=rotation)
    turned = np.rot90(page(1), rotation // 90)
    frame = read(path, 0.0, settings)
    assert frame.picture.pixels.shape == turned.shape
    assert psnr(frame.picture.pixels, turned) > 22


def test_pixels_become_square(tmp_path: Path, settings: Settings) -> None:
    path = write_video(tmp_path / "wide.mp4", SHORT[:3], aspect=Fraction(4, 3))
    assert read(path, 0.0, settings).picture.size == (WIDTH * 4 // 3, HEIGHT)


def patches(*levels: tuple[int, int, int]) -> list[tuple[int, Pixels]]:
    """One frame with vertical stripes of colours, twice."""
    pixels = np.repeat(np.array([levels], np.uint8), WIDTH // len(levels), axis=1).repeat(HEIGHT, axis=0)
    return [(0, np.ascontiguousarray(pixels)), (50, np.ascontiguousarray(pixels))]


def stripe(frame: Frame, index: int, count: int) -> list[int]:
    width = frame.picture.width // count
    middle = frame.picture.pixels[:, index * width + width // 3 : (index + 1) * width - width // 3]
    return [int(one) for one in np.rint(middle.reshape(-1, 3).mean(axis=0))]


@pytest.mark.parametrize(("transfer", "white"), [(16, 148), (18, 191)])
def test_hdr_becomes_srgb(transfer: int, white: int, tmp_path: Path, settings: Settings) -> None:
    """Reference white (203 cd/m2) is bright, but brighter light remains distinguishable."""
    levels = [0, white // 2, white, 200, 255]
    path = write_video(
        tmp_path / "hdr.mp4",
        patches(*((one, one, one) for one in levels)),
        pixel_format="yuv420p10le",
        colours={"color_trc": transfer, "color_primaries": 9, "colorspace": 9, "color_range": 1},
        options={"crf": "4"},
    )
    frame = read(path, 0.0, settings)
    shades = [stripe(frame, index, len(levels)) for index in range(len(levels))]
    assert all(max(one) - min(one) <= 3 for one in shades), shades
    values = [one[1] for one in shades]
    assert values == sorted(values)
    assert values[0] <= 3
    assert values[2] == pytest.approx(237, abs=5)
    assert values[4] > values[2]
    assert frame.notes[0].startswith("hdr: ")


@pytest.mark.parametrize(("pixel_format", "matrix"), [("yuv420p10le", 1), ("yuv420p", 6), ("yuv444p", 1)])
def test_colours_of_sdr_are_kept(pixel_format: str, matrix: int, tmp_path: Path, settings: Settings) -> None:
    levels = [(200, 40, 40), (40, 180, 60), (50, 60, 210), (128, 128, 128)]
    colours = {"color_trc": 1, "color_primaries": 1, "colorspace": matrix, "color_range": 1}
    path = write_video(
        tmp_path / "sdr.mp4",
        patches(*levels),
        pixel_format=pixel_format,
        colours=colours,
        options={"crf": "4"},
    )
    frame = read(path, 0.0, settings)
    for index, level in enumerate(levels):
        assert stripe(frame, index, len(levels)) == pytest.approx(level, abs=6)
    assert frame.notes == ()


def test_interlaced_frames_are_not_combed(tmp_path: Path, settings: Settings) -> None:
    combed = page(1).copy()
    combed[1::2] = np.roll(page(1), 12, axis=1)[1::2]
    path = write_video(
        tmp_path / "i.mp4", timed(still(combed, 0.3)), options={"x264-params": "tff=1:interlaced=1"}
    )
    frame = read(path, 0.0, settings)
    assert frame.notes[0].startswith("interlaced: ")
    smooth = cv2.GaussianBlur(frame.picture.pixels, (1, 3), 0)
    assert psnr(frame.picture.pixels, smooth) > psnr(combed, cv2.GaussianBlur(combed, (1, 3), 0)) + 3


def test_files_without_usable_frames_have_codes(tmp_path: Path, settings: Settings) -> None:
    whole = write_video(tmp_path / "a.mp4", SHORT).read_bytes()
    playlist = b"#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1/x.ts\n"
    cases: dict[str, tuple[bytes, str]] = {
        "no index": (whole[: len(whole) // 2], "damaged"),
        "only a head": (whole[:40], "damaged"),
        "a playlist": (playlist, "unsupported_format"),
        "a playlist in a box": (b"\x00\x00\x00\x08free" + playlist, "damaged"),
        "an empty file": (b"", "unsupported_format"),
        "noise in a box": (whole[:32] + bytes(range(256)) * 40, "damaged"),
        "noise in EBML": (b"\x1a\x45\xdf\xa3" + bytes(range(256)) * 40, "damaged"),
    }
    for name, (data, code) in cases.items():
        path = tmp_path / f"{name}.mp4"
        path.write_bytes(data)
        assert refused(path, settings).code == code, name
    assert refused(tmp_path / "no index.mp4", settings, None).code == "damaged"
    assert refused(write_sound(tmp_path / "sound.mp4"), settings).code == "no_video"
    assert not is_video(file_of_avif())


def file_of_avif() -> bytes:
    from PIL import Image

    return file_of(Image.new("RGB", (8, 8)), "AVIF")


@pytest.mark.parametrize(
    ("limit", "value", "code"),
    [("max_video_pixels", 1000, "too_large"), ("max_video_seconds", 0.5, "too_long")],
)
def test_limits_are_respected(limit: str, value: Any, code: str, tmp_path: Path, settings: Settings) -> None:
    path = write_video(tmp_path / "a.mp4", SHORT)
    assert refused(path, settings.model_copy(update={limit: value})).code == code


def test_a_truncated_video_gives_the_frames_that_are_left(tmp_path: Path, settings: Settings) -> None:
    path = write_video(
        tmp_path / "a.mp4", timed(still(page(1), 3)), options={"g": "10"}, muxing={"movflags": "faststart"}
    )
    path.write_bytes(path.read_bytes()[: -path.stat().st_size // 3])
    with Clip(path, settings) as clip:
        survey = clip.survey()
        frame = clip.read(clip.best(survey))
    assert 0 < len(survey.measured.times) < 60
    assert psnr(frame.picture.pixels, page(1)) > 22


def test_a_long_video_is_searched_by_its_keyframes(story: Path, settings: Settings) -> None:
    small = settings.model_copy(update={"max_video_frames": 60})
    with Clip(story, small) as clip:
        survey = clip.survey()
        frame = clip.read(clip.best(survey))
    assert survey.measured.keys_only
    assert any(note.startswith("keyframes: ") for note in survey.notes)
    assert max(psnr(frame.picture.pixels, page(seed)) for seed in (1, 3)) > 22 or 2.4 <= frame.seconds < 4.2


@pytest.mark.parametrize("shade", [BLACK, WHITE])
def test_a_plain_video_has_no_best_frame(shade: Pixels, tmp_path: Path, settings: Settings) -> None:
    path = write_video(tmp_path / "plain.mp4", timed(still(shade, 0.5)))
    assert refused(path, settings, None).code == "no_frame"
    assert read(path, 0.2, settings).picture.size == (WIDTH, HEIGHT)


def test_an_external_reference_is_not_opened(tmp_path: Path, settings: Settings) -> None:
    """The data reference of a track may name an address."""
    asked: list[str] = []

    class Server(QuietHandler):
        def do_GET(self) -> None:  # noqa: N802 - the name that http.server calls
            asked.append(self.path)
            self.send_error(404)

    data = write_video(tmp_path / "a.mov", SHORT).read_bytes()
    with serving(Server) as address:
        location = f"{address}/x.mov".encode() + b"\0"
        reference = (12 + len(location)).to_bytes(4, "big") + b"url \0\0\0\0" + location
        old = b"\x00\x00\x00\x0curl \x00\x00\x00\x01"
        position = data.find(old)
        assert position > 0
        path = tmp_path / "b.mov"
        path.write_bytes(data[:position] + reference + data[position + len(old) :])
        with Clip(path, settings) as clip, suppress(Rejected):  # damaged, or the data is in the file itself
            clip.survey()
    assert asked == []
