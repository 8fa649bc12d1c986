"""Watermarks: a picture or a line of text that is drawn on variants, never on the master."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from panelworks.domain.fields import ClientText, Frozen

Position = Literal[
    "top-left", "top", "top-right", "left", "center", "right", "bottom-left", "bottom", "bottom-right"
]
"""Where in the variant the watermark is."""
Colour = Annotated[str, Field(pattern=r"^#[0-9A-Fa-f]{6}$")]
"""A colour in sRGB, such as `#ffffff`."""
MAX_TEXT_CHARACTERS = 200
MAX_IMAGE_ADDRESS_CHARACTERS = 65_536
"""A small logo fits in a `data:` address."""


class Watermark(Frozen):
    """A picture or a text on a variant. It is reduced where it would be larger than the variant."""

    image: ClientText | None = Field(
        None,
        min_length=1,
        max_length=MAX_IMAGE_ADDRESS_CHARACTERS,
        description="Address of a picture: https://, s3:// or data:, or (operators only) a path.",
    )
    text: ClientText | None = Field(
        None, min_length=1, max_length=MAX_TEXT_CHARACTERS, description="One line of Latin text."
    )
    position: Position = Field("bottom-right", description="Place in the variant.")
    opacity: float = Field(0.5, gt=0, le=1, description="Opacity, up to 1.")
    size: float = Field(0.25, gt=0, le=1, description="Width as a share of the width of the variant.")
    margin: float = Field(
        0.02, ge=0, le=0.5, description="Distance from the edge as a share of the shorter side."
    )
    tiled: bool = Field(False, description="Repeat it over the whole variant.")
    colour: Colour = Field("#ffffff", description="Colour of the text; its outline is black or white.")

    @model_validator(mode="after")
    def _is_image_or_text(self) -> Self:
        if (self.image is None) == (self.text is None):
            raise ValueError("a watermark has an image or a text")
        if self.text is not None and not (self.text.isprintable() and self.text.strip()):
            raise ValueError("the text of a watermark is one line of printable characters")
        return self
