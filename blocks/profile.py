"""Profiles: stored options that operators choose by name."""

from typing import ClassVar

from prefect.blocks.core import Block
from pydantic import Field, HttpUrl

from panelworks.domain.options import EnhanceOptions
from panelworks.errors import Misconfigured


class EnhancementProfile(Block):
    """What to do with a kind of pages, and where to deliver them.

    Attributes:
        options: What to do; options of a run have precedence.
        out: Where to deliver when a run names no place.
        s3_block: The block with the credentials of the bucket to deliver to.

    Example:
        Save a profile and use it in a run:
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
        default=EnhanceOptions(), description="What to do with the pages; options of a run have precedence."
    )
    out: str | None = Field(
        default=None, description="Folder or s3://bucket/prefix to deliver to when a run names no place."
    )

    s3_block: str | None = Field(
        default=None,
        pattern=r"^(s3-bucket|aws-credentials|minio-credentials)/.+$",
        description="Block with the credentials of the bucket to deliver to, such as s3-bucket/archive. Without 'out', pages"
        " are delivered to its bucket.",
    )

    @classmethod
    async def merge_into(
        cls, name: str, options: EnhanceOptions, out: str | None
    ) -> tuple[EnhanceOptions, str | None, str | None]:
        """Options and place of a run, with what it leaves at the default taken from the stored profile `name`.

        Returns:
            Options, place, and the block with the credentials of the place.

        Raises:
            Misconfigured: `unknown_profile`.
        """
        try:
            profile: EnhancementProfile = await cls.aload(name)
        except ValueError as error:
            raise Misconfigured(
                "unknown_profile", f"There is no Enhancement Profile block named '{name}'."
            ) from error
        return options.with_defaults_from(profile.options), out or profile.out, profile.s3_block
