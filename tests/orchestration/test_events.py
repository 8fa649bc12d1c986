"""Progress of stages as events: none for a short stage, few for a long one."""

import time
from typing import Any

import pytest

from orchestration import events
from orchestration.events import (
    BACKFILL_PROGRESS,
    BOOK_PROGRESS,
    emit_run_progress,
    report_stage,
    reporting,
)
from panelworks.domain.request import Origin, PageRequest

REQUEST = PageRequest(source="data:,x", out="out", job_id="job", origin=Origin())


@pytest.fixture
def emitted(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The payloads of emitted events."""
    payloads = list[dict[str, Any]]()

    def emit(event: str, resource: dict[str, str], payload: dict[str, Any]) -> None:
        assert event == events.PROGRESS
        payloads.append(payload)

    monkeypatch.setattr(events, "emit_event", emit)
    return payloads


def wait_for_first(emitted: list[dict[str, Any]]) -> None:
    deadline = time.monotonic() + 30
    while not emitted:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_short_stage_emits_nothing(emitted: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "PROGRESS_DELAY_SECONDS", 60.0)
    with reporting(REQUEST), report_stage("enhance") as progress:
        for share in (0.2, 0.6, 1.0):
            progress(share)
    assert emitted == []


def test_a_long_stage_emits_begin_progress_and_end(
    emitted: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "PROGRESS_DELAY_SECONDS", 0.01)
    monkeypatch.setattr(events, "PROGRESS_INTERVAL_SECONDS", 0.0)
    with reporting(REQUEST), report_stage("enhance") as progress:
        wait_for_first(emitted)
        progress(0.5)
    assert [(one["stage"], one["stage_percent"], one["percent"]) for one in emitted] == [
        ("enhance", 0.0, 10.0),
        ("enhance", 50.0, 41.0),
        ("enhance", 100.0, 72.0),
    ]


def test_progress_inside_a_stage_is_limited(
    emitted: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "PROGRESS_DELAY_SECONDS", 0.01)
    monkeypatch.setattr(events, "PROGRESS_INTERVAL_SECONDS", 60.0)
    with reporting(REQUEST), report_stage("enhance") as progress:
        wait_for_first(emitted)
        for tile in range(100):
            progress(tile / 100)
    assert [one["stage_percent"] for one in emitted] == [0.0, 100.0]


def test_a_failed_stage_emits_no_end(emitted: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "PROGRESS_DELAY_SECONDS", 0.01)
    with pytest.raises(RuntimeError), reporting(REQUEST), report_stage("enhance"):
        wait_for_first(emitted)
        raise RuntimeError
    assert [one["stage_percent"] for one in emitted] == [0.0]


def test_outside_of_a_job_nothing_is_emitted(
    emitted: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "PROGRESS_DELAY_SECONDS", 0.0)
    with report_stage("enhance") as progress:
        progress(0.5)
        time.sleep(0.05)
    assert emitted == []


def test_progress_of_a_run_is_an_event_whose_failure_is_a_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    emitted = list[tuple[str, dict[str, Any]]]()

    def emit(event: str, resource: dict[str, str], payload: dict[str, Any]) -> None:
        emitted.append((event, payload))
        if len(emitted) == 2:
            raise ConnectionError

    monkeypatch.setattr(events, "emit_event", emit)
    emit_run_progress(BOOK_PROGRESS, 0.254, "5 of 20 pages")
    emit_run_progress(BACKFILL_PROGRESS, 1.0, "3 of 3 books")
    assert [(event, one["percent"], one["description"]) for event, one in emitted] == [
        ("comic.book.progress", 25.4, "5 of 20 pages"),
        ("comic.backfill.progress", 100.0, "3 of 3 books"),
    ]
    assert "comic.backfill.progress" in caplog.text
