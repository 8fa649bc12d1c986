"""The flow inside the pods of the tests."""

import os
import signal
import time
from pathlib import Path
from uuid import UUID

from prefect import flow, task
from prefect.client.orchestration import get_client
from prefect.runtime import flow_run
from prefect.states import Crashed


@task
def wait(seconds: float) -> None:
    time.sleep(seconds)


def report_a_crash_at_the_end(note: str) -> None:
    """Wait until somebody else ends this run, and replace its state, as Prefect's engine does when it is terminated."""
    with get_client(sync_client=True) as client:
        run_id = UUID(flow_run.id)
        while not ((state := client.read_flow_run(run_id).state) and state.is_final()):
            time.sleep(0.1)
        client.set_flow_run_state(run_id, Crashed(), force=True)
    with Path(note).open("a", encoding="utf-8") as file:
        file.write("crash reported\n")
    time.sleep(300)


@flow(name="pod-work", log_prints=True)
def work(ends: str = "well", seconds: float = 0, note: str | None = None) -> str:
    """Work for a while, then end in the requested way."""
    if note:
        with Path(note).open("a", encoding="utf-8") as file:
            file.write(f"{os.environ['RUNPOD_POD_ID']}\n")
    wait(seconds)
    if ends == "reporting" and note:
        report_a_crash_at_the_end(note)
    if ends == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if ends == "badly":
        raise ValueError("as requested")
    return ends
