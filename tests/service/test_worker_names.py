"""Workers of one machine have different names, so that each knows the runs it left behind."""

import subprocess
import sys

import pytest

from deployments.names import worker_name
from panelworks.errors import Misconfigured
from service.cli.processes import acquire_name

SERVED = "http://127.0.0.1:1/api panelworks"
HOLD = "import sys; from service.cli.processes import acquire_name; print(acquire_name(None, sys.argv[1]), flush=True); input()"


@pytest.fixture
def other_worker() -> subprocess.Popen[str]:
    """Another process with the machine's name, as a worker of the same pool has it."""
    return subprocess.Popen(
        [sys.executable, "-c", HOLD, SERVED], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def test_a_second_worker_has_another_name_until_the_first_has_ended(
    other_worker: subprocess.Popen[str],
) -> None:
    assert other_worker.stdout and other_worker.stdin
    assert other_worker.stdout.readline().strip() == worker_name()
    assert acquire_name(None, SERVED) == f"{worker_name()}-2"
    with pytest.raises(Misconfigured, match="another --name"):
        acquire_name(worker_name(), SERVED)
    assert acquire_name(worker_name(), f"{SERVED} of another server") == worker_name()
    other_worker.communicate("\n", timeout=30)
    assert acquire_name(worker_name(), SERVED) == worker_name()
