"""The stack on Postgres, with a folder instead of S3 and no Redis: the other half of the choices."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.live.postgres import Postgres
from tests.live.stack import Redis, Stack
from tests.live.test_live import page

DATABASE = "PREFECT_SERVER_DATABASE_CONNECTION_URL"


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Postgres]:
    postgres = Postgres(tmp_path)
    postgres.start()
    yield postgres
    postgres.stop()


def test_the_stack_runs_on_postgres(tmp_path: Path, database: Postgres) -> None:
    stack = Stack(tmp_path, Redis(tmp_path), "http://127.0.0.1:9", "none")
    for name in ("REDIS_URL", "S3_BUCKET", "S3_ENDPOINT"):
        stack.environment.pop(name)
    stack.environment |= {DATABASE: database.url, "PANELWORKS_OUT": str(tmp_path / "out")}
    assert stack.check() == (0, [])
    stack.start()
    try:
        (tmp_path / "page.png").write_bytes(page(95))
        operator = stack.end(
            stack.deploy_run("enhance-page/enhance-page", {"source": str(tmp_path / "page.png")})
        )
        assert operator["result"]["route"] == "upscaled"
        job = stack.post(page(96), "posted.png", wait="120").json()
        assert job["status"] == "done"
        assert len(list((tmp_path / "out" / "upscaled").iterdir())) == 2
        assert not (Path(stack.environment["PREFECT_HOME"]) / "prefect.db").exists(), "nothing lies in SQLite"
    finally:
        assert stack.stop() == []


def test_the_checkup_says_what_is_wrong(tmp_path: Path) -> None:
    stack = Stack(tmp_path, Redis(tmp_path), "http://127.0.0.1:9", "pages")
    stack.environment[DATABASE] = "postgresql+asyncpg://nobody@127.0.0.1:9/none"
    code, troubles = stack.check()
    assert code == 1
    assert [trouble.partition(":")[0].split()[0] for trouble in troubles] == ["database", "cache", "delivery"]
