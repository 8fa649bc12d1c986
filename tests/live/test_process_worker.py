"""Prefect's own process worker instead of the warm worker: a page is delivered in the same way."""

from collections.abc import Iterator

import pytest

from tests.live.stack import PROCESS_WORKER, Stack
from tests.live.test_faults import assert_delivered_once
from tests.live.test_live import page


@pytest.fixture(scope="module")
def plain(stack: Stack) -> Iterator[Stack]:
    """The stack, whose runs are executed by a process worker."""
    with stack.process_worker(alone=True):
        yield stack


def assert_executed(stack: Stack, job_id: str, stem: str, runs: int = 1) -> None:
    """Assert that the process worker executed a job, in `runs` runs."""
    run = stack.ended(stack.run_id(job_id))
    assert (run["state_type"], run["run_count"]) == ("COMPLETED", runs)
    assert run["labels"]["prefect.worker.name"] == PROCESS_WORKER
    assert_delivered_once(stack, job_id, stem)


def test_a_posted_page_is_delivered(plain: Stack) -> None:
    messages = list(plain.follow(plain.post(page(110), "plain-posted.png").json()["job_id"]))
    assert messages[-1]["status"] == "done"
    assert_executed(plain, messages[-1]["job_id"], "plain-posted")


def test_an_event_is_delivered(plain: Stack) -> None:
    assert_executed(plain, plain.emit(plain.put("incoming/plain-event.png", page(111))), "plain-event")


def test_a_killed_run_is_finished(plain: Stack) -> None:
    with plain.starting_tasks() as tasks:
        job_id = plain.post(page(112, 700, 900), "plain-killed.png").json()["job_id"]
        run_id = next(run for run, task in tasks if task.startswith("enhance"))
        process = plain.run_process(run_id)
        assert process is not None
        process.kill()
    assert_executed(plain, job_id, "plain-killed", runs=2)
