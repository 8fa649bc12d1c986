"""Profiles: named options that operators choose by name instead of filling in a form each time."""

from typing import ClassVar

from prefect.blocks.core import Block
from pydantic import Field, HttpUrl

from panelworks.domain.options import EnhanceOptions


class EnhancementProfile(Block):
    """What to do with a kind of pages, and where to deliver them.

    Attributes:
        options: What to do; what a run names itself goes before.
        out: Where to deliver when a run names no place.

    Example:
        Keep a profile and use it in a run:
        ```python
        from blocks import EnhancementProfile
        from panelworks import EnhanceOptions

        EnhancementProfile(options=EnhanceOptions(preset="sora", scale=4)).save("BLOCK_NAME")
        profile = EnhancementProfile.load("BLOCK_NAME")
        ```
        and `prefect deployment run enhance-page/enhance-page -p source=cover.png -p profile=BLOCK_NAME`.
    """

    _block_type_name: ClassVar[str] = "Enhancement Profile"
    _block_type_slug: ClassVar[str] = "enhancement-profile"
    _description: ClassVar[str] = "Named options of Panelworks: preset, scale, network, thresholds, delivery."
    _documentation_url: ClassVar[HttpUrl] = HttpUrl("https://docs.prefect.io/v3/concepts/blocks")

    options: EnhanceOptions = Field(
        default=EnhanceOptions(), description="What to do with the pages; a run's own choices go before."
    )
    out: str | None = Field(
        default=None, description="Folder or s3://bucket/prefix to deliver to when a run names no place."
    )

    def merged(self, options: EnhanceOptions) -> EnhanceOptions:
        """This profile's options, with those that differ from the defaults in `options` going before."""
        return self.options.model_copy(update=options.model_dump(exclude_defaults=True))
