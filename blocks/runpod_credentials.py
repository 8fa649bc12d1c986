"""The key of a RunPod account."""

from typing import ClassVar

from prefect.blocks.core import Block
from pydantic import Field, HttpUrl, SecretStr


class RunPodCredentials(Block):
    """How a worker reaches RunPod.

    Attributes:
        api_key: A key that may read and write pods.
        url: RunPod's REST API.
        spot_url: The version of it that rents spot pods.

    Example:
        ```python
        from blocks import RunPodCredentials

        RunPodCredentials(api_key="rpa_...").save("BLOCK_NAME")
        ```
    """

    _block_type_name: ClassVar[str] = "RunPod Credentials"
    _block_type_slug: ClassVar[str] = "runpod-credentials"
    _description: ClassVar[str] = "The API key with which workers of 'runpod' pools rent pods."
    _documentation_url: ClassVar[HttpUrl] = HttpUrl("https://docs.runpod.io/get-started/api-keys")

    api_key: SecretStr = Field(description="A key of the RunPod console that may read and write pods.")
    url: str = Field(default="https://api.runpod.io/v2", description="RunPod's REST API.")
    spot_url: str = Field(
        default="https://rest.runpod.io/v1", description="The version of the API that rents spot pods."
    )
