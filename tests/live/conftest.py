"""One stack for all live tests: server, worker, gateway, Redis, S3."""

import os
from collections.abc import Iterator

import boto3
import pytest

from tests.live.flaky import FlakyProxy
from tests.live.stack import CREDENTIALS, Stack
from tests.servers import Redis


@pytest.fixture(scope="session")
def flaky_s3(s3_endpoint: str) -> Iterator[FlakyProxy]:
    """The S3 endpoint behind a proxy that answers 503 on request."""
    with FlakyProxy(s3_endpoint) as proxy:
        yield proxy


@pytest.fixture(scope="session")
def stack(
    tmp_path_factory: pytest.TempPathFactory, s3_endpoint: str, flaky_s3: FlakyProxy
) -> Iterator[Stack]:
    os.environ.update(CREDENTIALS)
    folder = tmp_path_factory.mktemp("stack")
    client = boto3.client("s3", endpoint_url=s3_endpoint)
    client.create_bucket(Bucket="studio")
    redis = Redis(folder)
    redis.start()
    stack = Stack(folder, redis, flaky_s3.address, "studio")
    stack.start()
    yield stack
    left = stack.stop()
    redis.stop()
    assert left == [], "Ctrl-C leaves nothing running"
    assert stack.unexpected_errors() == []
