"""Blocks that provisioning creates: types for the UI, and the storage of results for machines without a shared folder."""

from typing import Any, Final

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.actions import WorkPoolUpdate
from prefect.exceptions import ObjectNotFound

from blocks import EnhancementProfile, RunPodCredentials
from panelworks.settings import Settings
from panelworks.storage.location import Location
from service.stack.merging import Difference

CREDENTIALS: Final = "panelworks"
"""Name of the AWS Credentials block with the keys of the settings."""
RESULTS: Final = "panelworks-results"
"""Name of the S3 Bucket block in which Prefect stores results."""
RESULTS_REFERENCE: Final = f"s3-bucket/{RESULTS}"
_FOLDER: Final = "prefect-results"
_VARIABLE: Final = "result_storage"
"""Variable of the templates of pools whose machines share no folder."""


async def provision_blocks(client: PrefectClient, pool: str, settings: Settings) -> list[Difference]:
    """Register the types of blocks; where the working store is a bucket, also create the storage of results in it.

    Existing blocks stay as they are: operators rotate the keys in them.
    """
    from prefect_aws import AwsCredentials, MinIOCredentials, S3Bucket

    for block in (EnhancementProfile, RunPodCredentials, AwsCredentials, MinIOCredentials, S3Bucket):
        await block.register_type_and_schema(client=client)
    store = Location.parse(settings.store_location)
    if not store.is_in_bucket:
        return []
    differences = []
    if await _is_missing(client, AwsCredentials.get_block_type_slug(), CREDENTIALS):
        await _credentials_of(settings).save(CREDENTIALS, client=client)
        differences.append(Difference(f"block aws-credentials/{CREDENTIALS}", "created"))
    if await _is_missing(client, S3Bucket.get_block_type_slug(), RESULTS):
        credentials = await AwsCredentials.aload(CREDENTIALS, client=client)  # stored as a reference
        folder = "/".join(filter(None, (store.key.strip("/"), _FOLDER)))
        bucket = S3Bucket(bucket_name=store.bucket, bucket_folder=folder, credentials=credentials)
        await bucket.save(RESULTS, client=client)
        differences.append(Difference(f"block {RESULTS_REFERENCE}", "created"))
    return differences + await _use_in_pool(client, pool)


def _credentials_of(settings: Settings) -> Any:
    """The keys of the settings; without them, machines use the default chain of AWS, such as the role of a task."""
    from prefect_aws import AwsCredentials
    from prefect_aws.client_parameters import AwsClientParameters

    return AwsCredentials(
        aws_access_key_id=settings.s3_access_key_id,
        aws_secret_access_key=settings.s3_secret_access_key,
        region_name=settings.s3_region,
        aws_client_parameters=AwsClientParameters(endpoint_url=settings.s3_endpoint),
    )


async def _is_missing(client: PrefectClient, kind: str, name: str) -> bool:
    try:
        await client.read_block_document_by_name(name, kind)
    except ObjectNotFound:
        return True
    return False


async def _use_in_pool(client: PrefectClient, name: str) -> list[Difference]:
    """Name the storage of results in the form of a pool that has the variable; another choice of an operator stays."""
    try:
        template = (await client.read_work_pool(name)).base_job_template
    except ObjectNotFound:  # reported where the pool is needed
        return []
    variable = template.get("variables", {}).get("properties", {}).get(_VARIABLE)
    if variable is None or variable.get("default") is not None:
        return []
    variable["default"] = RESULTS_REFERENCE
    await client.update_work_pool(name, WorkPoolUpdate(base_job_template=template))
    return [Difference(f"pool {name}", "updated", f"results are stored in {RESULTS_REFERENCE}")]
