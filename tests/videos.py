"""Small videos for tests, encoded with PyAV. Frames are pictures with times in milliseconds, so that rates may vary."""

from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import numpy.typing as npt

from tests.pages import drawn

Pixels = npt.NDArray[np.uint8]
WIDTH, HEIGHT, RATE = 192, 128, 20
BLACK = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
WHITE = np.full((HEIGHT, WIDTH, 3), 255, np.uint8)


def page(seed: int) -> Pixels:
    """A drawn picture in the size of a frame."""
    return np.ascontiguousarray(drawn(WIDTH, HEIGHT, "colour", seed).pixels)


def still(pixels: Pixels, seconds: float) -> list[Pixels]:
    """The frames of a scene without motion."""
    return [pixels] * round(seconds * RATE)


def mixed(first: Pixels, last: Pixels, seconds: float) -> list[Pixels]:
    """The frames of a fade or dissolve."""
    count = round(seconds * RATE)
    shares = [(index + 1) / (count + 1) for index in range(count)]
    return [
        np.rint((1 - one) * first.astype(np.float32) + one * last.astype(np.float32)).astype(np.uint8)
        for one in shares
    ]


def panned(pixels: Pixels, seconds: float, speed: float) -> list[Pixels]:
    """The frames of a scene in which the camera moves to the right, `speed` pixels a second."""
    moves = [index / RATE * speed for index in range(round(seconds * RATE))]
    matrices = [np.array([[1.1, 0, -one], [0, 1.1, -4]], np.float32) for one in moves]
    return [
        np.asarray(cv2.warpAffine(pixels, one, (WIDTH, HEIGHT), borderMode=cv2.BORDER_REFLECT), np.uint8)
        for one in matrices
    ]


def timed(frames: Iterable[Pixels]) -> list[tuple[int, Pixels]]:
    """Frames with their times in milliseconds, at `RATE`."""
    return [(index * 1000 // RATE, pixels) for index, pixels in enumerate(frames)]


def write_video(
    path: Path,
    frames: Iterable[tuple[int, Pixels]],
    codec: str = "libx264",
    pixel_format: str = "yuv420p",
    *,
    rotation: int | None = None,
    aspect: Fraction | None = None,
    options: dict[str, str] | None = None,
    muxing: dict[str, str] | None = None,
    colours: dict[str, int] | None = None,
) -> Path:
    """Encode a video; returns its path.

    Args:
        path: Its extension chooses the container.
        frames: Times in milliseconds and pictures of one size.
        codec: FFmpeg's name of the encoder.
        pixel_format: FFmpeg's name.
        rotation: By which players turn it counter-clockwise, in degrees.
        aspect: Sample aspect ratio.
        options: Of the encoder.
        muxing: Options of the muxer.
        colours: `color_trc`, `color_primaries`, `colorspace` and `color_range`, numbered as in ITU-T H.273.
    """
    with av.open(str(path), "w", options=muxing or {}) as container:
        stream: Any = container.add_stream(codec, rate=RATE, options=options or {})
        stream.pix_fmt = pixel_format
        stream.codec_context.time_base = Fraction(1, 1000)
        for name, value in (colours or {}).items():
            setattr(stream.codec_context, name, value)
        if aspect is not None:
            stream.codec_context.sample_aspect_ratio = aspect
        if rotation is not None:
            stream.set_display_rotation(rotation)
        for index, (milliseconds, pixels) in enumerate(frames):
            if index == 0:
                stream.height, stream.width = pixels.shape[:2]
            frame = av.VideoFrame.from_ndarray(pixels, "rgb24")
            if colours is not None:  # the encoder's own conversion ignores them
                matrix = {1: "ITU709", 6: "ITU601", 9: "BT2020"}[colours["colorspace"]]
                frame = frame.reformat(format=pixel_format, dst_colorspace=matrix, dst_color_range="MPEG")
            frame.pts, frame.time_base = milliseconds, Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def write_sound(path: Path) -> Path:
    """A file with sound only."""
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("aac", rate=8000)
        stream.layout = "mono"
        for index in range(8):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
            frame.rate, frame.pts = 8000, index * 1024
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def write_story(path: Path, **parameters: Any) -> Path:
    """A video of 7.4 s: 0.5 s black; fade to page 1 until 1.0; page 1 until 2.4; cut; page 2, panned, until 4.2; dissolve until 5.0;
    page 3 until 6.4; fade to white until 6.9; white until 7.4."""
    first, second, third = page(1), page(2), page(3)
    moving = panned(second, 1.8, 8)
    frames = [
        *still(BLACK, 0.5),
        *mixed(BLACK, first, 0.5),
        *still(first, 1.4),
        *moving,
        *mixed(moving[-1], third, 0.8),
        *still(third, 1.4),
        *mixed(third, WHITE, 0.5),
        *still(WHITE, 0.5),
    ]
    return write_video(path, timed(frames), **parameters)
