"""Pages whose run crashed."""

import json
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from prefect.client.schemas.objects import FlowRun, State
from prefect.states import Crashed

from flows.crashes import GAVE_UP, give_up, record_crash, request_of
from flows.enhance_page import enhance_page
from panelworks.callbacks import SIGNATURE, verify
from panelworks.direct import enhance_directly
from panelworks.engine import Engine
from panelworks.ledger import open_ledger
from panelworks.records import PageRequest
from panelworks.settings import Settings
from panelworks.sources.stored import stored_original
from tests.pages import write_page
from tests.servers import QuietHandler, serving


def crashed_run(callback: str | None = None) -> FlowRun:
    parameters = {"source": "/srv/page.png", "job_id": "gen-7", "origin": {"callback": callback}}
    state: State[Any] = Crashed(message="killed by SIGKILL")
    return FlowRun(id=uuid4(), flow_id=uuid4(), parameters=parameters, state=state)


def rows_of(settings: Settings) -> list[tuple[str, str]]:
    rows = open_ledger(settings).read()
    return list(zip(rows["job_id"].tolist(), rows["error"].tolist(), strict=True))


def test_a_crash_is_in_the_ledger_and_the_last_one_is_told_once(settings: Settings) -> None:
    told: list[tuple[bytes, str]] = []

    class Receiver(QuietHandler):
        def do_POST(self) -> None:  # noqa: N802 - the name that http.server calls
            told.append((self.rfile.read(int(self.headers["Content-Length"])), self.headers[SIGNATURE]))
            self.send_response(204)
            self.end_headers()

    with serving(Receiver) as address:
        opened = {"allow_http": True, "allow_private_addresses": True, "callback_secret": "s"}
        open_settings = Settings.model_validate({**settings.model_dump(), **opened})
        engine, run = Engine(open_settings), crashed_run(address)
        assert run.state is not None
        record_crash(enhance_page, run, run.state)
        assert rows_of(settings) == [("gen-7", "crashed")]
        assert give_up(run, 3, engine)
        assert not give_up(run, 3, engine), "others have told it"
    assert rows_of(settings) == [("gen-7", GAVE_UP)]
    ((body, signature),) = told
    assert verify(body, "s", signature, now=float(signature.split(",")[0][2:]))
    assert json.loads(body)["result"]["error"] == {
        "code": GAVE_UP,
        "message": "The run crashed 3 times and is not tried again: killed by SIGKILL",
        "fault": "service",
    }


def test_a_page_is_given_up_even_if_its_callback_is_away(settings: Settings) -> None:
    engine = Engine(settings)
    assert give_up(crashed_run("https://127.0.0.1:9/told"), 3, engine)
    assert rows_of(settings) == [("gen-7", GAVE_UP)]


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
    request = request_of(run)
    assert request.source == stored_original(result.source)
    assert (request.out, request.job_id) == (str(tmp_path / expected_out), str(run.id))


def test_a_crashed_reenhancement_of_an_unknown_job_is_recorded_as_it_was_asked(settings: Settings) -> None:
    run = FlowRun(id=uuid4(), flow_id=uuid4(), parameters={"of": "no-such-job"}, state=Crashed())
    assert (request_of(run).source, request_of(run).out) == ("no-such-job", settings.default_out)
