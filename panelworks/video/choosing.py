"""Choosing frames of a video from measurements of its frames: scenes, and the clearest frame near the start of each.

Black, white and plain frames and frames in fades are never chosen. Blurred ones are not chosen as long as the scene has sharper
ones near its start.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

Rows = npt.NDArray[np.float64]
"""Nx8 as `panelworks.video.decoder.measure` returns them."""

_MAX_BLACK: Final = 45.0
"""99 % of the pixels of a black frame are darker."""
_MIN_WHITE: Final = 215.0
"""99 % of the pixels of a white frame are brighter."""
_MIN_CONTRAST: Final = 6.0
"""Least standard deviation of luma of a frame that shows something."""
_MIN_CUT: Final = 0.15
"""Least difference of two frames with a cut between them, in [0, 1]."""
_MIN_CUT_RATIO: Final = 3.0
"""At a cut, the difference is this many times the median difference of the frames around it."""
_AROUND_CUT: Final = 8
_FADE_MARGIN_SECONDS: Final = 0.2
"""Frames this close to a fade are only chosen if a scene has no others."""
_MIN_SCENE_SECONDS: Final = 0.4
"""Shorter scenes are ignored if there are longer ones."""
_START_SECONDS: Final = 2.0
"""The chosen frame is in this part of its scene, or in its first quarter."""
_START_SHARE: Final = 0.25
_LATENESS: Final = 0.3
"""A frame at the end of that part must be sharper by this share than one at its beginning."""
_MIN_SCENE_SHARPNESS: Final = 0.1
"""A scene whose sharpest frame has less than this share of the median scene's sharpness is blurred."""


@dataclass(frozen=True)
class Scene:
    """Frames without a cut or a fade between them."""

    start: float
    """Time of its first clear frame, in seconds."""
    end: float
    best: float
    """Time of the frame that represents it."""
    value: float
    """How well that frame would represent the whole video; for comparison with other scenes."""


@dataclass(frozen=True)
class Measurements:
    """Measured frames, in the order of their times."""

    rows: Rows
    keys_only: bool = False
    """Only keyframes were measured: fades are unknown."""

    @property
    def times(self) -> npt.NDArray[np.float64]:
        """In seconds."""
        return self.rows[:, 0]

    @property
    def contrast(self) -> npt.NDArray[np.float64]:
        return self.rows[:, 2]

    @property
    def sharpness(self) -> npt.NDArray[np.float64]:
        return self.rows[:, 5]

    @property
    def plain(self) -> npt.NDArray[np.bool_]:
        """Frames that are black, white or of one colour."""
        return (
            (self.rows[:, 4] < _MAX_BLACK) | (self.rows[:, 3] > _MIN_WHITE) | (self.contrast < _MIN_CONTRAST)
        )

    @property
    def fading(self) -> npt.NDArray[np.bool_]:
        """Frames in fades and dissolves."""
        return self.rows[:, 7] > 0

    @property
    def clear(self) -> npt.NDArray[np.bool_]:
        """Frames that may be chosen."""
        return ~(self.plain | self.fading)

    @property
    def cuts(self) -> npt.NDArray[np.bool_]:
        """Frames that begin after a cut."""
        distance = self.rows[:, 6]
        cuts = distance > _MIN_CUT
        if not self.keys_only:
            for index in np.flatnonzero(cuts):
                around = np.concatenate(
                    [
                        distance[max(1, index - _AROUND_CUT) : index],
                        distance[index + 1 : index + 1 + _AROUND_CUT],
                    ]
                )
                cuts[index] = (
                    distance[index] > _MIN_CUT_RATIO * float(np.median(around)) if around.size else True
                )
        return cuts


def find_scenes(measured: Measurements) -> list[Scene]:
    """The scenes in the order of time; empty if the video has no clear frame."""
    cuts, clear = measured.cuts, measured.clear
    parts: list[list[int]] = []
    for index in np.flatnonzero(clear):
        if not parts or cuts[index] or not clear[index - 1]:
            parts.append([])
        parts[-1].append(int(index))
    if not measured.keys_only:
        long = [part for part in parts if _seconds(measured, part) >= _MIN_SCENE_SECONDS]
        parts = long or parts
    if not parts:
        return []
    sharpest = [float(measured.sharpness[part].max()) for part in parts]
    limit = _MIN_SCENE_SHARPNESS * float(np.median(sharpest))
    return [_scene(measured, part) for part, most in zip(parts, sharpest, strict=True) if most >= limit]


def best_time(measured: Measurements, scenes: Sequence[Scene]) -> float | None:
    """The time of the frame that represents the video; None if all its frames are plain."""
    if scenes:
        return max(scenes, key=lambda scene: scene.value).best
    shown = np.flatnonzero(~measured.plain)
    return float(measured.times[shown[np.argmax(measured.sharpness[shown])]]) if shown.size else None


def spread_times(measured: Measurements, count: int, duration: float) -> list[float]:
    """Times of up to `count` clear frames that are spread over the duration, in order.

    The duration is divided into equal parts; the sharpest frame of each part is chosen, rather near its middle. For parts without a
    clear frame, others are taken that are far from the chosen ones.
    """
    free = _preferred(measured, np.flatnonzero(measured.clear))
    if not free.size:
        free = np.flatnonzero(~measured.plain)
    times, length = measured.times, max(duration, 1e-3) / count
    chosen: list[int] = []
    for part in range(count):
        inside = free[(times[free] >= part * length) & (times[free] < (part + 1) * length)]
        if inside.size:
            off = np.abs(times[inside] - (part + 0.5) * length) / length
            chosen.append(int(inside[np.argmax(measured.sharpness[inside] * (1 - _LATENESS * 2 * off))]))
    left = np.setdiff1d(free, np.array(chosen, int))
    while chosen and len(chosen) < count and left.size:
        gaps = np.abs(times[left][:, None] - times[chosen][None, :]).min(axis=1)
        chosen.append(int(left[np.argmax(gaps)]))
        left = np.setdiff1d(left, np.array(chosen, int))
    return sorted(float(times[index]) for index in chosen)


def _scene(measured: Measurements, part: list[int]) -> Scene:
    times, start = measured.times, float(measured.times[part[0]])
    length = _seconds(measured, part)
    near = max(_START_SECONDS, _START_SHARE * length)
    candidates = _preferred(measured, np.array(part, int))
    first = float(times[candidates[0]])
    candidates = candidates[times[candidates] - first <= near]
    weights = 1 - _LATENESS * (times[candidates] - first) / near
    best = int(candidates[np.argmax(measured.sharpness[candidates] * weights)])
    value = float(
        np.sqrt(measured.sharpness[best])
        * min(1.0, measured.contrast[best] / 50)
        * min(1.0, max(length, 0.1))
    )
    return Scene(start, float(times[part[-1]]), float(times[best]), value)


def _preferred(measured: Measurements, frames: npt.NDArray[np.int_]) -> npt.NDArray[np.int_]:
    """Those of the frames that are not close to a fade or a plain frame; all of them if there are no others."""
    avoided = measured.times[~measured.clear]
    if not avoided.size or not frames.size:
        return frames
    after = np.searchsorted(avoided, measured.times[frames])
    gaps = np.minimum(
        np.abs(avoided[np.minimum(after, avoided.size - 1)] - measured.times[frames]),
        np.abs(avoided[np.maximum(after - 1, 0)] - measured.times[frames]),
    )
    far = frames[gaps > _FADE_MARGIN_SECONDS]
    return far if far.size else frames


def _seconds(measured: Measurements, part: list[int]) -> float:
    return float(measured.times[part[-1]] - measured.times[part[0]])
