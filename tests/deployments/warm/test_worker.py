"""The warm worker with a real server: one process for many runs, each run isolated from the others."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import UUID

import psutil
import pytest
from prefect.client.schemas.objects import StateType
from prefect.states import Cancelling

from deployments.pools import template
from tests.deployments import server
from tests.deployments.server import Worker, call_prefect, wait_for_end
from tests.deployments.warm.work import work
from tests.servers import until

POOL = "warm"
COMPLETED, CRASHED = StateType.COMPLETED, StateType.CRASHED


class Warm:
    """A warm worker with one slot."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._notes = 0
        server.make_pool(POOL, template("process"), "process")
        self._deployment = server.deploy(work, POOL)
        self.worker = self.a_worker()

    def a_worker(self, *options: str, **environment: str) -> Worker:
        limits = ("--pool", POOL, "--limit", "1")
        return Worker(self._folder, "panelworks", "worker", *limits, *options, **environment)

    def start(self, variables: dict[str, Any] | None = None, seconds: float = 0) -> tuple[UUID, Path]:
        self._notes += 1
        note = self._folder / f"note-{self._notes}"
        return server.start(self._deployment, variables, note=str(note), seconds=seconds), note

    def ran(self, variables: dict[str, Any] | None = None) -> tuple[int, int, str]:
        """Run once; returns the process, how often it has run the flow, and the variable of the run."""
        run, note = self.start(variables)
        assert wait_for_end(run)[0] == COMPLETED
        pid, loaded, colour = note.read_text().split()
        return int(pid), int(loaded), colour


@pytest.fixture(scope="module")
def warm(tmp_path_factory: pytest.TempPathFactory, prefect_server: None) -> Iterator[Warm]:
    here = Warm(tmp_path_factory.mktemp("warm"))
    here.worker.start()
    yield here
    here.worker.stop()


def test_one_process_executes_many_runs_and_keeps_its_modules(warm: Warm) -> None:
    first, second = warm.ran({"env": {"COLOUR": "red", "UPSCALE_SCALE": "3"}}), warm.ran()
    assert first[0] == second[0] and second[1] == first[1] + 1
    assert (first[2], second[2]) == ("red-3.0", "none-auto"), "variables and settings of a run are its own"


def test_a_cancelled_run_leaves_its_process_warm(warm: Warm) -> None:
    before = warm.ran()
    run, note = warm.start(seconds=120)
    until(note.exists)
    call_prefect(lambda client: client.set_flow_run_state(run, Cancelling()))
    assert wait_for_end(run)[0] == StateType.CANCELLED
    assert warm.ran()[0] == before[0]


def test_a_run_that_is_cancelled_while_its_worker_starts_it_stays_cancelled(warm: Warm) -> None:
    """Prefect's worker marks it as Cancelled while starting it; the run would then continue to Completed."""
    for _ in range(3):
        run, _ = warm.start(seconds=120)
        # At once: a request that arrives while the flow engine starts ends as a crash, in any worker of Prefect (3.9.1).
        until(lambda run=run: server.read(run).state_type != StateType.SCHEDULED, poll_seconds=0.01)  # type: ignore[misc]
        call_prefect(lambda client, run=run: client.set_flow_run_state(run, Cancelling()))  # type: ignore[misc]
        assert wait_for_end(run)[0] == StateType.CANCELLED
        warm.ran()  # the worker has one slot
        assert server.read(run).state_type == StateType.CANCELLED


def test_the_timeout_of_a_task_is_enforced(warm: Warm) -> None:
    before = warm.ran()
    run, _ = warm.start(seconds=8)
    assert wait_for_end(run)[0] == StateType.FAILED
    assert warm.ran()[0] == before[0]


def test_a_killed_process_is_a_crash_and_is_replaced(warm: Warm) -> None:
    run, note = warm.start(seconds=120)
    until(note.exists)
    os.kill(int(note.read_text().split()[0]), signal.SIGKILL)
    assert wait_for_end(run)[0] == CRASHED
    assert warm.ran()[1] == 1, "a new process"


def test_a_run_with_its_own_command_gets_its_own_process(warm: Warm) -> None:
    before = warm.ran()
    other = warm.ran({"command": "prefect flow-run execute"})
    assert other[0] != before[0] and other[1] == 1


def test_a_scheduled_run_does_not_wait_for_the_next_poll(warm: Warm) -> None:
    warm.worker.stop(signal.SIGTERM)
    rarely = warm.a_worker(PREFECT_WORKER_QUERY_SECONDS="600")
    rarely.start()

    def one_ran() -> bool:
        """A run that is scheduled before the worker subscribes starts with the next run."""
        note = warm.start()[1]
        with suppress(AssertionError):
            until(note.exists, 30)
        return note.exists()

    until(one_ran)
    rarely.stop(signal.SIGTERM)
    warm.worker.start()


def test_a_stopped_worker_lets_its_run_end(warm: Warm) -> None:
    run, note = warm.start(seconds=12)
    until(note.exists)
    warm.worker.stop(signal.SIGTERM)
    assert server.read(run).state_type == COMPLETED
    warm.worker.start()


def test_a_killed_worker_leaves_no_process(warm: Warm) -> None:
    warm.ran()
    family = psutil.Process(warm.worker.pid).children(recursive=True)
    assert family
    warm.worker.stop(signal.SIGKILL)
    until(lambda: not any(one.is_running() and one.status() != "zombie" for one in family), 30)
    warm.worker.start()


@pytest.mark.parametrize(
    ("options", "pause"),
    [(("--runs-per-process", "1"), 0), (("--idle-seconds", "2"), 5)],
    ids=["after-its-runs", "when-idle"],
)
def test_a_process_is_replaced(warm: Warm, options: tuple[str, ...], pause: float) -> None:
    warm.worker.stop()
    other = warm.a_worker(*options)
    other.start()
    try:
        first = warm.ran()
        time.sleep(pause)
        assert warm.ran()[0] != first[0]
    finally:
        other.stop()
        warm.worker.start()
