"""Parts fail while pages are processed: every page is delivered exactly once."""

import time
from collections.abc import Iterator

import httpx
import psutil
import pytest

from tests.live.flaky import FlakyProxy
from tests.live.stack import Stack
from tests.live.test_live import page
from tests.servers import until

KILLED_IN = ["ingest", "assess", "enhance", "validate", "make variants", "publish"]
"""First words of the names of tasks."""
SHORT_LAST_STAGES = {"publish"}
"""They take milliseconds: the run may have ended before its process is killed."""


@pytest.fixture(autouse=True)
def wait_until_healthy(stack: Stack) -> Iterator[None]:
    """Every part works again before the next test starts."""
    yield
    until(lambda: is_healthy(stack))


def is_healthy(stack: Stack) -> bool:
    try:
        return bool(httpx.get(f"{stack.gateway}/api/health", timeout=5).json()["status"] == "healthy")
    except httpx.HTTPError:
        return False


def name_of(stage: str) -> str:
    """Name of the page that is killed in a stage."""
    return f"killed-{stage.replace(' ', '-')}"


def assert_delivered_once(stack: Stack, job_id: str, stem: str) -> None:
    """Assert one ledger row, one master and a job with the status `done`."""
    rows = stack.rows()
    assert rows[rows["job_id"] == job_id]["status"].tolist() == ["success"]
    assert len(stack.keys(f"upscaled/{stem}-")) == 1
    status = httpx.get(f"{stack.gateway}/api/enhancement/status/{job_id}", timeout=30).json()
    assert status["status"] == "done"
    for variant in status["result"]["variants"]:
        assert len(stack.get(variant["uri"])) == variant["bytes"]


def test_a_run_killed_in_any_stage_is_finished(stack: Stack) -> None:
    jobs: dict[str, str] = {}
    with stack.starting_tasks() as tasks:
        for number, stage in enumerate(KILLED_IN):
            answer = stack.post(page(50 + number, 700, 900), f"{name_of(stage)}.png")
            jobs[stage] = answer.json()["job_id"]
        left = set(KILLED_IN)
        while left:
            run_id, task = next(tasks)
            run = stack.run(run_id)
            for stage in [one for one in left if task.startswith(one) and name_of(one) in run["name"]]:
                psutil.Process(int(run["infrastructure_pid"])).kill()
                left.remove(stage)
    for stage, job_id in jobs.items():
        run = stack.ended(stack.run_id(job_id))
        assert run["state_type"] == "COMPLETED", stage
        assert run["run_count"] == 2 or (run["run_count"] == 1 and stage in SHORT_LAST_STAGES), stage
        assert_delivered_once(stack, job_id, name_of(stage))
    last = stack.run_id(jobs["make variants"])
    until(lambda: {"assess", "enhance"} <= cached_tasks(stack, last))


def cached_tasks(stack: Stack, run_id: str) -> set[str]:
    """First words of the tasks of a run whose results were cached; the server stores task runs a little later."""
    tasks = stack.ask("POST", "/task_runs/filter", {"task_runs": {"flow_run_id": {"any_": [run_id]}}})
    return {task["name"].partition(" with ")[0] for task in tasks if task["state_name"] == "Cached"}


def test_a_killed_worker_with_its_run_is_replaced(stack: Stack) -> None:
    job_id = stack.post(page(60, 700, 900), "worker-killed.png").json()["job_id"]
    for message in stack.follow(job_id):
        if message.get("stage") == "enhance" and message["stage_percent"] == 0 and message["percent"] < 60:
            process, worker = stack.run_process(message["flow_run_id"]), stack.part("worker")
            worker.kill()
            if process is not None:
                process.kill()
            break
    assert stack.ended(stack.run_id(job_id))["state_type"] == "COMPLETED"
    assert_delivered_once(stack, job_id, "worker-killed")


def test_pages_are_processed_without_redis(stack: Stack) -> None:
    jobs = [stack.post(page(70 + n, 700, 900), f"redisless-{n}.png").json()["job_id"] for n in range(2)]
    for message in stack.follow(jobs[0]):
        if message.get("stage") == "enhance":
            stack.redis.stop()
            break
    try:
        for number, job_id in enumerate(jobs):
            assert stack.end(job_id)["status"] == "done"
            assert_delivered_once(stack, job_id, f"redisless-{number}")
        health = httpx.get(f"{stack.gateway}/api/health", timeout=30).json()
        assert (health["status"], health["components"]["cache"]) == ("degraded", "down")
        outages = next(
            line for line in stack.metrics().splitlines() if line.startswith("panelworks_cache_outages_total")
        )
        assert float(outages.split()[-1]) > 0
    finally:
        stack.redis.start()


def test_a_page_is_delivered_after_twenty_seconds_without_s3(stack: Stack, flaky_s3: FlakyProxy) -> None:
    job_id = stack.post(page(80, 700, 900), "s3less.png").json()["job_id"]
    for message in stack.follow(job_id):
        if message.get("stage") == "enhance":
            flaky_s3.down.set()
            break
    time.sleep(20)
    flaky_s3.down.clear()
    assert flaky_s3.refused > 0
    assert stack.ended(stack.run_id(job_id))["state_type"] == "COMPLETED"
    assert_delivered_once(stack, job_id, "s3less")


def test_a_server_that_restarts_loses_no_page(stack: Stack) -> None:
    jobs = [stack.post(page(90 + n, 700, 900), f"serverless-{n}.png").json()["job_id"] for n in range(3)]
    for message in stack.follow(jobs[0]):
        if message.get("stage") == "enhance":
            stack.part("panelworks server").kill()
            break
    until(lambda: is_healthy(stack))
    for number, job_id in enumerate(jobs):
        assert stack.ended(stack.run_id(job_id))["state_type"] == "COMPLETED"
        assert_delivered_once(stack, job_id, f"serverless-{number}")
