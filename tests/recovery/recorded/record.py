"""Records the state of a stack of an earlier commit for `tests/recovery/test_upgrade.py`: a backup without old events.

    git archive d97fc38~1 | tar --extract --directory OLD      # the last commit with ENGINE_VERSION 4
    python -m tests.recovery.recorded.record OLD tests/recovery/recorded/engine-4.tar.xz

The old stack delivers a page and a book, has changes of an operator, and a page whose process was killed and two uploads in
a paused queue. The destination is a bucket, so that the runs that wait can deliver on any machine. The `backup` command is
that of the commit that records.
"""

import gzip
import lzma
import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import boto3
from moto.server import ThreadedMotoServer

from tests.books import write_book
from tests.live.stack import CREDENTIALS, Stack
from tests.live.test_live import page
from tests.recovery.state import QUEUE, change_settings, make_stack, post_waiting, process_shelf, run_command
from tests.servers import ROOT, copy_prepared_database, until

BUCKET = "recorded"
REVISION = "79e7a60e43d8"
"""Of the tables: five migrations before those of Prefect 3.9.1."""
UNNEEDED_ROWS = (
    "events",
    "event_resources",
    "log",
    "artifact",
    "artifact_collection",
    "block_schema_reference",
    "block_schema WHERE id NOT IN (SELECT block_schema_id FROM block_document)",
)
"""They would make the file large; the server registers its types of blocks again."""


def fill(stack: Stack, folder: Path) -> None:
    """Make the state, in which a page was interrupted after its first stages."""
    process_shelf(stack, write_book(folder / "shelf" / "book.cbz", 1, first_seed=51).parent, folder / "books")
    delivered = stack.post(page(52), "delivered.png", wait="120").json()
    assert delivered["status"] == "done", delivered
    change_settings(stack)
    with stack.starting_tasks() as tasks:
        job = stack.post(page(55, 1100, 1200), "interrupted.png").json()["job_id"]
        run_id = stack.run_id(job)
        for run, name in tasks:
            if run == run_id and name.startswith("enhance"):
                break
    stack.ask("PATCH", QUEUE, {"is_paused": True})
    process = stack.run_process(run_id)
    assert process
    process.kill()
    until(lambda: stack.run(run_id)["state_type"] == "SCHEDULED")  # the supervisor restarts it
    post_waiting(stack)


def record(old: Path, target: Path, folder: Path) -> None:
    """Start the stack of the checkout in `old`, make the state, and store the backup as `target`."""
    os.environ.update(CREDENTIALS)
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    endpoint = f"http://{host}:{port}"
    boto3.client("s3", endpoint_url=endpoint).create_bucket(Bucket=BUCKET)
    stack = make_stack(folder / "stack", endpoint, BUCKET)
    copy_prepared_database(Path(stack.environment["PREFECT_HOME"]))
    os.chdir(old)  # the parts import the packages of their working folder
    stack.start()
    try:
        fill(stack, folder)
    finally:
        stack.stop()
        os.chdir(ROOT)
        server.stop()
    store_backup(stack, target)


def store_backup(stack: Stack, target: Path) -> None:
    """Back up a stopped stack, without old events and with the tables of an earlier version of Prefect."""
    with closing(sqlite3.connect(Path(stack.environment["PREFECT_HOME"]) / "prefect.db")) as connection:
        for rows in UNNEEDED_ROWS:
            connection.execute(f"DELETE FROM {rows}")  # noqa: S608 - the constants above
        connection.commit()
    command = [
        sys.executable,
        "-m",
        "prefect",
        "server",
        "database",
        "downgrade",
        "--yes",
        f"--revision={REVISION}",
    ]
    subprocess.run(command, env=stack.environment, check=True)
    backup = Path(run_command(stack, "backup", "--to", str(stack.folder / "backups"))["path"])
    target.write_bytes(lzma.compress(gzip.decompress(backup.read_bytes()), preset=9 | lzma.PRESET_EXTREME))


if __name__ == "__main__":
    place = Path("/tmp/panelworks-recorded")  # noqa: S108 - part of the recorded paths
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    record(Path(sys.argv[1]).absolute(), Path(sys.argv[2]).absolute(), place)
