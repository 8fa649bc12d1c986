"""The quality report of a picture."""

from typing import Final, Literal

from pydantic import Field

from panelworks.domain.fields import Frozen
from panelworks.domain.regions import ArtifactRegion

Kind = Literal["colour", "gray", "line_art", "screentone", "photograph"]
PageType = Literal["colour", "gray", "line_art", "screentone", "halftone", "photograph"]
"""What a page shows, as rules name it: the kind, or a colour print with halftone dots."""
DOTS_SHARE: Final = 0.12
"""Share of windows with dots from which a page counts as screened."""
MAX_COLOURLESS_TINT_LEVELS: Final = 6.0
MIN_PAPER_SHARE: Final = 0.1


class Content(Frozen):
    """The content of a picture, as far as planning and scoring need it."""

    kind: Kind
    colour: float
    """Share of pixels whose colour differs from the tint of the page."""
    dots: float
    """Share of windows with a regular pattern of dots: screentone or printed halftone."""
    flat: float
    """Share of pixels that equal their right neighbour."""
    tint: float = 0.0
    """Difference between the strongest and the weakest channel of the page's median colour, in levels."""
    paper: float = 0.0
    """Share of pixels that are as light as the page's paper; 0 for a page without paper."""

    @property
    def printed(self) -> bool:
        """Is it a colour print with halftone dots?"""
        return self.kind == "colour" and self.dots >= DOTS_SHARE

    @property
    def colourless(self) -> bool:
        """Is it a gray page on untinted paper, so that any colour is noise?"""
        return self.kind in ("gray", "line_art", "screentone") and self.tint <= MAX_COLOURLESS_TINT_LEVELS

    @property
    def on_paper(self) -> bool:
        """Is it drawn on paper that shows between the drawings? Paintings and photographs cover theirs."""
        return self.kind != "photograph" and self.paper >= MIN_PAPER_SHARE

    @property
    def type(self) -> PageType:
        """The type of the page."""
        return "halftone" if self.printed else self.kind


class DeliveryScores(Frozen):
    """Scores of a picture at the size at which a page is delivered: the source enlarged, or the master reduced to it."""

    width: int
    """Pixels of the largest variant, or of the page in its book."""
    height: int
    components: dict[str, float]
    """Scores by name of the scorer."""


class QualityReport(Frozen):
    """Scores of one picture, each in [0, 1], 1 being best.

    The gate reads `resolution` and `technical`. Before and after are compared by `overall`, at one size.
    """

    resolution: float
    """Number of pixels divided by that of a 3840x2160 screen, at most 1."""
    technical: float
    """Product of the components; 0.8 is the limit for print (docs/explanation/quality.md)."""
    components: dict[str, float]
    """Scores by name of the scorer: of a source, at its own size; of a result, at the size of the delivery."""
    content: Content | None = None
    """The content; None in reports of pictures that were not classified."""
    jpeg_quality: int | None = None
    """Quality of the JPEG compression found in the pixels, a multiple of 5; None: no compression found."""
    damage: str | None = None
    """The decoder's warning about damaged pixel data; None: no warning."""
    regions: tuple[ArtifactRegion, ...] = Field((), exclude_if=lambda given: not given)
    """Parts with artifacts, if they were looked for: between the assessment and the result, which has them as its own field."""
    overall: float
    """Technical score at the size of the delivery."""
    delivery: DeliveryScores | None = None
    """The scores of which `overall` is the product; None in reports of releases that had another overall score."""

    @property
    def shown_components(self) -> dict[str, float]:
        """The components that people compare before and after: at the size of the delivery, if it is known."""
        return self.components if self.delivery is None else self.delivery.components
