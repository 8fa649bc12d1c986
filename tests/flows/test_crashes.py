"""Pages whose run crashed."""

import json
from typing import Any
from uuid import uuid4

from prefect.client.schemas.objects import FlowRun, State
from prefect.states import Crashed

from flows.crashes import GAVE_UP, give_up, record_crash
from flows.enhance_page import enhance_page
from panelworks.callbacks import SIGNATURE, verify
from panelworks.engine import Engine
from panelworks.ledger import open_ledger
from panelworks.settings import Settings
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
    }


def test_a_page_is_given_up_even_if_its_callback_is_away(settings: Settings) -> None:
    engine = Engine(settings)
    assert give_up(crashed_run("https://127.0.0.1:9/told"), 3, engine)
    assert rows_of(settings) == [("gen-7", GAVE_UP)]
