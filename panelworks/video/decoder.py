"""Decoding video with PyAV (FFmpeg). Runs in a child process.

The demuxer is chosen here from the first bytes, never by FFmpeg: playlists, scripts and other formats that name further files
are not parsed. FFmpeg opens no file and no address itself; it reads the open file. Only the decoders in `CODECS` are used.
Times are seconds since the first frame of the stream, computed from exact timestamps.
"""

import os
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

import av
import cv2
import numpy as np
import numpy.typing as npt

from panelworks.errors import Rejected
from panelworks.video.signature import demuxer_of
from panelworks.video.tone_mapping import Pixels, deinterlace, frame_to_srgb, is_hdr

CODECS: Final = frozenset(
    {
        "h264", "hevc", "av1", "libdav1d", "vp8", "vp9", "libvpx", "libvpx-vp9", "mpeg4", "mpeg2video", "mjpeg", "prores",
        "dnxhd", "h263", "png", "ffv1", "rawvideo", "qtrle",
    }
)  # fmt: skip
"""Names of the decoders that may be used."""
TIME_SLACK: Final = Fraction(1, 2_000_000)
"""Half a microsecond: a time that was rounded to microseconds names the same frame."""
MEASURED_SIDE: Final = 320
"""Longest side of the frames that are measured, in pixels."""
_FRAMES_PER_BATCH: Final = 32
_MAX_PART_FRAMES: Final = 1000
_ROW_BYTES: Final = 8 * 8
_FADE_SECONDS: Final = Fraction(1, 5)
"""A frame is compared with frames this much earlier and later to find fades."""
_MIN_FADE_LEVELS: Final = 0.06
"""Least difference of the histograms of luma across a fade, in [0, 1]."""
_MIN_FADE_CHANGE: Final = 3.0
"""Least mean difference of the frames, in levels."""
_MAX_FADE_ERROR: Final = 0.3
"""A fading frame differs less from the mixture of its neighbours, as a share of the difference of these."""
_MIN_COMPARED_CONTRAST: Final = 3.0
"""Least standard deviation of small pictures whose shapes are compared, in levels."""
_MAX_RECENT_FRAMES: Final = 128
"""Frames that are compared at most, in video with a high frame rate."""
_MAX_DAMAGED_PACKETS: Final = 1000
_HEAD_BYTES: Final = 64
_READ_BYTES: Final = 1 << 20
_MIN_ASPECT: Final = Fraction(1, 4)
_MAX_ASPECT: Final = Fraction(4)
"""Sample aspect ratios outside of these limits are ignored."""


def describe(path: bytes, max_pixels: int) -> dict[str, Any]:
    """Duration in seconds (0 if unknown), frames a second, size as shown, and number of frames (0 if unknown) of a video.

    Raises:
        Rejected: `damaged`, `no_video`, `unsupported_codec`, `unsupported_format`, `too_large`.
    """
    with _opened(path, max_pixels) as (container, stream):
        duration = Fraction(0)
        if stream.duration and stream.time_base:
            duration = stream.duration * stream.time_base
        elif container.duration:
            duration = Fraction(container.duration, 1_000_000)
        rate = stream.average_rate or stream.guessed_rate or Fraction(25)
        return {
            "duration": float(duration),
            "rate": float(min(max(rate, Fraction(1, 100)), Fraction(1000))),
            "frames": max(int(stream.frames), 0),
            "width": int(stream.codec_context.width),
            "height": int(stream.codec_context.height),
            "codec": str(stream.codec_context.name),
        }


def measure(
    path: bytes, start: float, end: float, keys_only: bool, max_pixels: int
) -> Generator[dict[str, Any], None, None]:
    """Measure the frames from `start` to `end` seconds in low resolution; yields batches.

    A batch has `rows`, float64 as bytes, Nx8: time in seconds; mean, contrast, 1st and 99th percentile of luma in [0, 255];
    sharpness; difference to the frame before in [0, 1]; and 1 for a frame in a fade. `damaged` states whether packets were.

    Raises:
        Rejected: as `describe`.
    """
    measurer = _Measurer(find_fades=not keys_only)
    with _opened(path, max_pixels) as (container, stream):
        if keys_only:
            stream.codec_context.skip_frame = "NONKEY"
        damage: list[str] = []
        for time, frame in _frames(container, stream, start, max_pixels, damage):
            if time > end:
                break
            if time >= start:
                measurer.add(time, _small(frame))
            if measurer.waiting >= _FRAMES_PER_BATCH:
                yield _batch(measurer.take(), damage)
        yield _batch(measurer.finish(), damage)


def measure_part(path: bytes, start: float, end: float, max_pixels: int) -> dict[str, Any]:
    """`measure` of all frames of a short part, in one batch of at most `_MAX_PART_FRAMES`."""
    rows, damaged = b"", False
    for batch in measure(path, start, end, False, max_pixels):
        rows, damaged = rows + batch["rows"], damaged or batch["damaged"]
        if len(rows) >= _MAX_PART_FRAMES * _ROW_BYTES:
            break
    return {"rows": rows, "damaged": damaged}


def _batch(rows: list[list[float]], damage: list[str]) -> dict[str, Any]:
    return {"rows": np.array(rows, np.float64).tobytes(), "damaged": bool(damage)}


def read_frame(path: bytes, seconds: float, max_pixels: int) -> dict[str, Any]:
    """The frame that is shown at a time, upright, with square pixels, as 8-bit sRGB.

    Returns:
        `time` in seconds, `width`, `height`, `pixels` (HxWx3 as bytes), `hdr` and `interlaced`.

    Raises:
        Rejected: as `describe`; `bad_time`, the video ends before this time.
    """
    with _opened(path, max_pixels) as (container, stream):
        found = _find(container, stream, seconds, max_pixels)
        if found is None and seconds > 0:  # the index is damaged: read from the start
            found = _find(container, stream, seconds, max_pixels, seek=False)
        if found is None:
            raise _no_frames()
        time, frame, is_last = found
        length = Fraction(1) if not frame.duration else Fraction(frame.duration) * frame.time_base
        stated = Fraction(0) if not stream.duration else stream.duration * stream.time_base
        if is_last and seconds > max(time + length, stated) + TIME_SLACK:
            raise Rejected(
                "bad_time",
                f"The video has no frame at {seconds:.3f} s; its last one is at {float(time):.3f} s.",
            )
        interlaced = bool(frame.interlaced_frame)
        pixels = _upright(frame, stream)
        return {
            "time": float(time),
            "width": int(pixels.shape[1]),
            "height": int(pixels.shape[0]),
            "pixels": pixels.tobytes(),
            "hdr": bool(is_hdr(frame)),
            "interlaced": interlaced,
        }


@dataclass
class _Seen:
    """A measured frame, and what the frames around it are compared with."""

    time: Fraction
    gray: Pixels
    levels: npt.NDArray[np.float32]
    """Histogram of its luma."""
    values: list[float]


class _Measurer:
    """Measures frames. Whether a frame belongs to a fade is known when later frames were seen."""

    def __init__(self, *, find_fades: bool) -> None:
        self._find_fades = find_fades
        self._recent: list[_Seen] = []
        self._decided = 0
        """Number of frames in `_recent` that are measured completely."""
        self._colours: npt.NDArray[np.float32] | None = None
        self._thumb: npt.NDArray[np.float32] | None = None
        self._rows: list[list[float]] = []

    def add(self, time: Fraction, pixels: Pixels) -> None:
        gray = np.asarray(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), np.uint8)
        low, high = np.percentile(gray, (1, 99))
        sharpness = cv2.Laplacian(cv2.GaussianBlur(gray, (3, 3), 0), cv2.CV_32F).var()
        levels = _histogram(gray >> 3, 32)
        values = [float(gray.mean()), float(gray.std()), float(low), float(high), float(sharpness)]
        self._recent.append(_Seen(time, gray, levels, [*values, self._distance(pixels, gray)]))
        while self._decided < len(self._recent) and (
            time - self._recent[self._decided].time >= _FADE_SECONDS or len(self._recent) > _MAX_RECENT_FRAMES
        ):
            self._decide()

    def take(self) -> list[list[float]]:
        """The rows of frames that are measured completely."""
        rows, self._rows = self._rows, []
        return rows

    def finish(self) -> list[list[float]]:
        """The remaining rows."""
        while self._decided < len(self._recent):
            self._decide()
        return self.take()

    @property
    def waiting(self) -> int:
        """Number of rows that `take` returns."""
        return len(self._rows)

    def _distance(self, pixels: Pixels, gray: Pixels) -> float:
        """Difference of colours, levels and shapes to the frame before, in [0, 1]."""
        few = pixels[::2, ::2] >> 6
        colours = _histogram((few[..., 0] << 4) | (few[..., 1] << 2) | few[..., 2], 64)
        thumb = np.asarray(cv2.resize(gray, (64, 36), interpolation=cv2.INTER_AREA), np.float32)
        distance = 0.0
        if self._colours is not None and self._thumb is not None:
            of_colours = float(np.abs(colours - self._colours).sum()) / 2
            of_levels = min(1.0, float(np.abs(thumb - self._thumb).mean()) / 85)
            distance = max((of_colours + of_levels) / 2, _dissimilarity(thumb, self._thumb))
        self._colours, self._thumb = colours, thumb
        return distance

    def _decide(self) -> None:
        """Complete the row of the next frame, and forget frames that later ones are not compared with."""
        seen = self._recent[self._decided]
        fading = self._find_fades and self._is_fading(seen)
        self._rows.append([float(seen.time), *seen.values, float(fading)])
        self._decided += 1
        while self._decided > 1 and (
            seen.time - self._recent[1].time >= _FADE_SECONDS or len(self._recent) > _MAX_RECENT_FRAMES
        ):
            del self._recent[0]
            self._decided -= 1

    def _is_fading(self, seen: _Seen) -> bool:
        """Is the frame a mixture of an earlier and a later one that have different histograms?

        Motion changes the histogram little, or it is not a mixture of two frames.
        """
        earlier = next(
            (one for one in self._recent if seen.time - one.time <= _FADE_SECONDS), self._recent[0]
        )
        later = self._recent[-1]
        for one in self._recent[self._decided :]:
            if one.time - seen.time >= _FADE_SECONDS:
                later = one
                break
        span = later.time - earlier.time
        if not 0 < span <= 3 * _FADE_SECONDS or seen is earlier or seen is later:
            return False
        if float(np.abs(later.levels - earlier.levels).sum()) / 2 < _MIN_FADE_LEVELS:
            return False
        share = np.float32((seen.time - earlier.time) / span)
        first, last = earlier.gray.astype(np.float32), later.gray.astype(np.float32)
        change = float(np.abs(last - first).mean())
        mixture = first + share * (last - first)
        return (
            change > _MIN_FADE_CHANGE and float(np.abs(seen.gray - mixture).mean()) < _MAX_FADE_ERROR * change
        )


def _dissimilarity(first: npt.NDArray[np.float32], second: npt.NDArray[np.float32]) -> float:
    """Difference of the shapes in two gray pictures in [0, 1], whatever their contrast; 0 for plain ones.

    Pages that are mostly white differ little in colours and levels.
    """
    spreads = float(first.std()), float(second.std())
    if min(spreads) < _MIN_COMPARED_CONTRAST:
        return 0.0
    covariance = float(((first - first.mean()) * (second - second.mean())).mean())
    return (1 - covariance / (spreads[0] * spreads[1])) / 2


def _histogram(codes: npt.NDArray[Any], bins: int) -> npt.NDArray[np.float32]:
    """Shares of the codes 0 to `bins` - 1."""
    return np.asarray(np.bincount(codes.ravel(), minlength=bins) / codes.size, np.float32)


@contextmanager
def _opened(path: bytes, max_pixels: int) -> Iterator[tuple[Any, Any]]:
    """The container of a file, and its video stream."""
    file = Path(os.fsdecode(path)).open("rb")  # noqa: SIM115 - it stays open as long as the container
    with file:
        head = file.read(_HEAD_BYTES)
        file.seek(0)
        demuxer = demuxer_of(head)
        if demuxer is None:
            raise Rejected(
                "unsupported_format",
                "This is not a video in a known format (MP4, QuickTime, WebM, Matroska).",
            )
        try:
            container = av.open(
                file,
                "r",
                format=demuxer,
                buffer_size=_READ_BYTES,
                container_options={
                    "protocol_whitelist": "none",
                    "format_whitelist": "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm",
                    "codec_whitelist": ",".join(sorted(CODECS)),
                    "enable_drefs": "0",
                },
                metadata_errors="replace",
            )
        except (av.FFmpegError, ValueError, UnicodeError) as error:
            raise Rejected(
                "damaged",
                "The video cannot be opened: its index is missing or damaged. The file may be incomplete.",
            ) from error
        with container:
            yield container, _video_stream(container, max_pixels)


def _video_stream(container: Any, max_pixels: int) -> Any:
    """The first video stream that is not a cover picture."""
    streams = [
        one for one in container.streams.video if not one.disposition & av.stream.Disposition.attached_pic
    ]
    if not streams:
        raise Rejected("no_video", "The file has no video stream; it may contain only sound.")
    stream = streams[0]
    codec = stream.codec_context
    if codec is None or codec.name not in CODECS:
        name = "an unknown codec" if codec is None else f"the codec {codec.name}"
        raise Rejected(
            "unsupported_codec",
            f"The video uses {name}, which is not read; H.264, H.265, AV1, VP8 and VP9 are read.",
        )
    _check_pixels(codec.width, codec.height, max_pixels)
    codec.thread_count, codec.thread_type = 2, "AUTO"
    codec.options = {"max_pixels": str(max(max_pixels, 1))}
    return stream


def _check_pixels(width: int, height: int, max_pixels: int) -> None:
    if width * height > max_pixels:
        raise Rejected(
            "too_large",
            f"The frames of the video have {width} x {height} pixels; at most {max_pixels / 1e6:g} million are read.",
        )


def _frames(
    container: Any, stream: Any, start: float, max_pixels: int, damage: list[str], *, seek: bool = True
) -> Generator[tuple[Fraction, Any], None, None]:
    """The frames of a stream with their times, from the last keyframe before `start` on.

    Damaged packets are skipped and noted in `damage`.
    """
    base = stream.time_base or Fraction(1, 1000)
    first = stream.start_time or 0
    step = 1 / (stream.average_rate or Fraction(25))
    if start > 0 and seek:
        try:
            container.seek(int(Fraction(start) / base) + first, stream=stream, backward=True)
        except av.FFmpegError:
            damage.append("seek")
    time: Fraction | None = None
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets)
            frames = packet.decode()
        except (StopIteration, av.EOFError):
            return
        except av.FFmpegError as error:
            damage.append(type(error).__name__)
            if len(damage) > _MAX_DAMAGED_PACKETS:
                return
            continue
        for frame in frames:
            if frame.is_corrupt:
                damage.append("corrupt")
                continue
            _check_pixels(frame.width, frame.height, max_pixels)
            if frame.pts is not None:
                time = (frame.pts - first) * base
            else:
                time = Fraction(0) if time is None else time + step
            yield time, frame


def _find(
    container: Any, stream: Any, seconds: float, max_pixels: int, *, seek: bool = True
) -> tuple[Fraction, Any, bool] | None:
    """The last frame that begins at or before a time, its time, and whether no frame follows; None if there is none."""
    if not seek:
        container.seek(0)
    wanted = Fraction(seconds) + TIME_SLACK
    found: tuple[Fraction, Any] | None = None
    for time, frame in _frames(container, stream, seconds, max_pixels, [], seek=seek):
        if time > wanted:
            if found is None and seconds <= 0:  # the first frame begins later
                return time, frame, False
            return None if found is None else (*found, False)
        found = time, frame
    return None if found is None else (*found, True)


def _small(frame: Any) -> Pixels:
    """A frame in low resolution, not rotated."""
    scale = min(1.0, MEASURED_SIDE / max(frame.width, frame.height))
    width, height = max(8, round(frame.width * scale)), max(8, round(frame.height * scale))
    return frame_to_srgb(frame, width, height, smooth=False)


def _upright(frame: Any, stream: Any) -> Pixels:
    """A frame with square pixels, not interlaced, rotated as the video states."""
    width, height = frame.width, frame.height
    aspect = stream.sample_aspect_ratio or Fraction(1)
    if not _MIN_ASPECT <= aspect <= _MAX_ASPECT:
        aspect = Fraction(1)
    pixels = frame_to_srgb(frame, width, height)
    if frame.interlaced_frame:
        pixels = deinterlace(pixels)
    if aspect > 1:
        pixels = _resized(pixels, round(width * aspect), height)
    elif aspect < 1:
        pixels = _resized(pixels, width, round(height / aspect))
    matrix = frame.side_data.get("DISPLAYMATRIX")
    return pixels if matrix is None else turned(pixels, bytes(matrix))


def _resized(pixels: Pixels, width: int, height: int) -> Pixels:
    return np.asarray(cv2.resize(pixels, (width, height), interpolation=cv2.INTER_CUBIC), np.uint8)


def turned(pixels: Pixels, matrix: bytes) -> Pixels:
    """Pixels turned and mirrored by the nearest multiple of 90 degrees to a display matrix (nine int32)."""
    values = np.frombuffer(matrix, np.int32)
    if values.size != 9:
        return pixels
    a, b, c, d = (int(values[index]) for index in (0, 1, 3, 4))
    if abs(a) + abs(d) >= abs(b) + abs(c):
        across, down = a < 0, d < 0
    else:
        pixels = pixels.transpose(1, 0, 2)
        across, down = c < 0, b < 0
    if across:
        pixels = pixels[:, ::-1]
    if down:
        pixels = pixels[::-1]
    return np.ascontiguousarray(pixels)


def _no_frames() -> Rejected:
    return Rejected("damaged", "The video is damaged: none of its frames can be decoded.")
