"""Assessing a picture: resolution, the technical scorers, and one number over both."""

import math
from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np

from panelworks.pictures.encode import on_paper
from panelworks.pictures.picture import Picture
from panelworks.quality.compression import estimated_quality
from panelworks.quality.content import content_of
from panelworks.quality.report import QualityReport
from panelworks.quality.scorers import SCORERS, Luma, Scorer

FULL_RESOLUTION: Final = 3840 * 2160
"""Pixels from which the resolution score is 1 (a 4K screen)."""
RESOLUTION_SHARE: Final = 0.3
"""Exponent of the resolution in the overall score; the technical score has the rest."""
_FLOOR: Final = 0.02
"""Least component in the geometric mean, so that one bad component does not hide the others."""
_WINDOW: Final = 512
_WHOLE: Final = 2_000_000
"""Up to this many pixels the whole picture is looked at, beyond it a grid of windows."""
_WINDOWS: Final = 4
"""Windows a side of that grid."""


def assess(picture: Picture, scorers: Sequence[Scorer] = SCORERS) -> QualityReport:
    """The quality report of a picture. Transparent parts are scored as they look on white paper."""
    resolution = min(1.0, picture.width * picture.height / FULL_RESOLUTION)
    windows = list(_windows(picture))
    components = {
        scorer.name: round(sum(scorer.score(window) for window in windows) / len(windows), 4)
        for scorer in scorers
    }
    weights = sum(scorer.weight for scorer in scorers)
    logarithm = sum(s.weight * math.log(max(components[s.name], _FLOOR)) for s in scorers)
    technical = math.exp(logarithm / weights)
    overall = resolution**RESOLUTION_SHARE * technical ** (1 - RESOLUTION_SHARE)
    return QualityReport(
        resolution=round(resolution, 4),
        technical=round(technical, 4),
        components=components,
        content=content_of(picture),
        jpeg_quality=estimated_quality(picture),
        overall=round(overall, 4),
    )


def _windows(picture: Picture) -> Iterator[Luma]:
    """The whole brightness of a small picture, an even grid of windows of a large one."""
    if picture.width * picture.height <= _WHOLE:
        yield on_paper(picture).luma().astype(np.float32)
        return
    lefts = _starts(picture.width)
    for top in _starts(picture.height):
        for left in lefts:
            width, height = min(_WINDOW, picture.width), min(_WINDOW, picture.height)
            yield on_paper(picture.region(left, top, width, height)).luma().astype(np.float32)


def _starts(side: int) -> list[int]:
    room = side - _WINDOW
    if room <= 0:
        return [0]
    count = min(_WINDOWS, -(-side // _WINDOW))
    # Multiples of 8 keep the grid of JPEG blocks in the same phase in every window.
    return sorted({round(room * index / max(1, count - 1)) // 8 * 8 for index in range(count)})
