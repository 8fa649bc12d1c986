"""Two stacks for all live tests. Each has a server, a worker and a gateway.

`stack` has SQLite, Redis and S3. `on_postgres` has Postgres, working objects in S3 and no Redis; it exports traces and
writes logs as JSON.
"""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest

from tests.collector import Collector, collecting
from tests.live.flaky import FlakyProxy
from tests.live.postgres import Postgres
from tests.live.stack import CALLBACK_SECRET, CREDENTIALS, DATABASE, Stack
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


@pytest.fixture(scope="session")
def collector() -> Iterator[Collector]:
    """A collector of OpenTelemetry, which receives what `on_postgres` exports."""
    with collecting() as found:
        yield found


@pytest.fixture(scope="session")
def database() -> Iterator[Postgres]:
    """A Postgres server in a folder that its user can reach: each new pytest closes pytest's folders to other users."""
    with tempfile.TemporaryDirectory(prefix="panelworks-postgres-") as folder:
        Path(folder).chmod(0o711)
        postgres = Postgres(Path(folder))
        postgres.start()
        yield postgres
        postgres.stop()


@pytest.fixture(scope="session")
def on_postgres(
    tmp_path_factory: pytest.TempPathFactory, s3_endpoint: str, database: Postgres, collector: Collector
) -> Iterator[Stack]:
    os.environ.update(CREDENTIALS)
    folder = tmp_path_factory.mktemp("on-postgres")
    boto3.client("s3", endpoint_url=s3_endpoint).create_bucket(Bucket="work")
    stack = Stack(folder, Redis(folder), s3_endpoint, "work")
    for name in ("REDIS_URL", "S3_BUCKET"):
        stack.environment.pop(name)
    stack.environment |= {
        DATABASE: database.url,
        "PANELWORKS_OUT": str(folder / "out"),
        "PANELWORKS_STORE": "s3://work/objects",
        "PANELWORKS_S3_BUCKETS": "work",
        "PANELWORKS_ALLOW_PRIVATE_ADDRESSES": "1",
        "PANELWORKS_ALLOW_HTTP": "1",
        "PANELWORKS_CALLBACK_SECRET": CALLBACK_SECRET,
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
        "OTEL_BSP_SCHEDULE_DELAY": "500",
        "OTEL_METRIC_EXPORT_INTERVAL": "2000",
        "LOG_FORMAT": "json",
    }
    assert stack.check() == (0, [])
    stack.start()
    yield stack
    assert stack.stop() == [], "Ctrl-C leaves nothing running"
