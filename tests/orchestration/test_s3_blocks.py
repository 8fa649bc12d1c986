"""Keys in blocks of Prefect: who uses which, and what happens when an operator rotates one. The S3 server checks keys."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import boto3
import pytest
from prefect_aws import AwsCredentials, MinIOCredentials, S3Bucket
from prefect_aws.client_parameters import AwsClientParameters

from blocks import EnhancementProfile
from flows.enhance_page import enhance_page
from orchestration import s3_blocks
from orchestration.s3_blocks import S3_BLOCKS
from panelworks.errors import Misconfigured, PanelworksError
from panelworks.settings import get_settings
from panelworks.storage.folder import open_folder
from tests.conftest import clear_cached_settings
from tests.pages import write_page
from tests.servers import free_port, listens, until

SETUP_REQUESTS = 4
"""Requests that the server accepts before it checks keys: a user, its rights, its first key, and a bucket."""
ANYTHING = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}
BUCKET = "pages"

pytestmark = pytest.mark.usefixtures("prefect_server")


@dataclass(frozen=True)
class Key:
    """An access key."""

    id: str
    secret: str
    user: str = ""


class Account:
    """An AWS account whose S3 server checks keys. Each key has its own user: AWS allows two keys for one."""

    def __init__(self, endpoint: str) -> None:
        self.endpoint = endpoint
        self.admin = self._create_key(self._client("iam", Key("root", "root")))
        self._client("s3", self.admin).create_bucket(Bucket=BUCKET)

    def _client(self, service: str, key: Key) -> Any:
        return boto3.client(
            service,
            endpoint_url=self.endpoint,
            region_name="us-east-1",
            aws_access_key_id=key.id,
            aws_secret_access_key=key.secret,
        )

    def _create_key(self, iam: Any) -> Key:
        user = f"user-{uuid4()}"
        iam.create_user(UserName=user)
        iam.put_user_policy(UserName=user, PolicyName="all", PolicyDocument=json.dumps(ANYTHING))
        made = iam.create_access_key(UserName=user)["AccessKey"]
        return Key(made["AccessKeyId"], made["SecretAccessKey"], user)

    def new_key(self) -> Key:
        return self._create_key(self._client("iam", self.admin))

    def revoke(self, key: Key) -> None:
        self._client("iam", self.admin).delete_access_key(UserName=key.user, AccessKeyId=key.id)

    def objects(self, prefix: str = "") -> list[str]:
        found = self._client("s3", self.admin).list_objects_v2(Bucket=BUCKET, Prefix=prefix)
        return [one["Key"] for one in found.get("Contents", ())]

    def save(self, name: str, key: Key) -> None:
        """Store a key in the block `aws-credentials/NAME`, as an operator does in the UI."""
        AwsCredentials(
            aws_access_key_id=key.id,
            aws_secret_access_key=key.secret,
            region_name="us-east-1",
            aws_client_parameters=AwsClientParameters(endpoint_url=self.endpoint),
        ).save(name, overwrite=True)


@pytest.fixture(scope="module")
def account(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Account]:
    port = free_port()
    environment = {**os.environ, "INITIAL_NO_AUTH_ACTION_COUNT": str(SETUP_REQUESTS)}
    log = (tmp_path_factory.mktemp("moto") / "moto.log").open("wb")
    server = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "--host", "127.0.0.1", "--port", str(port)],
        env=environment, stdout=log, stderr=log,
    )  # fmt: skip
    until(lambda: listens(port))
    yield Account(f"http://127.0.0.1:{port}")
    server.terminate()
    server.wait(30)
    log.close()


@pytest.fixture
def use(monkeypatch: pytest.MonkeyPatch, account: Account) -> Iterator[pytest.MonkeyPatch]:
    """Settings without keys; blocks that no test has read."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "wrong")
    monkeypatch.setenv("S3_ENDPOINT", account.endpoint)
    monkeypatch.setenv("S3_REGION", "us-east-1")
    monkeypatch.setenv("S3_BUCKET", BUCKET)
    clear_cached_settings()
    S3_BLOCKS.begin_run(None)
    yield monkeypatch
    S3_BLOCKS.begin_run(None)


def choose(use: pytest.MonkeyPatch, *references: str) -> None:
    use.setenv("PANELWORKS_S3_BLOCK", ",".join(references))
    clear_cached_settings()


def write(name: str) -> str:
    return open_folder(f"s3://{BUCKET}", get_settings()).write(name, b"x", "text/plain")


def test_without_a_block_the_keys_of_the_settings_apply(use: pytest.MonkeyPatch) -> None:
    with pytest.raises(Misconfigured, match="S3_ACCESS_KEY_ID"):
        write("a")


def test_a_rotated_key_takes_effect_with_the_next_run(use: pytest.MonkeyPatch, account: Account) -> None:
    """Both keys are valid: only the block decides."""
    use.setattr(s3_blocks, "MAX_AGE_SECONDS", 600.0)
    first, second = account.new_key(), account.new_key()
    account.save("rotated", first)
    choose(use, "aws-credentials/rotated")
    write("b1")
    before = S3_BLOCKS.client_for(BUCKET)
    account.save("rotated", second)
    assert S3_BLOCKS.client_for(BUCKET) is before, "within a run, the block is not read for each request"
    S3_BLOCKS.begin_run(None)
    assert S3_BLOCKS.client_for(BUCKET) is not before
    account.revoke(first)
    write("b2")
    assert {"b1", "b2"} <= set(account.objects())
    account.revoke(second)


def test_a_key_that_was_revoked_within_a_run_is_replaced_at_once(
    use: pytest.MonkeyPatch, account: Account
) -> None:
    first, second = account.new_key(), account.new_key()
    account.save("revoked", first)
    choose(use, "aws-credentials/revoked")
    use.setattr(s3_blocks, "_RELOAD_SECONDS", 0.0)
    write("c1")
    account.save("revoked", second)
    account.revoke(first)
    write("c2")
    account.revoke(second)
    with pytest.raises(Misconfigured, match="aws-credentials/revoked"):
        write("c3")


def test_each_bucket_has_the_block_that_names_it(use: pytest.MonkeyPatch, account: Account) -> None:
    account.save("general", account.admin)
    S3Bucket(bucket_name="elsewhere", credentials=AwsCredentials()).save("elsewhere", overwrite=True)
    choose(use, "s3-bucket/elsewhere", "aws-credentials/general")
    write("d1")
    assert S3_BLOCKS.client_for("elsewhere") is not S3_BLOCKS.client_for(BUCKET)
    assert S3_BLOCKS.client_for("any-other") is S3_BLOCKS.client_for(BUCKET)


def test_keys_of_minio_are_used(use: pytest.MonkeyPatch, account: Account) -> None:
    MinIOCredentials(
        minio_root_user=account.admin.id,
        minio_root_password=account.admin.secret,
        region_name="us-east-1",
        aws_client_parameters=AwsClientParameters(endpoint_url=account.endpoint),
    ).save("minio", overwrite=True)
    choose(use, "minio-credentials/minio")
    write("e1")
    assert "e1" in account.objects()


@pytest.mark.parametrize(
    ("reference", "code"),
    [
        ("panelworks", "bad_s3_block"),
        ("secret/panelworks", "bad_s3_block"),
        ("s3-bucket/none", "unknown_s3_block"),
    ],
)
def test_a_wrong_reference_is_explained(use: pytest.MonkeyPatch, reference: str, code: str) -> None:
    choose(use, reference)
    with pytest.raises(PanelworksError) as caught:
        write("f1")
    assert caught.value.code == code and reference in caught.value.message


def test_a_page_is_delivered_to_the_bucket_of_its_profile(
    use: pytest.MonkeyPatch, account: Account, tmp_path: Path
) -> None:
    """And the next one with the key that was rotated in between, while the first key is revoked."""
    first, second = account.new_key(), account.new_key()
    account.save("archive", first)
    credentials = AwsCredentials.load("archive")
    S3Bucket(bucket_name=BUCKET, bucket_folder="archive", credentials=credentials).save("archive")
    EnhancementProfile(s3_block="s3-bucket/archive").save("archive")
    page = write_page(tmp_path / "one.png", 96, 128, seed=1)
    result = asyncio.run(enhance_page(str(page), profile="archive"))
    assert result.master is not None and result.master.uri.startswith(f"s3://{BUCKET}/archive/")
    account.save("archive", second)
    account.revoke(first)
    page = write_page(tmp_path / "two.png", 96, 128, seed=2)
    assert asyncio.run(enhance_page(str(page), profile="archive")).status == "success"
    assert len(account.objects("archive/upscaled/")) == 2
    account.revoke(second)
