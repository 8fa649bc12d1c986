"""Animations are written frame by frame: exact delays, loop counts and, if lossless, exact pixels."""

import itertools

import numpy as np
import pytest

from panelworks.pictures import Picture
from panelworks.pictures.animation import Animation, read_animation
from panelworks.pictures.animation_files import AnimatedFormat, write_animation
from panelworks.settings import Settings
from tests.animations import DELAYS, blink, delays_seen_by_pillow, rgba, seen_by_pillow
from tests.pages import drawn

LIMITS = Settings()


def written(
    frames: list[Picture], format: AnimatedFormat, plays: int = 0, quality: int | None = None
) -> bytes:
    delays = itertools.cycle(DELAYS)
    timed = [(frame, next(delays)) for frame in frames]
    return write_animation(lambda: timed, format, plays, quality)


def read(data: bytes) -> Animation:
    animation = read_animation(data, LIMITS)
    assert animation is not None
    return animation


def transparent(frames: list[Picture]) -> list[Picture]:
    """The frames with a hole that moves."""
    result = []
    for number, frame in enumerate(frames):
        alpha = np.full(frame.pixels.shape[:2], 255, np.uint8)
        alpha[5 * number : 5 * number + 9, 3:11] = 0
        alpha[20:24, 3:11] = 100
        result.append(Picture(frame.pixels, alpha))
    return result


CASES = {
    "a small change": blink(61, 43, 3),
    "identical frames": [drawn(40, 30)] * 3,
    "other pages": [drawn(40, 31, seed=seed) for seed in (1, 2, 3)],
    "gray": [drawn(40, 30, "screentone", seed) for seed in (1, 2, 3)],
    "transparent": transparent(blink(41, 30, 3)),
    "opaque at first": [drawn(41, 30), *transparent([drawn(41, 30)] * 2)],
    "one pixel": [Picture(np.full((1, 1, 3), level, np.uint8)) for level in (1, 2, 3)],
}


@pytest.mark.parametrize("name", CASES)
def test_lossless_webp_is_exact(name: str) -> None:
    frames = CASES[name]
    data = written(frames, "webp", plays=2)
    animation = read(data)
    assert animation.delays == DELAYS
    assert animation.plays == 2
    for picture, shown, frame in zip(animation.pictures(), seen_by_pillow(data), frames, strict=True):
        assert np.array_equal(rgba(picture), rgba(frame))
        assert np.array_equal(shown[:, :, 3], rgba(frame)[:, :, 3])
        visible = shown[:, :, 3] > 0
        assert np.array_equal(shown[visible], rgba(frame)[visible])
    assert delays_seen_by_pillow(data) == list(DELAYS)


@pytest.mark.parametrize(("format", "tolerance"), [("webp", 12), ("avif", 12), ("gif", 30)])
@pytest.mark.parametrize("name", ["a small change", "other pages", "transparent"])
def test_lossy_animations_are_close_and_exact_in_time(
    name: str, format: AnimatedFormat, tolerance: float
) -> None:
    frames = CASES[name]
    data = written(frames, format, plays=3, quality=90)
    animation = read(data)
    assert animation.delays == DELAYS
    assert animation.plays == 3
    for picture, frame in zip(animation.pictures(), frames, strict=True):
        opaque = rgba(frame)[:, :, 3] == 255
        assert np.abs(rgba(picture)[opaque].astype(int) - rgba(frame)[opaque]).mean() <= tolerance
        assert (rgba(picture)[:, :, 3] < 255).any() == (not opaque.all())


@pytest.mark.parametrize("format", ["webp", "avif", "gif"])
@pytest.mark.parametrize("plays", [0, 1, 2, 7])
def test_loop_counts(format: AnimatedFormat, plays: int) -> None:
    assert (
        read(written(CASES["one pixel" if format != "avif" else "a small change"], format, plays, 80)).plays
        == plays
    )


def test_an_unchanged_frame_costs_a_few_bytes() -> None:
    one, three = (len(written([drawn(200, 200)] * count, "webp")) for count in (1, 3))
    assert three - one < 300


def test_what_does_not_change_does_not_flicker() -> None:
    for format in ("webp", "gif"):
        pictures = [
            rgba(picture) for picture in read(written(blink(61, 43, 3), format, quality=70)).pictures()
        ]
        for picture in pictures[1:]:
            assert np.array_equal(picture[:14], pictures[0][:14])


def test_delays_of_a_gif_are_rounded_without_drift() -> None:
    timed = [(frame, 33) for frame in blink(20, 20, 6)]
    animation = read(write_animation(lambda: timed, "gif", 0))
    assert set(animation.delays) == {30, 40}
    assert animation.milliseconds == 200
