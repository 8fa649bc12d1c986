"""The loop that delivers callbacks, with real receivers: who waits for whom, and what a new leader does."""

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path

import pytest

from flows.enhance_page import enhance_page
from panelworks.domain.options import EnhanceOptions
from panelworks.domain.request import Origin, PageRequest
from panelworks.page import callbacks as callbacks_module
from panelworks.page.callbacks import Callbacks
from panelworks.page.engine import Engine
from panelworks.settings import Settings
from panelworks.sources import web
from panelworks.storage.folder import ObjectFolder, open_folder
from service.supervisor.callback_delivery import (
    MAX_SENDING_PER_HOST,
    MAX_SENDING_PER_KEY,
    CallbackDelivery,
    follow_ended_pages,
)
from service.supervisor.leadership import Leadership
from tests.pages import write_page
from tests.panelworks.page.test_callbacks import RESULT, open_settings, receiver
from tests.servers import QuietHandler, serving

LOOPBACK = ["127.0.0.1", "localhost", "127.1", "127.0.1", "0x7f.1", "2130706433", "0x7f000001"]
"""Spellings of one address, each of which is a host of its own."""


@pytest.fixture
def folder(settings: Settings) -> ObjectFolder:
    return open_folder(settings.store_location, settings)


@pytest.fixture
def without_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(callbacks_module, "RETRY_SECONDS", (0, 0))


class LeadershipByTest(Leadership):
    """Leads when the test says so."""

    def __init__(self, *, leads: bool) -> None:
        super().__init__()
        self.chosen = leads

    @property
    def leads(self) -> bool:
        return self.chosen


class Supervisor:
    """The delivery of one supervisor."""

    def __init__(self, folder: ObjectFolder, settings: Settings, *, leads: bool = True) -> None:
        self.leadership = LeadershipByTest(leads=leads)
        self.delivery = CallbackDelivery(Callbacks(folder), open_settings(settings), self.leadership)

    def count(self, outcome: str) -> int:
        counted: int = getattr(self.leadership.callbacks, outcome)
        return counted

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.delivery.run())
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


async def eventually(true: Callable[[], object]) -> None:
    for _ in range(400):
        if true():
            return
        await asyncio.sleep(0.02)
    raise AssertionError("it did not happen")


def record(folder: ObjectFolder, address: str, job_id: str, owner: str | None = None) -> str:
    origin = Origin(callback=address, owner=owner)
    request = PageRequest(source="data:,x", out="out", job_id=job_id, origin=origin)
    return str(Callbacks(folder).record(request, RESULT, "run"))


def pending(folder: ObjectFolder) -> list[str]:
    return list(Callbacks(folder).pending())


@pytest.fixture
def patient(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """No attempt is given up during a test."""
    monkeypatch.setattr(web, "POST_SECONDS", 300.0)
    return settings.model_copy(update={"fetch_timeout_seconds": 300.0})


@contextmanager
def silent() -> Iterator[tuple[str, list[str]]]:
    """A receiver that reads requests and does not answer before the end of the block; gives its port and the requests."""
    over, received = threading.Event(), list[str]()

    class Silent(QuietHandler):
        def do_POST(self) -> None:  # noqa: N802 - the name that http.server calls
            received.append(self.path)
            over.wait(300)

    with serving(Silent) as address:
        try:
            yield address.rpartition(":")[2], received
        finally:
            over.set()


@pytest.mark.usefixtures("without_pauses")
@pytest.mark.parametrize(
    ("statuses", "outcome", "retries"),
    [([503, 200], "delivered", 1), ([404], "failed", 0), ([503], "failed", 2)],
)
def test_a_pending_callback_is_brought_to_its_end(
    statuses: list[int],
    outcome: str,
    retries: int,
    folder: ObjectFolder,
    settings: Settings,
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def scenario(address: str) -> None:
        record(folder, address, "gen-7")
        async with supervisor.running():
            await eventually(lambda: supervisor.count(outcome))

    handler, received = receiver(*statuses)
    supervisor = Supervisor(folder, settings)
    with serving(handler) as address, caplog.at_level(logging.INFO):
        asyncio.run(scenario(address))
    assert (supervisor.count(outcome), supervisor.count("retried"), len(received)) == (
        1,
        retries,
        retries + 1,
    )
    assert pending(folder) == []
    assert f"callback of job gen-7 {outcome}" in caplog.text


def test_a_silent_receiver_delays_no_other(folder: ObjectFolder, patient: Settings) -> None:
    async def scenario(address: str) -> None:
        async with supervisor.running():
            await eventually(lambda: len(ignored) == MAX_SENDING_PER_HOST)
            supervisor.delivery.expect(record(folder, address, "other"))
            await eventually(lambda: supervisor.count("delivered"))

    handler, received = receiver(204)
    supervisor = Supervisor(folder, patient)
    with silent() as (port, ignored), serving(handler) as address:
        for number in range(40):
            record(folder, f"http://127.0.0.1:{port}/{number}", f"silent-{number}")
        asyncio.run(scenario(address.replace("127.0.0.1", "localhost")))
        assert len(ignored) == MAX_SENDING_PER_HOST
    assert len(received) == 1


def test_silent_receivers_of_one_key_delay_no_other_key(folder: ObjectFolder, patient: Settings) -> None:
    async def scenario(address: str) -> None:
        async with supervisor.running():
            await eventually(lambda: len(ignored) == MAX_SENDING_PER_KEY)
            supervisor.delivery.expect(record(folder, address, "good", "alice"))
            await eventually(lambda: supervisor.count("delivered"))

    handler, received = receiver(204)
    supervisor = Supervisor(folder, patient)
    with silent() as (port, ignored), serving(handler) as address:
        for number in range(40):
            host = LOOPBACK[number % len(LOOPBACK)]
            record(folder, f"http://{host}:{port}/{number}", f"silent-{number}", "bob")
        asyncio.run(scenario(address.replace("127.0.0.1", "127.0x1")))
        assert len(ignored) == MAX_SENDING_PER_KEY
    assert len(received) == 1


def test_the_supervisor_that_leads_delivers(folder: ObjectFolder, settings: Settings) -> None:
    async def scenario(address: str) -> None:
        async with first.running(), second.running():
            for number in range(3):
                one = record(folder, address, f"job-{number}")
                for supervisor in (first, second):  # both receive the event of the page
                    supervisor.delivery.expect(one)
            await eventually(lambda: first.count("delivered") == 3)
            first.leadership.chosen, second.leadership.chosen = False, True
            second.delivery.expect(record(folder, address, "job-3"))
            await eventually(lambda: second.count("delivered"))

    handler, received = receiver(204)
    first, second = Supervisor(folder, settings), Supervisor(folder, settings, leads=False)
    with serving(handler) as address:
        asyncio.run(scenario(address))
    assert (first.count("delivered"), second.count("delivered"), len(received)) == (3, 1, 4)
    assert pending(folder) == []


def test_a_restarted_supervisor_continues(folder: ObjectFolder, settings: Settings) -> None:
    async def until_counted(supervisor: Supervisor, outcome: str) -> None:
        async with supervisor.running():
            await eventually(lambda: supervisor.count(outcome))

    handler, received = receiver(503, 204)
    with serving(handler) as address:
        record(folder, address, "gen-7")
        asyncio.run(until_counted(Supervisor(folder, settings), "retried"))
        assert len(pending(folder)) == 1
        asyncio.run(until_counted(Supervisor(folder, settings), "delivered"))
    assert (len(received), pending(folder)) == (2, [])


def test_a_damaged_record_is_logged_once_and_left(
    folder: ObjectFolder, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario(address: str) -> None:
        async with supervisor.running():
            await eventually(lambda: "not sent" in caplog.text)
            supervisor.delivery.expect("0" * 64)
            supervisor.delivery.expect("../jobs/secret")
            supervisor.delivery.expect(record(folder, address, "good"))
            await eventually(lambda: supervisor.count("delivered"))

    handler, _ = receiver(204)
    supervisor = Supervisor(folder, settings)
    folder.write(f"callbacks/pending/{'0' * 64}.json", b"{", "application/json")
    with serving(handler) as address:
        asyncio.run(scenario(address))
    assert pending(folder) == ["0" * 64]
    assert caplog.text.count("not sent") == 1


@pytest.mark.usefixtures("prefect_server")
def test_a_page_and_its_callback(tmp_path: Path, settings: Settings) -> None:
    """The run ends, Prefect carries its event, and the supervisor calls the receiver before it lists what is pending."""

    async def scenario(address: str) -> None:
        page = write_page(tmp_path / "called.png", seed=31)
        origin = Origin(tool="test", callback=address)
        following = asyncio.create_task(follow_ended_pages(supervisor.delivery))
        async with supervisor.running():
            await eventually(lambda: supervisor.delivery.has_listed)
            await enhance_page(str(page), str(tmp_path / "out"), EnhanceOptions(), False, "job-31", origin)
            await eventually(lambda: supervisor.count("delivered"))
        following.cancel()
        with suppress(asyncio.CancelledError):
            await following

    handler, received = receiver(204)
    supervisor = Supervisor(open_folder(settings.store_location, settings), settings)
    with serving(handler) as address:
        asyncio.run(scenario(address))
    assert (len(received), list(Engine(settings).callbacks.pending())) == (1, [])
