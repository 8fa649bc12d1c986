"""The quality report: what was measured of a picture."""

from panelworks.frozen import Frozen
from panelworks.quality.content import Content


class QualityReport(Frozen):
    """Scores of one picture, each in [0, 1], 1 being best."""

    resolution: float
    """Pixels over those of a 3840x2160 screen, at most 1."""
    technical: float
    """Product of the components; from 0.8 on a publisher would print the page (docs/quality.md)."""
    components: dict[str, float]
    """Score by name of the scorer."""
    content: Content | None = None
    """What it shows."""
    jpeg_quality: int | None = None
    """Quality of the JPEG that the picture was, by steps of five; None when its pixels tell of none."""
    damage: str | None = None
    """Why the decoder of the file doubts its pixels, such as libjpeg's warning; None where it does not."""
    overall: float
    """`resolution ** 0.3 * technical ** 0.7`."""
