"""Animations are read frame by frame, as browsers show them, with exact delays."""

import struct
import zlib
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from PIL import Image

from panelworks.errors import Rejected
from panelworks.pictures import Picture, decode
from panelworks.pictures.animation import Animation, check_frames, read_animation, round_delays
from panelworks.settings import Settings
from tests.animations import (
    COLOURS,
    DELAYS,
    FORMATS,
    TRANSPARENT,
    animated_file,
    blink,
    cut_before_frame,
    filled,
    gif_of,
    rgba,
    seen_by_pillow,
)
from tests.pages import drawn, file_of

LIMITS = Settings()
KEEP, CLEAR, RESTORE = 1, 2, 3


def differing_pages(count: int) -> list[Picture]:
    return [drawn(48, 64, seed=seed) for seed in range(count)]


def read(data: bytes, limits: Settings = LIMITS) -> Animation:
    animation = read_animation(data, limits)
    assert animation is not None
    return animation


@pytest.mark.parametrize(("format", "plays"), [("GIF", 4), ("WEBP", 3), ("PNG", 3), ("AVIF", 0)])
def test_frames_delays_and_loop_count_are_read(format: str, plays: int) -> None:
    frames = blink(48, 64, 3)
    data = animated_file(frames, format, DELAYS, loop=3)
    animation = read(data)
    assert animation.delays == DELAYS
    assert animation.milliseconds == sum(DELAYS)
    assert animation.plays == plays
    assert animation.size == (48, 64)
    tolerance = {"GIF": 255, "AVIF": 12}.get(format, 0)
    for picture, frame, shown in zip(animation.pictures(), frames, seen_by_pillow(data), strict=True):
        assert np.array_equal(rgba(picture), shown)
        assert np.abs(rgba(picture).astype(int) - rgba(frame)).max() <= tolerance


@pytest.mark.parametrize("format", FORMATS)
def test_still_pictures_are_no_animations(format: str) -> None:
    assert read_animation(file_of(Image.new("RGB", (8, 8), "red"), format), LIMITS) is None


@pytest.mark.parametrize(("repeats", "plays"), [(None, 1), (0, 0), (1, 2), (5, 6)])
def test_a_gif_is_repeated_as_often_as_it_states(repeats: int | None, plays: int) -> None:
    frames = [(filled(4, 4, colour), (0, 0), 5, KEEP) for colour in (0, 1)]
    assert read(gif_of((4, 4), frames, repeats)).plays == plays


NOTHING = (0, 0, 0, 0)


def colours_at(data: bytes, x: int, y: int) -> list[tuple[int, ...]]:
    return [tuple(rgba(picture)[y, x].tolist()) for picture in read(data).pictures()]


RED, GREEN, BLUE = ((*colour, 255) for colour in COLOURS[:3])


@pytest.mark.parametrize(
    ("disposal", "inside", "outside"),
    [
        (KEEP, [RED, GREEN, GREEN], [RED, RED, RED]),
        (CLEAR, [RED, GREEN, NOTHING], [RED, RED, RED]),
        (RESTORE, [RED, GREEN, RED], [RED, RED, RED]),
        (0, [RED, GREEN, GREEN], [RED, RED, RED]),
    ],
)
def test_a_gif_disposes_of_its_frames(disposal: int, inside: Any, outside: Any) -> None:
    frames = [
        (filled(8, 8, 0), (0, 0), 5, KEEP),
        (filled(3, 3, 1), (2, 2), 5, disposal),
        (filled(1, 1, 2), (7, 7), 5, KEEP),
    ]
    data = gif_of((8, 8), frames)
    assert colours_at(data, 3, 3) == inside
    assert colours_at(data, 0, 0) == outside
    assert colours_at(data, 7, 7)[-1] == BLUE


def test_transparent_pixels_of_a_frame_show_the_frame_before() -> None:
    frames = [(filled(4, 4, 0), (0, 0), 5, KEEP), (filled(4, 4, TRANSPARENT), (0, 0), 5, KEEP)]
    assert colours_at(gif_of((4, 4), frames), 1, 1) == [RED, RED]


@pytest.mark.parametrize("place", [(6, 6), (8, 0), (0, 200), (60_000, 60_000)])
def test_what_is_outside_of_the_canvas_is_not_seen(place: tuple[int, int]) -> None:
    frames = [
        (filled(8, 8, 0), (0, 0), 5, KEEP),
        (filled(4, 4, 1), place, 5, CLEAR),
        (filled(1, 1, 0), (0, 0), 5, KEEP),
    ]
    animation = read(gif_of((8, 8), frames))
    assert animation.size == (8, 8)
    pictures = [rgba(picture) for picture in animation.pictures()]
    assert pictures[1][:6, :6].tolist() == pictures[0][:6, :6].tolist()
    assert (pictures[1][7, 7].tolist() == list(GREEN)) == (place == (6, 6))


def test_a_first_frame_that_is_larger_than_the_canvas_enlarges_it() -> None:
    frames = [(filled(9, 5, 0), (1, 2), 5, KEEP), (filled(2, 2, 1), (0, 0), 5, KEEP)]
    data = gif_of((4, 4), frames)
    assert read(data).size == (10, 7) == decode(data, LIMITS).picture.size


def test_frames_without_pixels_only_take_time() -> None:
    frames = [
        (filled(4, 4, 0), (0, 0), 5, KEEP),
        (filled(0, 0, 0), (0, 0), 7, KEEP),
        (filled(4, 4, 1), (0, 0), 5, KEEP),
    ]
    data = gif_of((4, 4), frames)
    assert read(data).delays == (50, 70, 50)
    assert colours_at(data, 0, 0) == [RED, RED, GREEN]


def random_frames(count: int, seed: int, *, translucent: bool = True) -> list[Image.Image]:
    """Noise with transparency in boxes, so that frames have offsets."""
    generator = np.random.default_rng(seed)
    frames = []
    for _ in range(count):
        pixels = np.zeros((20, 24, 4), dtype=np.uint8)
        top, left = (int(value) for value in generator.integers(0, 10, 2))
        pixels[top : top + 9, left : left + 11] = generator.integers(0, 256, (9, 11, 4))
        if not translucent:  # what Pillow draws over transparent pixels is half transparent itself
            pixels[:, :, 3] = np.where(pixels[:, :, 3] > 100, 255, 0)
        frames.append(Image.fromarray(pixels))
    return frames


@pytest.mark.parametrize("blend", [0, 1])
@pytest.mark.parametrize("disposal", [0, 1, 2])
def test_an_apng_is_composed_as_pillow_does_it(disposal: int, blend: int) -> None:
    frames = random_frames(4, 10 * disposal + blend, translucent=False)
    data = file_of(
        frames[0], save_all=True, append_images=frames[1:], duration=50, disposal=disposal, blend=blend
    )
    # Pillow does not restore what a restored frame was drawn over; it writes each frame as if it did.
    expected = [np.asarray(frame) for frame in frames] if disposal == 2 else seen_by_pillow(data)
    for picture, shown in zip(read(data).pictures(), expected, strict=True):
        assert np.array_equal(rgba(picture)[:, :, 3], shown[:, :, 3])
        visible = shown[:, :, 3] > 0
        assert np.abs(rgba(picture)[visible].astype(int) - shown[visible]).max() <= 1


@pytest.mark.parametrize("lossless", [True, False])
def test_a_webp_is_composed_as_libwebp_does_it(lossless: bool) -> None:
    frames = random_frames(5, 7)
    data = file_of(
        frames[0], "WEBP", save_all=True, append_images=frames[1:], duration=50, lossless=lossless, quality=60
    )
    for picture, shown in zip(read(data).pictures(), seen_by_pillow(data), strict=True):
        visible = shown[:, :, 3] > 0
        assert np.abs(rgba(picture)[:, :, 3].astype(int) - shown[:, :, 3]).max() <= 1
        weight = shown[:, :, 3:][visible] / 255
        difference = np.abs(rgba(picture)[:, :, :3][visible].astype(int) - shown[:, :, :3][visible])
        assert (difference * weight).max() <= 3


@pytest.mark.parametrize(
    ("delays", "shown"),
    [
        ((0, 10, 11, 20), (100, 100, 11, 20)),
        ((Fraction(1000, 30),) * 6, (33, 34, 33, 33, 34, 33)),
        ((Fraction(1, 3), 65_535_000), (100, 65_535_000)),
    ],
)
def test_delays_do_not_drift_and_short_ones_are_those_of_browsers(
    delays: Any, shown: tuple[int, ...]
) -> None:
    assert round_delays(Fraction(delay) for delay in delays) == shown


def test_delays_are_rounded_to_other_units_without_drift() -> None:
    assert round_delays([Fraction(33), Fraction(33), Fraction(34)], 10) == (30, 40, 30)


@pytest.mark.parametrize("format", ["GIF", "WEBP", "PNG"])
def test_complete_frames_of_a_file_that_ends_early_are_used(format: str) -> None:
    data = cut_before_frame(animated_file(blink(48, 64, 5), format), 3)
    decode(data, LIMITS)
    animation, notes = check_frames(read(data), LIMITS, ("animated: only the first of 5 frames was taken",))
    assert animation is not None
    assert len(animation) == 3 == len(list(animation.pictures()))
    assert notes == ("the animation's data ends early: complete frames that were used: 3",)
    with pytest.raises(Rejected) as caught:
        check_frames(read(data), LIMITS.model_copy(update={"truncated_animations": "reject"}))
    assert caught.value.code == "truncated"


@pytest.mark.parametrize("format", ["GIF", "WEBP", "PNG"])
def test_an_animation_with_one_complete_frame_is_a_still_picture(format: str) -> None:
    data = cut_before_frame(animated_file(blink(48, 64, 3), format), 1)
    found = read_animation(data, LIMITS)
    animation = None if found is None else check_frames(found, LIMITS)[0]
    assert animation is None
    assert decode(data, LIMITS).picture.size == (48, 64)


def test_complete_frames_of_a_sequence_that_ends_early_are_used() -> None:
    whole = animated_file(differing_pages(5), "AVIF")
    pictures = [picture.pixels for picture in read(whole).pictures()]
    data = whole[: -(len(whole) - whole.index(b"mdat")) // 5]  # the last frame is cut, perhaps another one
    assert decode(data, LIMITS).picture.size == (48, 64)
    animation, notes = check_frames(read(data), LIMITS)
    assert animation is not None
    assert 3 <= len(animation) <= 4
    assert "ends early" in notes[-1]
    for picture, expected in zip(animation.pictures(), pictures, strict=False):
        assert np.array_equal(picture.pixels, expected)


def test_a_sequence_without_a_complete_frame_is_refused() -> None:
    data = animated_file(differing_pages(3), "AVIF")
    with pytest.raises(Rejected) as caught:
        decode(data[: data.index(b"mdat") + 20], LIMITS)
    assert caught.value.code == "truncated"


@pytest.mark.parametrize("share", [0.1, 0.3, 0.5, 0.7, 0.9])
@pytest.mark.parametrize("format", FORMATS)
def test_a_damaged_file_is_refused_or_read_up_to_the_damage(format: str, share: float) -> None:
    data = bytearray(animated_file(differing_pages(4), format))
    start = int(len(data) * share)
    data[start : start + 40] = bytes(range(40))
    try:
        decode(bytes(data), LIMITS)
        found = read_animation(bytes(data), LIMITS)
        if found is not None:
            check_frames(found, LIMITS)
    except Rejected as error:
        assert error.code


def test_damage_in_a_later_frame_is_noted() -> None:
    data = bytearray(animated_file(blink(48, 64, 3), "PNG"))
    last = data.rindex(b"fdAT")
    size = int.from_bytes(data[last - 4 : last], "big")
    data[last + 4 + size] ^= 1  # a byte of the checksum
    _, notes = check_frames(read(bytes(data)), LIMITS)
    assert "frame 3 may be damaged" in notes[0]


def many_frames(format: str, count: int) -> bytes:
    if format == "GIF":
        return gif_of((4, 4), [(filled(1, 1, number % 2), (0, 0), 0, KEEP) for number in range(count)])
    data = animated_file(blink(100, 100, 2), format)
    if format == "WEBP":
        begin = data.index(b"ANMF")
        end = data.index(b"ANMF", begin + 1)
        body = data[12:end] + data[begin:end] * (count - 1)
        return b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WEBP" + body
    begin, end = data.rindex(b"fcTL") - 4, data.rindex(b"IEND") - 4
    stated = struct.pack(">II", count, 0)
    counted = b"acTL" + stated
    at = data.index(b"acTL")
    head = data[:at] + counted + struct.pack(">I", zlib.crc32(counted)) + data[at + 16 : begin]
    return head + data[begin:end] * (count - 1) + data[end:]


@pytest.mark.parametrize("format", ["GIF", "WEBP", "PNG"])
def test_ten_thousand_frames_are_refused(format: str) -> None:
    data = many_frames(format, 10_000)
    for call in (decode, read_animation):
        with pytest.raises(Rejected) as caught:
            call(data, LIMITS)
        assert caught.value.code in ("too_many_frames", "out_of_proportion")


@pytest.mark.parametrize(
    ("limit", "code"),
    [
        ({"max_frames": 2}, "too_many_frames"),
        ({"max_animation_pixels": 48 * 64 * 2}, "too_large"),
        ({"max_animation_seconds": 0.339}, "too_long"),
    ],
)
def test_limits_of_animations(limit: dict[str, Any], code: str) -> None:
    data = animated_file(blink(48, 64, 3), "GIF", DELAYS)
    with pytest.raises(Rejected) as caught:
        read_animation(data, LIMITS.model_copy(update=limit))
    assert caught.value.code == code


def test_a_frame_that_is_much_larger_than_the_canvas_counts_with_its_size() -> None:
    frames = [(filled(4, 4, 0), (0, 0), 5, KEEP), (filled(4, 4, 0), (0, 0), 5, KEEP)]
    data = bytearray(gif_of((4, 4), frames))
    last = data.rindex(b",\x00\x00\x00\x00")
    data[last + 5 : last + 9] = struct.pack("<2H", 65_535, 65_535)
    with pytest.raises(Rejected) as caught:
        read_animation(bytes(data), LIMITS)
    assert caught.value.code == "too_large"


def test_a_colour_profile_and_an_orientation_apply_to_all_frames() -> None:
    frames = [Image.new("RGB", (6, 4), colour) for colour in ("red", "blue")]
    exif = Image.Exif()
    exif[0x0112] = 6
    data = file_of(
        frames[0], "WEBP", save_all=True, append_images=frames[1:], lossless=True, exif=exif.tobytes()
    )
    animation = read(data)
    assert animation.size == (4, 6)
    assert [picture.size for picture in animation.pictures()] == [(4, 6)] * 2


def test_gray_frames_are_gray() -> None:
    frames = [Picture(np.full((8, 8, 1), level, np.uint8)) for level in (20, 200)]
    assert all(picture.is_gray for picture in read(animated_file(frames, "PNG")).pictures())
