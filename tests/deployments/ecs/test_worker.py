"""An `ecs` pool from end to end: server, worker and AWS are separate processes or threads, connected by HTTP."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from prefect.client.schemas.filters import LogFilter, LogFilterFlowRunId
from prefect.client.schemas.objects import State, StateType
from prefect.states import AwaitingRetry, Cancelling, Completed, Pending, Running

from deployments.names import WORKER_LABEL
from deployments.pools import template
from tests.deployments import server
from tests.deployments.ecs.cluster import Cluster, refuse_tasks, serve_cluster
from tests.deployments.ecs.work import work
from tests.deployments.server import Worker, api_environment, call_prefect, interpreter, read
from tests.servers import until

POOL = "fleet"
ROLE = "arn:aws:iam::123456789012:role/panelworks"
ACCOUNT = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"}
ESSENTIAL = ("EssentialContainerExited", "Essential container in task exited")


class Fleet:
    """The cluster and the worker of its pool."""

    def __init__(self, folder: Path, cluster: Cluster) -> None:
        self.cluster = cluster
        self._folder = folder
        self.worker = Worker(
            folder, "prefect", "worker", "start", "--pool", POOL, "--type", "panelworks-ecs", "--name", "fleet-1",
            AWS_ENDPOINT_URL=cluster.url, **ACCOUNT,
        )  # fmt: skip
        jobs = template("ecs", POOL)
        values = {
            "poll_seconds": 1, "cluster": cluster.name, "memory": 1024, "cpu": 128, "execution_role_arn": ROLE,
            "configure_cloudwatch_logs": True,
        }  # fmt: skip
        for name, value in values.items():
            jobs["variables"]["properties"][name]["default"] = value
        server.make_pool(POOL, jobs, "ecs")
        self._deployment = server.deploy(work, POOL)

    def start(self) -> UUID:
        """Schedule a run; returns its id."""
        return server.start(self._deployment)

    @contextmanager
    def impatient(self) -> Iterator[None]:
        """A second worker of the pool, which submits no runs, until the end of the block."""
        second = Worker(
            self._folder,
            "tests.deployments.ecs.impatient",
            POOL,
            "impatient",
            AWS_ENDPOINT_URL=self.cluster.url,
            **ACCOUNT,
        )
        second.start()
        yield
        second.stop()

    @contextmanager
    def replaced_by_impatient(self) -> Iterator[None]:
        """The second worker alone."""
        self.worker.stop()
        with self.impatient():
            yield
        self.worker.start()

    def task(self, run: UUID, number: int = 0) -> Any:
        """The task of a run, once the run has its identifier."""
        until(lambda: len(self.cluster.tasks(run)) > number, 60)
        task = self.cluster.tasks(run)[number]
        until(lambda: str(read(run).infrastructure_pid).endswith(task.task_arn), 60)
        return task


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory, prefect_server: None) -> Iterator[Fleet]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in ACCOUNT.items():
            patch.setenv(name, value)
        with serve_cluster("fleet") as cluster:
            here = Fleet(tmp_path_factory.mktemp("fleet"), cluster)
            here.worker.start()
            yield here
            here.worker.stop()


def set_state(run: UUID, state: State[Any]) -> None:
    call_prefect(lambda client: client.set_flow_run_state(run, state))


def log_of(run: UUID) -> str:
    """The log of a run in Prefect."""
    wanted = LogFilter(flow_run_id=LogFilterFlowRunId(any_=[run]))
    return "\n".join(
        record.message for record in call_prefect(lambda client: client.read_logs(wanted, limit=200))
    )


def states_of(run: UUID) -> list[str]:
    """Names of the states of a run, in order."""
    states = call_prefect(lambda client: client.read_flow_run_states(run))
    return [str(state.name) for state in sorted(states, key=lambda state: state.timestamp)]


def workers_online() -> list[str]:
    found = call_prefect(lambda client: client.read_workers_for_work_pool(POOL))
    return [worker.name for worker in found]


def message_of(run: UUID) -> str:
    state = read(run).state
    return (state.message if state else None) or ""


def wait_for_log(run: UUID, *parts: str) -> None:
    """Wait until the log of a run contains all parts."""
    until(lambda: all(part in log_of(run) for part in parts), 60)


def test_the_pool_passes_its_check(fleet: Fleet) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "panelworks", "pools", "check", POOL, "--json"],
        env={**interpreter(), **api_environment(), **ACCOUNT}, capture_output=True, text=True,
    )  # fmt: skip
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert [one["deployment"] for one in found] == [None, "task-work"], done.stderr
    assert done.returncode == 0 and not any(one["problems"] for one in found)


def test_the_task_its_definition_and_its_states_reach_the_run(fleet: Fleet) -> None:
    run = fleet.start()
    task = fleet.task(run)
    definition = task.task_definition_arn
    console = (
        f"https://us-east-1.console.aws.amazon.com/ecs/v2/clusters/fleet/tasks/{task.id}?region=us-east-1"
    )
    wait_for_log(run, definition, console, f"ECS task {task.id} is RUNNING")
    task.last_status = "PROVISIONING"
    wait_for_log(run, f"ECS task {task.id} is PROVISIONING: it waits for an instance")
    task.stopped_reason = "RESOURCE:GPU"
    task.last_status = "PENDING"
    wait_for_log(run, f"ECS task {task.id} is PENDING", "RESOURCE:GPU")
    labels = read(run).labels
    assert (labels["ecs.task"], labels["ecs.task-definition"], labels["ecs.console"]) == (
        task.task_arn,
        definition,
        console,
    )
    assert task.started_by == str(call_prefect(lambda client: client.read_work_pool(POOL)).id)
    set_state(run, Running())
    set_state(run, Completed())
    fleet.cluster.stop(task, *ESSENTIAL, exit_code=0)
    wait_for_log(run, "stopped after it reported its run: exit code 0")
    assert read(run).state_type == StateType.COMPLETED


def test_a_container_that_ends_without_a_report_is_a_crash_with_its_last_lines(fleet: Fleet) -> None:
    run = fleet.start()
    task = fleet.task(run)
    known = "Created ECS task"
    wait_for_log(run, known, "is RUNNING")
    reported = next(line for line in log_of(run).splitlines() if known in line)
    lines = [f"line {number}" for number in range(60)]
    fleet.cluster.write_log(
        task, *lines, f"12:00:00.000 | INFO    | Flow run 'a' - {reported}", "ImportError: torch"
    )
    fleet.cluster.stop(task, *ESSENTIAL, exit_code=1)
    assert server.wait_for_end(run)[0] == StateType.CRASHED
    assert message_of(run).startswith("Container panelworks exited with code 1")
    wait_for_log(run, "ImportError: torch")
    last = log_of(run).partition("Last lines of the container")[2].splitlines()[1:]
    assert last[:48] == lines[-48:] and last[48] == "ImportError: torch", "50 lines, without the known one"


@pytest.mark.parametrize(
    ("stop", "part"),
    [
        (("TaskFailedToStart", "CannotPullContainerError: not found"), "The image cannot be pulled"),
        ((*ESSENTIAL, 137, "OutOfMemoryError: Container killed due to memory usage"), "ran out of memory"),
        (("TaskFailedToStart", "ResourceInitializationError: unable to pull secrets"), "A secret"),
    ],
)  # fmt: skip
def test_the_reason_is_the_message_of_the_crash(fleet: Fleet, stop: tuple[Any, ...], part: str) -> None:
    run = fleet.start()
    task = fleet.task(run)
    if stop[0] == ESSENTIAL[0]:
        set_state(run, Running())
    fleet.cluster.stop(task, *stop)
    assert server.wait_for_end(run)[0] == StateType.CRASHED
    assert part in message_of(run)
    wait_for_log(run, part, "The container's log cannot be read")
    assert states_of(run).count("Crashed") == 1


@pytest.mark.parametrize("state", [None, Running()], ids=["pending", "running"])
def test_a_spot_interruption_is_no_crash(fleet: Fleet, state: State[Any] | None) -> None:
    run = fleet.start()
    task = fleet.task(run)
    if state is not None:
        set_state(run, state)
    fleet.cluster.stop(task, "SpotInterruption", "Your Spot Task was interrupted.", 137)
    second = fleet.task(run, 1)
    assert "AwaitingRetry" in states_of(run) and "Crashed" not in states_of(run)
    wait_for_log(run, "AWS took its machine away")
    set_state(run, Running())
    set_state(run, Completed())
    fleet.cluster.stop(second, *ESSENTIAL, exit_code=0)
    wait_for_log(run, "stopped after it reported its run")


def test_a_run_that_rescheduled_itself_is_not_reported_by_its_old_task(fleet: Fleet) -> None:
    run = fleet.start()
    task = fleet.task(run)
    set_state(run, Running())
    set_state(run, AwaitingRetry())
    second = fleet.task(run, 1)
    fleet.cluster.stop(task, "SpotInterruption", "Your Spot Task was interrupted.", 0)
    wait_for_log(run, f"ECS task {second.id} is RUNNING")
    set_state(run, Running())
    other = fleet.start()
    wait_for_log(other, f"ECS task {fleet.task(other).id} is RUNNING")
    assert read(run).state_type == StateType.RUNNING
    assert states_of(run).count("AwaitingRetry") == 1 and "Crashed" not in states_of(run)
    set_state(run, Completed())


def test_a_pending_run_that_is_cancelled_stops_its_task(fleet: Fleet) -> None:
    run = fleet.start()
    task = fleet.task(run)
    task.last_status = "PROVISIONING"
    wait_for_log(run, "is PROVISIONING")
    set_state(run, Cancelling())
    assert server.wait_for_end(run)[0] == StateType.CANCELLED
    assert (task.desired_status, task.stopped_reason) == ("STOPPED", "Its flow run was cancelled.")


def test_a_running_run_that_ignores_its_cancellation_is_ended(fleet: Fleet) -> None:
    run = fleet.start()
    task = fleet.task(run)
    wait_for_log(run, "is RUNNING")
    set_state(run, Running())
    set_state(run, Cancelling())
    until(lambda: read(run).state_type == StateType.CANCELLING)
    assert task.desired_status == "RUNNING", "the run has time to end itself"
    with fleet.replaced_by_impatient():
        call_prefect(lambda client: client.update_flow_run_labels(run, {WORKER_LABEL: "impatient"}))
        until(lambda: bool(task.desired_status == "STOPPED"), 60)
    assert server.wait_for_end(run)[0] == StateType.CANCELLED
    assert "did not react" in message_of(run)


def test_a_running_run_whose_task_stops_during_its_cancellation_is_cancelled(fleet: Fleet) -> None:
    run = fleet.start()
    task = fleet.task(run)
    set_state(run, Running())
    set_state(run, Cancelling())
    fleet.cluster.stop(task, "UserInitiated", "stopped by hand", 143)
    assert server.wait_for_end(run)[0] == StateType.CANCELLED
    assert "stopped by hand" in message_of(run)


def test_a_task_that_cannot_be_placed_is_explained(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    refuse_tasks(monkeypatch, "RESOURCE:GPU")
    run = fleet.start()
    assert server.wait_for_end(run)[0] == StateType.CRASHED
    assert "No instance has a free GPU" in message_of(run)


def test_tasks_are_found_again_by_the_next_worker(fleet: Fleet) -> None:
    dies, lives, unrecorded = (fleet.start() for _ in range(3))
    tasks = {run: fleet.task(run) for run in (dies, lives, unrecorded)}
    fleet.worker.stop(signal.SIGKILL)
    call_prefect(lambda client: client.update_flow_run(unrecorded, infrastructure_pid=""))
    fleet.cluster.stop(tasks[dies], *ESSENTIAL, exit_code=1)
    fleet.worker.start()
    assert server.wait_for_end(dies)[0] == StateType.CRASHED
    until(lambda: str(read(unrecorded).infrastructure_pid).endswith(tasks[unrecorded].task_arn), 60)
    for run in (lives, unrecorded):
        assert read(run).state_type == StateType.PENDING
        fleet.cluster.stop(tasks[run], *ESSENTIAL, exit_code=3)
    for run in (lives, unrecorded):
        assert server.wait_for_end(run)[0] == StateType.CRASHED
        assert "exited with code 3" in message_of(run)


def test_tasks_of_another_running_worker_are_left_to_it(fleet: Fleet) -> None:
    """Both would report the end of the task."""
    run = fleet.start()
    task = fleet.task(run)
    wait_for_log(run, "is RUNNING")
    with fleet.impatient():
        until(lambda: "impatient" in workers_online())
        fleet.cluster.stop(task, *ESSENTIAL, exit_code=3)
        assert server.wait_for_end(run)[0] == StateType.CRASHED
        wait_for_log(run, "ECS task stopped before it reported", "The container's log cannot be read")
    assert log_of(run).count("ECS task stopped before it reported") == 1
    assert log_of(run).count("uses task definition") == 1


def test_a_run_that_never_got_a_task_is_scheduled_again(fleet: Fleet) -> None:
    with fleet.replaced_by_impatient():
        run = fleet.start()
        set_state(run, Pending())
        until(lambda: states_of(run)[-1] == "AwaitingRetry", 60)
    fleet.task(run)
