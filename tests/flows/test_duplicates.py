"""Repeated events that arrive at Prefect: the second run ends at once, with the first one's result."""

import asyncio
import base64
import uuid
from pathlib import Path
from typing import Any

from prefect.client.schemas.objects import FlowRun, State
from prefect.flows import Flow

from flows.enhance_page import enhance_page
from orchestration.page_runs import DUPLICATE
from panelworks.accounting.ledger import open_ledger
from panelworks.domain.options import EnhanceOptions
from panelworks.domain.request import JobKey, Origin
from panelworks.page.engine import get_engine
from panelworks.settings import get_settings
from tests.books import page_file


def run(job_id: str, source: bytes, origin: Origin) -> State[Any]:
    address = "data:image/png;base64," + base64.b64encode(source).decode()

    async def process() -> State[Any]:
        return await enhance_page(address, None, EnhanceOptions(), False, job_id, origin, return_state=True)

    return asyncio.run(process())


def test_a_repeated_event_ends_as_a_duplicate(tmp_path: Path) -> None:
    job_id, event, page = f"dup-{uuid.uuid4()}", Origin(entry_point="event", tool="test"), page_file(61)
    first = run(job_id, page, event)
    again = run(job_id, page, event)
    assert (first.name, again.name) == ("Completed", DUPLICATE)
    assert again.type == first.type
    assert "was started before" in str(again.message)
    results = [asyncio.run(state.aresult()) for state in (first, again)]
    assert results[0].job_id == results[1].job_id == job_id
    assert not results[1].cached, "it is the result of the first run"
    rows = open_ledger(get_settings()).read()
    assert rows[rows["job_id"] == job_id]["cached"].tolist() == [False]
    other = run(job_id, page, Origin(entry_point="event", tool="test", owner="studio"))
    assert other.name == "Completed", "the same id of another key is another job"


def test_a_run_that_was_cancelled_while_its_worker_started_it_does_not_process_its_page() -> None:
    """Regression: the page was computed and the job went from cancelled to done."""
    job_id, event = f"cancelled-{uuid.uuid4()}", Origin(entry_point="event", tool="test")
    engine, cancelled = get_engine(), set[str]()

    def cancel(flow: Flow[Any, Any], flow_run: FlowRun, state: State[Any]) -> None:
        engine.accepted.cancel_run(str(flow_run.id))
        cancelled.add(str(flow_run.id))

    address = "data:image/png;base64," + base64.b64encode(page_file(63)).decode()
    flow = enhance_page.with_options(on_running=[cancel])

    async def process() -> State[Any]:
        return await flow(address, None, EnhanceOptions(), False, job_id, event, return_state=True)

    state = asyncio.run(process())
    assert state.is_cancelled()
    assert engine.jobs.job(JobKey(None, job_id)) is None, "nothing was processed"
    (run_id,) = cancelled
    assert not engine.accepted.take_cancellation(run_id), "the run can be repeated"
    assert run(job_id, page_file(63), event).name == "Completed"


def test_a_job_that_failed_is_processed_again() -> None:
    job_id, event = f"dup-{uuid.uuid4()}", Origin(entry_point="event", tool="test")
    assert run(job_id, b"no picture", event).is_failed()
    holder = get_engine().accepted.claimed_by(JobKey(None, job_id))
    assert holder is not None
    assert run(job_id, page_file(62), event).name == "Completed"
    assert get_engine().accepted.claimed_by(JobKey(None, job_id)) != holder
