"""The state of a stack that a backup and an upgrade must keep: what operators change, and pages that wait."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.live.stack import Stack
from tests.live.test_live import page
from tests.servers import Redis

QUEUE = "/work_pools/panelworks/queues/interactive"
SECRET = "known to the operator"  # noqa: S105 - of a block in a test
CRON = "30 3 * * 1"
WAITING = {53: "waiting-53.png", 54: "waiting-54.png"}
"""Names of the uploads that wait, by the seeds of their pages."""


def make_stack(folder: Path, s3_endpoint: str, bucket: str) -> Stack:
    """A stack without Redis whose state is in `folder`; pages are delivered to the bucket."""
    folder.mkdir(parents=True)
    stack = Stack(folder, Redis(folder), s3_endpoint, bucket)
    stack.environment.pop("REDIS_URL")
    return stack


def run_command(stack: Stack, *arguments: str) -> dict[str, Any]:
    """Run a command of Panelworks with the settings of a stack; returns what it prints as JSON."""
    done = subprocess.run(
        [sys.executable, "-m", "panelworks", *arguments, "--json"],
        env=stack.environment, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    printed: dict[str, Any] = json.loads(done.stdout)
    return printed


def change_settings(stack: Stack) -> None:
    """Save a block with a secret and change a schedule, as an operator does in the Prefect UI."""
    kind = next(one for one in stack.ask("POST", "/block_types/filter", {}) if one["slug"] == "secret")["id"]
    schema = stack.ask(
        "POST", "/block_schemas/filter", {"block_schemas": {"block_type_id": {"any_": [kind]}}}
    )[0]["id"]
    block = {"name": "token", "data": {"value": SECRET}, "block_schema_id": schema, "block_type_id": kind}
    stack.ask("POST", "/block_documents/", block)
    deployment, schedule = _schedule(stack)
    changed = {"schedule": {"cron": CRON, "timezone": "UTC"}}
    stack.ask("PATCH", f"/deployments/{deployment}/schedules/{schedule['id']}", changed)


def assert_settings_are_kept(stack: Stack) -> None:
    """Assert that `change_settings` is in effect."""
    path = "/block_types/slug/secret/block_documents/name/token?include_secrets=true"
    assert stack.ask("GET", path)["data"]["value"] == SECRET
    assert _schedule(stack)[1]["schedule"]["cron"] == CRON


def _schedule(stack: Stack) -> tuple[str, dict[str, Any]]:
    deployment = stack.ask("GET", "/deployments/name/backfill/backfill")
    return deployment["id"], deployment["schedules"][0]


def process_shelf(stack: Stack, shelf: Path, books: Path) -> None:
    """Run a backfill, also while the queue of pages is paused."""
    parameters = {"archive": str(shelf), "out": str(books)}
    run = stack.deploy_run("backfill/backfill", parameters, work_queue_name="backfill")
    assert stack.ended(run)["state_type"] == "COMPLETED"


def post_waiting(stack: Stack) -> list[str]:
    """Post the pages that wait while the queue is paused; returns their job ids when they have runs."""
    jobs = [stack.post(page(seed), name).json()["job_id"] for seed, name in WAITING.items()]
    for job in jobs:
        stack.run_id(job)
    return jobs


def delivered_names(stack: Stack) -> list[str]:
    """The names of the enhanced pages in the bucket, without their keys, in order."""
    return sorted(key.rpartition("/")[2].rpartition("-")[0] for key in stack.keys("upscaled/"))
