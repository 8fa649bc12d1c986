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
MAX_ATTEMPTS = 3
"""Attempts to kill a run before it ends."""


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


def name_of(stage: str, attempt: int) -> str:
    """Name of the page that is killed in a stage."""
    return f"killed-{stage.replace(' ', '-')}-{attempt}"


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
    jobs: dict[str, tuple[str, str]] = {}
    late = list(KILLED_IN)
    for attempt in range(MAX_ATTEMPTS):
        jobs |= kill_runs(stack, late, attempt)
        runs = {stage: stack.ended(stack.run_id(job_id)) for stage, (job_id, _) in jobs.items()}
        late = [stage for stage, run in runs.items() if run["run_count"] == 1]
        if set(late) <= SHORT_LAST_STAGES:
            break
    assert set(late) <= SHORT_LAST_STAGES, "killed after the end of the run"
    for stage, (job_id, name) in jobs.items():
        assert runs[stage]["state_type"] == "COMPLETED", stage
        assert runs[stage]["run_count"] >= (1 if stage in late else 2), stage
        assert_delivered_once(stack, job_id, name)
    last = stack.run_id(jobs["make variants"][0])
    until(lambda: {"assess", "enhance"} <= cached_tasks(stack, last))


def kill_runs(stack: Stack, stages: list[str], attempt: int) -> dict[str, tuple[str, str]]:
    """Post a page for each stage and kill its process when the stage starts; returns job and name of each page.

    On a busy machine, the event of a start may arrive after the end of the run.
    """
    names = {stage: name_of(stage, attempt) for stage in stages}
    jobs: dict[str, tuple[str, str]] = {}
    with stack.starting_tasks() as tasks:
        for stage, name in names.items():
            data = page(50 + 100 * attempt + KILLED_IN.index(stage), 700, 900)
            jobs[stage] = stack.post(data, f"{name}.png").json()["job_id"], name
        while names:
            run_id, task = next(tasks)
            run = stack.run(run_id)
            for stage in [one for one, name in names.items() if task.startswith(one) and name in run["name"]]:
                if run["state_type"] == "RUNNING":  # otherwise its process executes another page
                    psutil.Process(int(run["infrastructure_pid"])).kill()
                del names[stage]
    return jobs


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
    flaky_s3.down.set()
    try:
        job_id = stack.post(page(80, 700, 900), "s3less.png").json()["job_id"]
        until(lambda: flaky_s3.refused > 0)
        time.sleep(20)
    finally:
        flaky_s3.down.clear()
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
