"""Batches in the working store: stored once, listed by owner, summarized, and their callbacks."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from panelworks.domain.options import EnhanceOptions
from panelworks.domain.request import JobKey, Origin, job_digest
from panelworks.domain.result import ErrorInfo
from panelworks.page.batches import (
    MAX_LISTED_PROBLEMS,
    Batch,
    Batches,
    BatchRow,
    BatchState,
    RowOutcome,
    rows_of,
    summarize,
)
from panelworks.page.callbacks import CallbackRecord, Callbacks
from panelworks.storage.local import LocalFolder

NOW = datetime(2026, 11, 27, 12, tzinfo=UTC)
REFUSED = ErrorInfo(code="bad_row", message="The row names no source.", fault="input")


def batch(batch_id: str = "b1", owner: str | None = "studio", rows: int = 4, **changes: Any) -> Batch:
    made = Batch(
        batch_id=batch_id,
        created_at=NOW,
        out="s3://comics",
        queue="backfill",
        origin=Origin(owner=owner, entry_point="http", metadata={"issue": 7}),
        options=(EnhanceOptions(), EnhanceOptions(scale=3)),
        rows=tuple(
            BatchRow(row=number, name=f"{number}.png", source=f"s3://comics/{number}.png", job_id=f"j{number}", options=number % 2)
            for number in range(rows)
        ),
    )  # fmt: skip
    return made.model_copy(update=changes)


@pytest.fixture
def batches(tmp_path: Path) -> Batches:
    return Batches(LocalFolder(tmp_path))


def test_a_batch_is_stored_once_and_listed_for_its_owner(batches: Batches) -> None:
    first = batch()
    assert batches.store(first) is first
    again = batch(created_at=NOW + timedelta(hours=1))
    assert batches.store(again) == first
    assert again.content == first.content
    assert batch(force=True).content != first.content
    other = batch(owner="reader", created_at=NOW + timedelta(seconds=1))
    assert batches.store(other) is other
    later = batch("b2", created_at=NOW + timedelta(seconds=2))
    batches.store(later)
    assert batches.list_newest("studio", 10, 0) == [later, first]
    assert batches.list_newest("studio", 1, 1) == [first]
    assert batches.list_newest(None, 10, 0) == []
    assert batches.list_newest(None, 10, 0, of_all=True) == [later, other, first]
    assert batches.find(JobKey("studio", "nothing")) is None
    assert {digest for digest, _ in batches.open_batches()} == {
        job_digest(one.key) for one in (first, other, later)
    }
    batches.close(first)
    assert not batches.is_open(first) and batches.is_open(other)


def test_the_state_survives_and_a_damaged_one_is_ignored(batches: Batches, tmp_path: Path) -> None:
    stored = batches.store(batch())
    assert batches.state(stored) == BatchState()
    state = BatchState(started=2, outcomes={0: RowOutcome(status="done", route="upscaled")})
    batches.write_state(stored, state)
    assert batches.state(stored) == state
    assert not batches.is_cancelled(stored)
    batches.request_cancellation(stored)
    assert batches.is_cancelled(stored)
    for file in (tmp_path / "batches" / "states").iterdir():
        file.write_bytes(b"{")
    assert batches.state(stored) == BatchState()


def test_a_request_has_the_options_of_its_row_and_no_callback() -> None:
    made = batch(callback="https://example.com/done")
    requests = [made.request_of(row) for row in made.rows]
    assert [request.options.scale for request in requests] == [None, 3, None, 3]
    assert {request.origin.callback for request in requests} == {None}
    assert requests[0].key == JobKey("studio", "j0")


def test_the_summary_counts_rows_routes_and_cost() -> None:
    rows = (*batch().rows, BatchRow(row=9, name="-", source="", job_id="", error=REFUSED))
    made = batch().model_copy(update={"rows": rows})
    outcomes = {
        0: RowOutcome(status="done", route="upscaled", seconds=1.5, usd=0.25),
        1: RowOutcome(status="done", route="good_quality", cached=True),
        2: RowOutcome(status="failed", error=REFUSED),
    }
    found = summarize(made, BatchState(started=4, outcomes=outcomes))
    counts = {"total": 5, "waiting": 0, "running": 1, "done": 2, "failed": 1, "refused": 1, "cancelled": 0}
    assert found.counts.model_dump() == counts
    assert (found.status, found.percent, found.cached, found.seconds, found.usd) == (
        "running",
        80,
        1,
        1.5,
        0.25,
    )
    assert found.routes == {"upscaled": 1, "good_quality": 1}
    assert [(row.row, row.status) for row in found.problems] == [(2, "failed"), (9, "refused")]
    assert [row.job_id for row in rows_of(made, BatchState())] == ["j0", "j1", "j2", "j3", None]
    assert summarize(made, BatchState(), cancelling=True).status == "cancelling"
    ended = BatchState(started=5, outcomes=outcomes, cancelled=True, ended_at=NOW)
    assert summarize(made, ended).status == "cancelled"


def test_the_callback_of_a_batch_is_recorded_once(tmp_path: Path) -> None:
    callbacks = Callbacks(LocalFolder(tmp_path))
    refused = tuple(
        BatchRow(row=n, name="x" * 500, source="", job_id="", error=REFUSED) for n in range(10_000)
    )
    made = batch(callback="https://example.com/done", rows=0).model_copy(update={"rows": refused})
    summary = summarize(made, BatchState(started=10_000, ended_at=NOW))
    assert len(summary.problems) == MAX_LISTED_PROBLEMS
    callback_id = callbacks.record_batch(made, summary)
    assert callback_id is not None and callbacks.record_batch(made, summary) == callback_id
    assert list(callbacks.pending()) == [callback_id]
    record = callbacks.find(callback_id)
    assert record is not None
    assert record.body["event"] == "comic.batch.ended"
    assert (record.body["batch_id"], record.body["metadata"]) == ("b1", {"issue": 7})
    assert record.body["batch"]["counts"]["refused"] == 10_000
    assert callbacks.record_batch(batch(), summary) is None


def test_the_callback_of_a_page_has_no_field_of_batches() -> None:
    """Earlier releases read such records."""
    record = CallbackRecord.model_validate(
        {
            "address": "https://example.com/x", "owner": None, "job_id": "j",
            "result": {"job_id": "j", "status": "error"}, "recorded_at": NOW, "due_at": NOW,
        }
    )  # fmt: skip
    assert "batch" not in record.model_dump()
    assert record.body["event"] == "comic.panel.failed"
