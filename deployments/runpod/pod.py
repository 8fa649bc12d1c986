"""The program inside a pod: `python -m deployments.runpod.pod`.

RunPod restarts a container that has exited, and reports no exit code. So this program executes the flow run once,
reports a process that died to Prefect, and ends the pod, whether or not the pod's worker is still running.
"""

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Final
from uuid import UUID

import httpx
from prefect.client.orchestration import get_client
from prefect.states import Crashed

_RUN_VARIABLE: Final = "PREFECT__FLOW_RUN_ID"
_MAX_RUNTIME_VARIABLE: Final = "PANELWORKS_MAX_RUNTIME_SECONDS"
_API_VARIABLE: Final = "PANELWORKS_RUNPOD_URL"
_GRACE_SECONDS: Final = 30.0


def main() -> None:
    """Execute the flow run named in the environment, then end the pod; does not return while the pod exists."""
    run_id = UUID(os.environ[_RUN_VARIABLE])
    marker = Path(tempfile.gettempdir()) / f"panelworks-{run_id}"
    if marker.exists():
        asyncio.run(report(run_id, "The container died and was restarted; it may have run out of memory."))
    else:
        marker.touch()
        code = execute(float(os.environ.get(_MAX_RUNTIME_VARIABLE, "inf")))
        if code:
            asyncio.run(report(run_id, f"The process of the run ended with exit code {code}."))
    end_pod()
    threading.Event().wait()  # else RunPod restarts the container


def execute(seconds: float) -> int:
    """Run `prefect flow-run execute` and return its exit code. SIGTERM is passed on to it.

    Args:
        seconds: Time limit; infinity: none.
    """
    command = [sys.executable, "-m", "prefect", "flow-run", "execute"]
    process = subprocess.Popen(command)  # noqa: S603 - Prefect's own command
    signal.signal(signal.SIGTERM, lambda number, _: process.send_signal(number))
    try:
        return process.wait(None if seconds == float("inf") else seconds)
    except subprocess.TimeoutExpired:
        process.terminate()
        try:
            return process.wait(_GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            return process.wait()


async def report(run_id: UUID, message: str) -> None:
    """Mark a run as crashed, unless it has a final state or is scheduled again."""
    async with get_client() as client:
        state = (await client.read_flow_run(run_id)).state
        if state and not state.is_final() and not state.is_scheduled():
            await client.set_flow_run_state(run_id, Crashed(message=message))


def end_pod() -> None:
    """End this pod with the key that RunPod provides inside it. If that fails, the worker ends the pod."""
    pod, key = os.environ.get("RUNPOD_POD_ID"), os.environ.get("RUNPOD_API_KEY")
    if not pod or not key:
        return
    url = os.environ.get(_API_VARIABLE, "https://api.runpod.io/v2")
    try:
        httpx.delete(f"{url}/pods/{pod}", headers={"Authorization": f"Bearer {key}"}, timeout=30)
    except httpx.HTTPError as error:
        print(f"pod not ended, its worker will end it: {error}", file=sys.stderr)  # noqa: T201 - the pod's log


if __name__ == "__main__":
    main()
