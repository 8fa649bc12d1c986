"""Machines that share no folder: a page that one begins is finished by another, with results in a bucket."""

from pathlib import Path

import pytest
from prefect.client.schemas.objects import StateType
from pydantic import SecretStr

from deployments.pools import template
from panelworks.accounting.ledger import open_ledger
from panelworks.settings import Settings
from service.stack.blocks import RESULTS_REFERENCE, provision_blocks
from tests.deployments import server
from tests.deployments.server import call_prefect, read, wait_for_end
from tests.deployments.spot.pages import SLOW, order
from tests.deployments.spot.pods import Pod
from tests.servers import until

POOL = "no-shared-folder"


@pytest.fixture
def bucket_settings(bucket: str, s3_endpoint: str) -> Settings:
    """Settings of machines with their working store in a bucket."""
    return Settings(
        s3_bucket=bucket,
        s3_endpoint=s3_endpoint,
        s3_region="us-east-1",
        s3_access_key_id="key",
        s3_secret_access_key=SecretStr("not-checked"),
        store=f"s3://{bucket}/work",
        ledger=f"s3://{bucket}/ledger",
    )


def environment_of(settings: Settings) -> dict[str, str]:
    return {
        "S3_BUCKET": str(settings.s3_bucket),
        "S3_ENDPOINT": str(settings.s3_endpoint),
        "S3_REGION": "us-east-1",
        "PANELWORKS_STORE": settings.store_location,
        "PANELWORKS_LEDGER": settings.ledger_location,
        "PANELWORKS_S3_BLOCK": "aws-credentials/panelworks",
    }


@pytest.mark.usefixtures("prefect_server")
def test_a_page_is_finished_on_another_machine(bucket_settings: Settings, tmp_path: Path) -> None:
    server.make_pool(POOL, template("kubernetes"), "kubernetes")
    created = call_prefect(lambda client: provision_blocks(client, POOL, bucket_settings))
    assert [one.subject for one in created] == [
        "block aws-credentials/panelworks",
        f"block {RESULTS_REFERENCE}",
        f"pool {POOL}",
    ]
    assert call_prefect(lambda client: provision_blocks(client, POOL, bucket_settings)) == []
    page = order(POOL, tmp_path, 800, 1100)
    machine = environment_of(bucket_settings)
    with Pod("kubernetes", page, "first", tmp_path / "first", **machine, **SLOW) as first:
        until(page.is_in_work)
        first.preempt()
        until(lambda: read(page.run).state_name == "AwaitingRetry", 60)
        assert first.ended() == 0
    with Pod("kubernetes", page, "second", tmp_path / "second", **machine) as second:
        assert wait_for_end(page.run)[0] == StateType.COMPLETED
        assert second.ended() == 0
    until(lambda: page.endings("assess") == ["Cached", "Completed"], 60)
    rows = open_ledger(bucket_settings).read()
    assert rows[rows["job_id"] == str(page.run)]["status"].tolist() == ["success"]
    for name in ("first", "second"):
        assert not (tmp_path / name / "cache" / "results").exists(), "no result is stored in a folder"
