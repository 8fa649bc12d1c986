"""prefect.yaml for real: deployed, picked up by a process worker, delivered."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.settings import PREFECT_HOME

from tests.deployments.server import api_environment, call_prefect
from tests.pages import write_page

ROOT = Path(__file__).parents[2]


def prefect(*arguments: str, timeout: float = 120) -> str:
    """Run Prefect's own command line against the test server."""
    environment = {**os.environ, **api_environment(), "PREFECT_HOME": str(PREFECT_HOME.value())}
    done = subprocess.run(
        [sys.executable, "-m", "prefect", *arguments],
        cwd=ROOT, env=environment, capture_output=True, text=True, timeout=timeout,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


async def create_pool(client: PrefectClient) -> None:
    """Create the work pool and the queues that prefect.yaml names."""
    pool = await client.create_work_pool(WorkPoolCreate(name="panelworks", type="process"), overwrite=True)
    for queue in ("interactive", "events", "backfill"):
        await client.create_work_queue(queue, work_pool_name=pool.name)


def test_a_deployed_page_is_delivered_by_a_worker(tmp_path: Path) -> None:
    page = write_page(tmp_path / "deployed.png", seed=21)
    call_prefect(create_pool)
    prefect("--no-prompt", "deploy", "--all")
    parameters = [f"source={page}", f"out={tmp_path / 'out'}", 'options={"preset": "dall-e"}']
    given = [word for parameter in parameters for word in ("--param", parameter)]
    prefect("deployment", "run", "enhance-page/enhance-page", *given)
    log = prefect("worker", "start", "--pool", "panelworks", "--run-once", timeout=240)
    assert "Finished in state Completed" in log
    assert len(list((tmp_path / "out" / "upscaled").glob("deployed-*.png"))) == 1
    assert len(list((tmp_path / "out" / "variants").glob("*/*.*"))) == 2


@pytest.mark.parametrize(
    "key", ["name", "entrypoint", "description", "work_pool", "enforce_parameter_schema"]
)
def test_every_deployment_says_what_it_is(key: str) -> None:
    for deployment in yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]:
        assert deployment[key]
