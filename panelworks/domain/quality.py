"""The quality report: what was measured of a picture."""

from typing import Final, Literal

from panelworks.domain.fields import Frozen

Kind = Literal["colour", "gray", "line_art", "screentone", "photograph"]
DOTS_SHARE: Final = 0.12
"""Share of windows with dots from which a page is screened."""


class Content(Frozen):
    """What a picture shows, as far as it matters to how it is treated."""

    kind: Kind
    colour: float
    """Share of pixels that are coloured beyond the page's tint."""
    dots: float
    """Share of windows with a regular pattern of dots: screentone or printed halftone."""
    flat: float
    """Share of pixels that equal their right neighbour."""

    @property
    def printed(self) -> bool:
        """Is it printed in colour, with halftone dots?"""
        return self.kind == "colour" and self.dots >= DOTS_SHARE


class QualityReport(Frozen):
    """Scores of one picture, each in [0, 1], 1 being best."""

    resolution: float
    """Pixels over those of a 3840x2160 screen, at most 1."""
    technical: float
    """Product of the components; from 0.8 on a publisher would print the page (docs/explanation/quality.md)."""
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
