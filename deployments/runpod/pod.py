"""What runs inside a pod: `python -m deployments.runpod.pod`.

RunPod starts a container that has exited again, and tells nobody its exit code. So the flow run is run once; what
died under it is reported to Prefect; then the pod ends itself, whether or not its worker still lives.
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

_RUN: Final = "PREFECT__FLOW_RUN_ID"
_LONGEST: Final = "PANELWORKS_MAX_RUNTIME_SECONDS"
_API: Final = "PANELWORKS_RUNPOD_URL"
_GRACE: Final = 30.0


def main() -> None:
    """Run the flow run of the environment, then end the pod; does not return while the pod lives."""
    run_id = UUID(os.environ[_RUN])
    marker = Path(tempfile.gettempdir()) / f"panelworks-{run_id}"
    if marker.exists():
        asyncio.run(report(run_id, "The container died and was started again: out of memory, perhaps."))
    else:
        marker.touch()
        code = execute(float(os.environ.get(_LONGEST, "inf")))
        if code:
            asyncio.run(report(run_id, f"The process of the run ended with exit code {code}."))
    end_pod()
    threading.Event().wait()  # else RunPod starts the container again


def execute(seconds: float) -> int:
    """Run `prefect flow-run execute`; gives its exit code. SIGTERM is passed on to it."""
    command = [sys.executable, "-m", "prefect", "flow-run", "execute"]
    process = subprocess.Popen(command)  # noqa: S603 - Prefect's own command
    signal.signal(signal.SIGTERM, lambda number, _: process.send_signal(number))
    try:
        return process.wait(None if seconds == float("inf") else seconds)
    except subprocess.TimeoutExpired:
        process.terminate()
        try:
            return process.wait(_GRACE)
        except subprocess.TimeoutExpired:
            process.kill()
            return process.wait()


async def report(run_id: UUID, message: str) -> None:
    """Mark a run as crashed, unless its state says that it ended or waits to be started again."""
    async with get_client() as client:
        state = (await client.read_flow_run(run_id)).state
        if state and not state.is_final() and not state.is_scheduled():
            await client.set_flow_run_state(run_id, Crashed(message=message))


def end_pod() -> None:
    """End this pod, with the key that RunPod gives it; where RunPod does not let it, the worker does it."""
    pod, key = os.environ.get("RUNPOD_POD_ID"), os.environ.get("RUNPOD_API_KEY")
    if not pod or not key:
        return
    url = os.environ.get(_API, "https://api.runpod.io/v2")
    try:
        httpx.delete(f"{url}/pods/{pod}", headers={"Authorization": f"Bearer {key}"}, timeout=30)
    except httpx.HTTPError as trouble:
        print(f"this pod is left to its worker to end: {trouble}", file=sys.stderr)  # noqa: T201 - the pod's log


if __name__ == "__main__":
    main()
