"""Assessing a picture: resolution, the technical scorers, and one number over both."""

import math
from collections.abc import Sequence
from typing import Final

from panelworks.pictures.picture import Picture
from panelworks.quality.compression import estimated_quality
from panelworks.quality.content import content_of
from panelworks.quality.report import QualityReport
from panelworks.quality.scorers import SCORERS, Scorer
from panelworks.quality.view import views_of

FULL_RESOLUTION: Final = 3840 * 2160
"""Pixels from which the resolution score is 1 (a 4K screen)."""
RESOLUTION_SHARE: Final = 0.3
"""Exponent of the resolution in the overall score; the technical score has the rest."""


def assess(
    picture: Picture, scorers: Sequence[Scorer] = SCORERS, source: QualityReport | None = None
) -> QualityReport:
    """The quality report of a picture. Transparent parts are scored as they look on white paper.

    Args:
        picture: Any picture.
        scorers: What looks at it.
        source: The report of the page that the picture was made of: it shows the same, and is no JPEG any more.
    """
    resolution = min(1.0, picture.width * picture.height / FULL_RESOLUTION)
    views = list(views_of(picture))
    components: dict[str, float] = {}
    technical = 1.0
    for scorer in scorers:
        scores = scorer.scores(views)
        components |= {name: round(score, 4) for name, score in scores.items()}
        technical *= math.prod(score ** scorer.weights[name] for name, score in scores.items())
    overall = resolution**RESOLUTION_SHARE * technical ** (1 - RESOLUTION_SHARE)
    return QualityReport(
        resolution=round(resolution, 4),
        technical=round(technical, 4),
        components=components,
        content=content_of(picture) if source is None else source.content,
        jpeg_quality=estimated_quality(picture) if source is None else None,
        damage=picture.damage,
        overall=round(overall, 4),
    )
