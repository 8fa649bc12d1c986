"""Requests of runs, and pages whose run crashed."""

from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import given
from prefect.client.schemas.objects import FlowRun, State
from prefect.states import Crashed

from flows.enhance_page import enhance_page
from orchestration.page_runs import CRASHED_FOR_GOOD, fail_crashed_page, read_request, record_crash
from panelworks.accounting.ledger import open_ledger
from panelworks.domain.request import PageRequest
from panelworks.page.direct import enhance_directly
from panelworks.page.engine import Engine
from panelworks.settings import Settings
from panelworks.sources.stored import stored_original
from tests.pages import write_page
from tests.requests import page_requests


def crashed_run(callback: str | None = None) -> FlowRun:
    parameters = {"source": "/srv/page.png", "job_id": "gen-7", "origin": {"callback": callback}}
    state: State[Any] = Crashed(message="killed by SIGKILL")
    return FlowRun(id=uuid4(), flow_id=uuid4(), parameters=parameters, state=state)


def rows_of(settings: Settings) -> list[tuple[str, str]]:
    rows = open_ledger(settings).read()
    return list(zip(rows["job_id"].tolist(), rows["error"].tolist(), strict=True))


def test_a_crash_is_in_the_ledger_and_the_last_one_is_reported_once(settings: Settings) -> None:
    engine, run = Engine(settings), crashed_run("https://example.com/done")
    assert run.state is not None
    record_crash(enhance_page, run, run.state)
    assert rows_of(settings) == [("gen-7", "crashed")]
    assert list(engine.callbacks.pending()) == []
    assert fail_crashed_page(run, 3, engine)
    assert not fail_crashed_page(run, 3, engine), "another supervisor has reported it"
    assert rows_of(settings) == [("gen-7", CRASHED_FOR_GOOD)]
    (one,) = engine.callbacks.pending()
    callback = engine.callbacks.find(one)
    assert callback is not None
    assert (callback.address, callback.job_id) == ("https://example.com/done", "gen-7")
    assert callback.result is not None and callback.result.error is not None
    assert callback.result.error.model_dump() == {
        "code": CRASHED_FOR_GOOD,
        "message": "The run crashed 3 times and is not restarted: killed by SIGKILL",
        "fault": "service",
    }


def test_a_crashed_page_without_a_callback_is_reported_too(settings: Settings) -> None:
    engine = Engine(settings)
    assert fail_crashed_page(crashed_run(), 3, engine)
    assert rows_of(settings) == [("gen-7", CRASHED_FOR_GOOD)]
    assert list(engine.callbacks.pending()) == []


@pytest.mark.parametrize(
    ("named_by", "out", "expected_out"),
    [("job", None, "first"), ("job", "other", "other"), ("key", "first", "first")],
)
def test_a_crashed_reenhancement_is_recorded_for_its_original(
    named_by: str, out: str | None, expected_out: str, tmp_path: Path
) -> None:
    page, first = write_page(tmp_path / "page.png"), str(tmp_path / "first")
    result = enhance_directly(PageRequest(source=str(page), out=first, job_id="gen-7"))
    assert result.source and result.content_key
    parameters: dict[str, Any] = {"of": "gen-7" if named_by == "job" else result.content_key}
    parameters["out"] = out and str(tmp_path / out)
    run = FlowRun(id=uuid4(), flow_id=uuid4(), parameters=parameters, state=Crashed())
    request, _ = read_request(run.parameters, str(run.id))
    assert request.source == stored_original(result.source)
    assert (request.out, request.job_id) == (str(tmp_path / expected_out), str(run.id))


def test_a_crashed_reenhancement_of_an_unknown_job_is_recorded_as_it_was_given(settings: Settings) -> None:
    run = FlowRun(id=uuid4(), flow_id=uuid4(), parameters={"of": "no-such-job"}, state=Crashed())
    request, refusal = read_request(run.parameters, str(run.id))
    assert (request.source, request.out, refusal) == ("no-such-job", settings.default_out, None)


@given(page_requests())
def test_a_crashed_run_is_recorded_with_its_request(request: PageRequest) -> None:
    run = FlowRun(id=uuid4(), flow_id=uuid4(), parameters=request.to_parameters(), state=Crashed())
    assert read_request(run.parameters, str(run.id)) == (request, None)


def test_a_crashed_run_of_an_unusable_event_is_recorded_as_an_event(settings: Settings) -> None:
    run = FlowRun(id=uuid4(), flow_id=uuid4(), parameters={"source": "x", "event": "[]"}, state=Crashed())
    request, refusal = read_request(run.parameters, str(run.id))
    assert (request.source, request.origin.entry_point) == ("x", "event")
    assert refusal is not None and refusal.code == "refused_event"
