"""This release continues with the state of an earlier one, recorded with runs in the queue and an interrupted page.

`tests/recovery/recorded/record.py` recorded it. The server migrates its tables.
"""

import gzip
import lzma
from pathlib import Path
from typing import Any

import boto3
import pytest

from panelworks.page.admission import AcceptedJob
from tests.live.stack import Stack
from tests.recovery.recorded.record import BUCKET, REVISION
from tests.recovery.state import (
    QUEUE,
    WAITING,
    assert_settings_are_kept,
    delivered_names,
    make_stack,
    run_command,
)

RECORDED = Path(__file__).parent / "recorded" / "engine-4.tar.xz"
INTERRUPTED = "interrupted.png"


def jobs_by_name(stack: Stack) -> dict[str, str]:
    """The ids of the accepted jobs by the names of their uploads."""
    accepted = (stack.folder / "cache" / "store" / "accepted" / "settled").glob("*.json")
    requests = [AcceptedJob.model_validate_json(path.read_bytes()).request for path in accepted]
    return {request.source.rpartition("/")[2]: request.job_id for request in requests}


def delivered_rows(stack: Stack) -> Any:
    """The rows of the ledger without that of the interrupted run, which is replaced only within a day."""
    rows = stack.rows()
    return rows[rows["status"] == "success"]


@pytest.mark.timeout(300)
def test_waiting_runs_of_an_earlier_release_are_delivered_once(tmp_path: Path, s3_endpoint: str) -> None:
    backup = tmp_path / "backup.tar.gz"
    backup.write_bytes(gzip.compress(lzma.decompress(RECORDED.read_bytes()), 1))
    boto3.client("s3", endpoint_url=s3_endpoint).create_bucket(Bucket=BUCKET)
    stack = make_stack(tmp_path / "stack", s3_endpoint, BUCKET)
    assert run_command(stack, "restore", str(backup), "--check")["schema_revision"] == REVISION
    run_command(stack, "restore", str(backup))
    old = delivered_rows(stack)
    assert sorted(old["tool"]) == ["book", "http"]
    jobs = jobs_by_name(stack)
    waiting = [jobs[name] for name in (INTERRUPTED, *WAITING.values())]
    stack.start()
    try:
        assert_settings_are_kept(stack)
        assert [run["state_type"] for run in map(stack.run, map(stack.run_id, waiting))] == ["SCHEDULED"] * 3
        stack.ask("PATCH", QUEUE, {"is_paused": False})
        assert [stack.end(job)["status"] for job in waiting] == ["done"] * 3
        rows = delivered_rows(stack)
        new = rows[~rows["job_id"].isin(old["job_id"])]
        assert sorted(new["job_id"]) == sorted(waiting)
        assert not new["cached"].any()
        assert delivered_names(stack) == ["interrupted", "waiting-53", "waiting-54"]
    finally:
        stack.stop()
