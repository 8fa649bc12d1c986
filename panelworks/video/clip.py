"""A video file: its description, the frames worth choosing, and frames as pictures. FFmpeg runs in a child process.

with Clip(Path("clip.mp4"), settings) as clip:
    survey = clip.survey()
    frame = clip.read(survey.best)
"""

import os
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import numpy as np

from panelworks.archives.sandbox import Sandbox
from panelworks.archives.sandbox_child import Limits
from panelworks.errors import Rejected
from panelworks.pictures.picture import Picture
from panelworks.progress import Progress, ignore_progress
from panelworks.settings import Settings
from panelworks.video.choosing import Measurements, Scene, best_time, find_scenes, spread_times

_DECODER: Final = "panelworks.video.decoder"
_OUTPUT_RESERVE_BYTES: Final = 1 << 20
_COLUMNS: Final = 8
_BEFORE_SECONDS: Final = 0.5
_AFTER_SECONDS: Final = 2.0
"""Around a keyframe, all frames of this part are measured."""
MAX_REFINED_FRAMES: Final = 100
"""Keyframes around which all frames are measured, at most."""


@dataclass(frozen=True)
class Frame:
    """One frame, upright, with square pixels."""

    seconds: float
    """Its exact time since the first frame of the video."""
    picture: Picture
    notes: tuple[str, ...]
    """Notes for people, such as that HDR was converted."""


@dataclass(frozen=True)
class Survey:
    """What a search of a video found."""

    scenes: tuple[Scene, ...]
    """In the order of time; empty if no frame is clear."""
    measured: Measurements
    notes: tuple[str, ...]
    """Notes for people, such as that only keyframes were searched."""


class Clip:
    """A video file. The first call opens it."""

    def __init__(self, path: Path, settings: Settings) -> None:
        self._path, self._settings = os.fsencode(path.absolute()), settings
        output = 3 * settings.max_video_pixels * 4 + _OUTPUT_RESERVE_BYTES
        limits = Limits(settings.video_seconds, settings.parser_memory_bytes, output, "video")
        self._sandbox = Sandbox(limits)
        self._known: dict[str, Any] | None = None
        self._deadline = 0.0
        """When a search ends, by the monotonic clock."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop the child process."""
        self._sandbox.close()

    @property
    def duration(self) -> float:
        """In seconds; 0 if the file states none.

        Raises:
            Rejected: `damaged`, `no_video`, `unsupported_codec`, `unsupported_format`, `too_large`, `too_long`.
            Misconfigured: `missing_extra`.
        """
        return float(self._described["duration"])

    @property
    def _described(self) -> dict[str, Any]:
        if self._known is None:
            found: dict[str, Any] = self._sandbox.call(
                f"{_DECODER}:describe", self._path, self._settings.max_video_pixels
            )
            longest = self._settings.max_video_seconds
            if found["duration"] > longest:
                raise Rejected(
                    "too_long",
                    f"The video lasts {found['duration'] / 60:.0f} minutes; at most {longest / 60:.0f} are read.",
                )
            self._known = found
        return self._known

    def read(self, seconds: float) -> Frame:
        """The frame that is shown at a time.

        Raises:
            Rejected: as `duration`; `bad_time`, the video ends earlier; `document_too_costly`, `parser_crashed`.
        """
        self._described  # noqa: B018 - refuses videos that are too long
        found = self._sandbox.call(
            f"{_DECODER}:read_frame", self._path, float(seconds), self._settings.max_video_pixels
        )
        shape = (int(found["height"]), int(found["width"]), 3)
        pixels = np.frombuffer(found["pixels"], np.uint8).reshape(shape)
        notes: list[str] = []
        if found["hdr"]:
            notes.append("hdr: the frame was converted from HDR to 8-bit sRGB")
        if found["interlaced"]:
            notes.append(
                "interlaced: one field of the frame was used, and the rows between were interpolated"
            )
        return Frame(float(found["time"]), Picture(pixels), tuple(notes))

    def survey(self, progress: Progress = ignore_progress) -> Survey:
        """Search the whole video for scenes.

        Of a video with more than `settings.max_video_frames` frames, the keyframes are searched, and then all frames near those
        that represent a scene.

        Raises:
            Rejected: as `read`.
        """
        known, settings = self._described, self._settings
        frames = known["frames"] or known["duration"] * known["rate"]
        keys_only = frames > settings.max_video_frames
        self._deadline = time.monotonic() + settings.video_seconds
        rows, notes = self._measure(progress, keys_only=keys_only)
        measured = Measurements(rows, keys_only)
        if not rows.size:
            raise Rejected("damaged", "The video is damaged: none of its frames can be decoded.")
        scenes = tuple(find_scenes(measured))
        if keys_only:
            notes = [*notes, "keyframes: the video is long; only its keyframes were searched for scenes"]
        return Survey(scenes, measured, tuple(notes))

    def best(self, survey: Survey) -> float:
        """The time of the frame that represents the video.

        Raises:
            Rejected: `no_frame`, the video shows nothing.
        """
        seconds = best_time(survey.measured, survey.scenes)
        if seconds is None:
            raise Rejected(
                "no_frame",
                "All frames of the video are black, white or of one colour; #t=5 names the frame at 5 seconds.",
            )
        return self._refined(seconds, survey)

    def scene_times(self, survey: Survey, at_most: int) -> list[float]:
        """Times of one frame for each scene, at most this many; of more scenes, the best ones.

        Raises:
            Rejected: `no_frame`.
        """
        scenes = sorted(survey.scenes, key=lambda scene: -scene.value)[:at_most]
        if not scenes:
            return [self.best(survey)]
        times = sorted(scene.best for scene in scenes)
        if len(times) > MAX_REFINED_FRAMES:
            return times
        return sorted({self._refined(seconds, survey) for seconds in times})

    def spread_times(self, survey: Survey, count: int) -> list[float]:
        """Times of `count` clear frames, or fewer, spread over the video.

        Raises:
            Rejected: `no_frame`.
        """
        last = float(survey.measured.times[-1])
        times = spread_times(survey.measured, count, max(self.duration, last))
        return times or [self.best(survey)]

    def _refined(self, seconds: float, survey: Survey) -> float:
        """The best time near a keyframe, if only keyframes were measured."""
        if not survey.measured.keys_only or time.monotonic() > self._deadline:
            return seconds
        start = max(0.0, seconds - _BEFORE_SECONDS)
        part = self._sandbox.call(
            f"{_DECODER}:measure_part",
            self._path,
            start,
            seconds + _AFTER_SECONDS,
            self._settings.max_video_pixels,
        )
        rows = np.frombuffer(part["rows"], np.float64).reshape(-1, _COLUMNS)
        scenes = find_scenes(Measurements(rows)) if rows.size else []
        near = [scene for scene in scenes if scene.end >= seconds]
        return near[0].best if near else seconds

    def _measure(
        self, progress: Progress, *, keys_only: bool
    ) -> tuple[np.ndarray[Any, np.dtype[np.float64]], list[str]]:
        """The measurements of the video, and notes. Limits end the search; what was found until then is used."""
        settings = self._settings
        parts: list[np.ndarray[Any, np.dtype[np.float64]]] = []
        count, notes = 0, list[str]()
        stream = self._sandbox.stream(
            f"{_DECODER}:measure",
            self._path,
            0.0,
            settings.max_video_seconds,
            keys_only,
            settings.max_video_pixels,
        )
        with closing(stream):
            for batch in stream:
                rows = np.frombuffer(batch["rows"], np.float64).reshape(-1, _COLUMNS)
                if batch["damaged"] and not notes:
                    notes.append("damaged: a part of the video is damaged; its other frames were searched")
                if not len(rows):
                    continue
                parts.append(rows)
                count, last = count + len(rows), float(rows[-1, 0])
                progress(min(1.0, last / max(self.duration, last, 1e-3)))
                if count >= settings.max_video_frames or time.monotonic() > self._deadline:
                    notes.append(f"limit: only the first {last:.0f} s of the video were searched")
                    break
        return np.concatenate(parts) if parts else np.empty((0, _COLUMNS)), notes
