"""A backup of a running stack, restored elsewhere after the stack and its folders are destroyed."""

import shutil
from pathlib import Path

import boto3
import httpx
import pytest

from deployments.names import gpu_limit
from tests.books import write_book
from tests.live.stack import Stack
from tests.live.test_live import page
from tests.recovery.state import (
    QUEUE,
    assert_settings_are_kept,
    change_settings,
    delivered_names,
    make_stack,
    post_waiting,
    process_shelf,
    run_command,
)
from tests.servers import copy_prepared_database


@pytest.mark.timeout(300)
def test_a_stack_is_restored_from_a_backup(tmp_path: Path, s3_endpoint: str) -> None:
    shelf, books = write_book(tmp_path / "shelf" / "book.cbz", 1, first_seed=51).parent, tmp_path / "books"
    boto3.client("s3", endpoint_url=s3_endpoint).create_bucket(Bucket="restored")
    stack = make_stack(tmp_path / "first", s3_endpoint, "restored")
    copy_prepared_database(Path(stack.environment["PREFECT_HOME"]))
    stack.start()
    try:
        process_shelf(stack, shelf, books)
        delivered = stack.post(page(52), "delivered.png", wait="120").json()
        change_settings(stack)
        stack.ask("PATCH", QUEUE, {"is_paused": True})
        waiting = post_waiting(stack)
        slots = stack.ask("GET", f"/v2/concurrency_limits/{gpu_limit()}")["active_slots"]
        rows, auth = stack.rows(), stack.auth
        backup = run_command(stack, "backup", "--to", str(tmp_path / "backups"))
    finally:
        left = stack.stop()
    assert left == []
    assert slots == 1, "the slot of the last page is in the backup, its lease is not"
    shutil.rmtree(stack.folder)

    stack = make_stack(tmp_path / "second", s3_endpoint, "restored")
    run_command(stack, "restore", backup["path"])
    stack.start()
    try:
        assert stack.auth == auth
        assert stack.rows().equals(rows)
        assert_settings_are_kept(stack)
        assert status_of(stack, delivered["job_id"]) == "done"
        process_shelf(stack, shelf, books)
        assert len(stack.rows()) == len(rows), "the finished book is not processed again"
        assert stack.ask("GET", QUEUE)["is_paused"]
        stack.ask("PATCH", QUEUE, {"is_paused": False})
        assert [stack.end(job)["status"] for job in waiting] == ["done", "done"]
        assert [stack.ended(stack.run_id(job))["state_name"] for job in waiting] == ["Completed", "Completed"]
        assert sorted(stack.rows()["job_id"]) == sorted([*rows["job_id"], *waiting])
        assert delivered_names(stack) == ["delivered", "waiting-53", "waiting-54"]
    finally:
        stack.stop()


def status_of(stack: Stack, job_id: str) -> str:
    answer = httpx.get(f"{stack.gateway}/api/enhancement/status/{job_id}", timeout=30)
    return str(answer.json()["status"])
