"""Rectangles of a page, and the artifacts that were found in them."""

from typing import Final, Literal, get_args

from pydantic import Field

from panelworks.domain.fields import Frozen

MAX_COORDINATE: Final = 2**31 - 1
MAX_ARTIFACT_REGIONS: Final = 64
"""Maximum number of regions in a report: of the built-in measures, and of each detector."""
ArtifactKind = Literal["jpeg_blocks", "banding", "noise", "halftone"]
"""What the built-in measures find."""
ARTIFACT_KINDS: Final[tuple[ArtifactKind, ...]] = get_args(ArtifactKind)
FIXABLE_KINDS: Final[tuple[ArtifactKind, ...]] = ("jpeg_blocks", "banding", "noise")
"""Kinds that `fix_artifacts: regions` treats, in this order. Halftone is the task of `descreen`."""
MAX_INPAINTED_SHARE: Final = 0.25
"""Maximum share of a page that is inpainted because a detector reported it."""
_MAX_NAME_CHARACTERS: Final = 64


class Region(Frozen):
    """A rectangle of a page, in pixels of the source."""

    left: int = Field(ge=0, le=MAX_COORDINATE)
    top: int = Field(ge=0, le=MAX_COORDINATE)
    width: int = Field(ge=1, le=MAX_COORDINATE)
    height: int = Field(ge=1, le=MAX_COORDINATE)

    @property
    def area(self) -> int:
        """Number of pixels."""
        return self.width * self.height

    def describe(self) -> str:
        """The place as text."""
        return f"{self.width} x {self.height} pixels at {self.left},{self.top} of the source"

    def within(self, part: "Region") -> "Region | None":
        """The rectangle in the coordinates of a part of the page, cut at its borders; None if it is outside."""
        left, top = max(self.left, part.left), max(self.top, part.top)
        right = min(self.left + self.width, part.left + part.width)
        bottom = min(self.top + self.height, part.top + part.height)
        if right <= left or bottom <= top:
            return None
        update = {
            "left": left - part.left,
            "top": top - part.top,
            "width": right - left,
            "height": bottom - top,
        }
        return self.model_copy(update=update)


class ArtifactRegion(Region):
    """A rectangle of a page with an artifact."""

    kind: str = Field(min_length=1, max_length=_MAX_NAME_CHARACTERS, pattern=r"^[a-z][a-z0-9_]*$")
    """An `ArtifactKind`, or what a detector calls it."""
    strength: float = Field(ge=0, le=1)
    """From hardly visible (0) to strong (1); of a detector, how certain it is."""
    detector: str | None = Field(
        None, max_length=_MAX_NAME_CHARACTERS, exclude_if=lambda given: given is None
    )
    """Name of the detector that found it; None: the built-in measures."""

    @property
    def box(self) -> Region:
        """The rectangle alone."""
        return Region(left=self.left, top=self.top, width=self.width, height=self.height)

    @property
    def title(self) -> str:
        """The kind as text, such as `JPEG blocks`."""
        return self.kind.replace("_", " ").replace("jpeg", "JPEG")


def fixable_regions(regions: tuple[ArtifactRegion, ...]) -> tuple[ArtifactRegion, ...]:
    """The regions that `fix_artifacts: regions` treats."""
    return tuple(one for one in regions if one.detector is None and one.kind in FIXABLE_KINDS)


def inpaintable_regions(
    regions: tuple[ArtifactRegion, ...], size: tuple[int, int]
) -> tuple[ArtifactRegion, ...]:
    """The regions of detectors that are inpainted on a page of `size` (width, height): the most certain ones first, up to
    `MAX_INPAINTED_SHARE` of the page."""
    left = MAX_INPAINTED_SHARE * size[0] * size[1]
    taken = []
    for one in sorted(regions, key=lambda one: -one.strength):
        if one.detector is not None and one.area <= left:
            left -= one.area
            taken.append(one)
    return tuple(taken)
