"""Callbacks: recorded once, signed, guarded, retried, and failed on record."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from panelworks.domain.request import Origin, PageRequest
from panelworks.domain.result import ErrorInfo, PageResult
from panelworks.errors import Misconfigured, PanelworksError, Rejected
from panelworks.page import callbacks as callbacks_module
from panelworks.page.callbacks import SIGNATURE, CallbackRecord, Callbacks, send, sign, verify
from panelworks.settings import Settings
from panelworks.storage.folder import ObjectFolder, open_folder
from tests.servers import QuietHandler, serving

RESULT = PageResult(job_id="job", status="success", route="upscaled")
FAILURE = PageResult(job_id="job", status="error", error=ErrorInfo(code="damaged", message="It is damaged."))


def request_with(callback: str | None, job_id: str = "job") -> PageRequest:
    origin = Origin(callback=callback, panel_id="p7", comic_id="c1", metadata={"shelf": 3})
    return PageRequest(source="data:,x", out="out", job_id=job_id, origin=origin)


def callback_to(address: str) -> CallbackRecord:
    return CallbackRecord.of(request_with(address), RESULT, address)


def open_settings(settings: Settings, **more: Any) -> Settings:
    """The test's receiver listens on loopback and speaks plain http."""
    update = {"allow_private_addresses": True, "allow_http": True, "callback_secret": "sesame", **more}
    return Settings.model_validate({**settings.model_dump(), **update})


def receiver(*statuses: int) -> tuple[type[QuietHandler], list[tuple[bytes, str]]]:
    """A receiver that answers with these statuses, the last one from then on; and what it has received."""
    received: list[tuple[bytes, str]] = []

    class Receiver(QuietHandler):
        def do_POST(self) -> None:  # noqa: N802 - the name that http.server calls
            body = self.rfile.read(int(self.headers["Content-Length"]))
            received.append((body, self.headers[SIGNATURE]))
            self.send_response(statuses[min(len(received), len(statuses)) - 1])
            self.end_headers()

    return Receiver, received


@pytest.fixture
def folder(settings: Settings) -> ObjectFolder:
    return open_folder(settings.store_location, settings)


@pytest.fixture
def callbacks(folder: ObjectFolder) -> Callbacks:
    return Callbacks(folder)


@pytest.fixture
def without_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(callbacks_module, "RETRY_SECONDS", (0, 0))


def test_the_receiver_can_trust_what_it_reads(settings: Settings) -> None:
    handler, received = receiver(204)
    with serving(handler) as address:
        send(callback_to(address), open_settings(settings))
    ((body, signature),) = received
    at = int(signature.partition(",")[0].removeprefix("t="))
    assert verify(body, "sesame", signature, now=at)
    assert not verify(body + b" ", "sesame", signature, now=at)
    assert not verify(body, "other", signature, now=at)
    assert not verify(body, "sesame", signature, now=at + 301)
    assert not verify(body, "sesame", "nonsense", now=at)
    sent = json.loads(body)
    assert (sent["event"], sent["panel_id"], sent["metadata"]) == ("comic.panel.enhanced", "p7", {"shelf": 3})
    assert sent["result"]["route"] == "upscaled"


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (503, "server_error"),
        (429, "server_error"),
        (408, "server_error"),
        (404, "callback_refused"),
        (302, "callback_refused"),
    ],
)
def test_a_refusal_is_an_error_with_a_code(status: int, code: str, settings: Settings) -> None:
    handler, _ = receiver(status)
    with serving(handler) as address, pytest.raises(PanelworksError) as caught:
        send(callback_to(address), open_settings(settings))
    assert caught.value.code == code


def test_inner_addresses_are_not_called(settings: Settings) -> None:
    with pytest.raises(PanelworksError) as caught:
        send(callback_to("https://169.254.169.254/"), open_settings(settings, allow_private_addresses=False))
    assert caught.value.code == "forbidden_address"


def test_without_a_secret_nothing_is_sent(settings: Settings) -> None:
    with pytest.raises(Misconfigured, match="PANELWORKS_CALLBACK_SECRET"):
        send(callback_to("https://example.com"), settings)


def test_the_signature_covers_the_time() -> None:
    assert sign(b"body", "secret", 1) != sign(b"body", "secret", 2)


def test_a_job_without_a_callback_records_none(callbacks: Callbacks) -> None:
    assert callbacks.record(request_with(None), RESULT, "run") is None
    assert list(callbacks.pending()) == []


def test_a_callback_is_recorded_once_for_a_job_a_run_and_an_outcome(
    callbacks: Callbacks, settings: Settings
) -> None:
    handler, received = receiver(204)
    with serving(handler) as address:
        request = request_with(address)
        first = callbacks.record(request, RESULT, "run")
        assert first is not None
        assert callbacks.record(request, RESULT, "run") == first, "the run was restarted before the delivery"
        assert list(callbacks.pending()) == [first]
        assert callbacks.attempt(first, open_settings(settings)).outcome == "delivered"
        assert callbacks.record(request, RESULT, "run") == first, "and after it"
        assert list(callbacks.pending()) == []
        others = [
            callbacks.record(request, RESULT, "another run"),
            callbacks.record(request, FAILURE, "run"),
            callbacks.record(request_with(address, "another job"), RESULT, "run"),
        ]
    assert len({first, *others}) == 4
    assert sorted(callbacks.pending()) == sorted(str(one) for one in others)
    assert len(received) == 1


@pytest.mark.usefixtures("without_pauses")
@pytest.mark.parametrize(
    ("statuses", "outcomes", "code"),
    [
        ([204], ["delivered"], None),
        ([503, 204], ["retried", "delivered"], None),
        ([429, 408, 204], ["retried", "retried", "delivered"], None),
        ([404], ["failed"], "callback_refused"),
        ([503, 410], ["retried", "failed"], "callback_refused"),
        ([503], ["retried", "retried", "failed"], "server_error"),
    ],
)
def test_an_attempt_is_repeated_only_where_that_may_help(
    statuses: list[int],
    outcomes: list[str],
    code: str | None,
    callbacks: Callbacks,
    folder: ObjectFolder,
    settings: Settings,
) -> None:
    handler, received = receiver(*statuses)
    with serving(handler) as address:
        one = str(callbacks.record(request_with(address), RESULT, "run"))
        for outcome in outcomes:
            # A gateway that was restarted knows what the store holds, and nothing else.
            assert Callbacks(folder).attempt(one, open_settings(settings)).outcome == outcome
        assert callbacks.attempt(one, open_settings(settings)).outcome == "gone"
    assert len(received) == len(outcomes)
    failed = folder.read(f"callbacks/failed/{one}.json")
    if code is None:
        assert failed is None
        return
    record = CallbackRecord.model_validate_json(failed or b"")
    assert record.error is not None
    assert (record.address, record.attempts, record.error.code) == (address, len(outcomes), code)


@pytest.mark.usefixtures("without_pauses")
@pytest.mark.parametrize(
    ("address", "outcome"),
    [
        ("https://no-such-host.invalid/", "retried"),
        ("https://127.0.0.1/", "failed"),
        ("http://example.com/", "failed"),
        ("https:///done", "failed"),
    ],
)
def test_the_guard_of_addresses_applies_to_callbacks(
    address: str, outcome: str, callbacks: Callbacks, settings: Settings
) -> None:
    guarded = open_settings(settings, allow_private_addresses=False, allow_http=False)
    assert (
        callbacks.attempt(str(callbacks.record(request_with(address), RESULT, "run")), guarded).outcome
        == outcome
    )


def test_an_attempt_before_its_time_sends_nothing(callbacks: Callbacks, settings: Settings) -> None:
    handler, received = receiver(503, 204)
    with serving(handler) as address:
        one = str(callbacks.record(request_with(address), RESULT, "run"))
        assert callbacks.attempt(one, open_settings(settings)).outcome == "retried"
        assert callbacks.attempt(one, open_settings(settings)).outcome == "waiting"
    assert len(received) == 1


def test_two_gateways_send_a_callback_once(folder: ObjectFolder, settings: Settings) -> None:
    """A new leader takes over while the receiver has not answered the old one yet."""
    asked_for, answer, requests = threading.Event(), threading.Event(), []

    class Slow(QuietHandler):
        def do_POST(self) -> None:  # noqa: N802 - the name that http.server calls
            requests.append(self.path)
            asked_for.set()
            answer.wait(8)
            self.send_response(204)
            self.end_headers()

    old, new = Callbacks(folder), Callbacks(folder)
    with serving(Slow) as address, ThreadPoolExecutor(1) as threads:
        one = str(old.record(request_with(address), RESULT, "run"))
        attempt = threads.submit(old.attempt, one, open_settings(settings))
        assert asked_for.wait(30)
        assert new.attempt(one, open_settings(settings)).outcome == "waiting"
        answer.set()
        assert attempt.result().outcome == "delivered"
        assert new.attempt(one, open_settings(settings)).outcome == "gone"
    assert len(requests) == 1


def test_a_callback_whose_gateway_was_killed_is_sent_again(
    callbacks: Callbacks, folder: ObjectFolder, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def kill(*_: object) -> None:
        raise KeyboardInterrupt

    handler, received = receiver(204)
    with serving(handler) as address, monkeypatch.context() as patched:
        one = str(callbacks.record(request_with(address), RESULT, "run"))
        patched.setattr(callbacks_module, "ATTEMPT_LEASE_SECONDS", 0)
        patched.setattr(callbacks_module, "send", kill)
        with pytest.raises(KeyboardInterrupt):
            callbacks.attempt(one, open_settings(settings))
        patched.undo()
        assert Callbacks(folder).attempt(one, open_settings(settings)).outcome == "delivered"
    assert len(received) == 1
    assert json.loads(folder.read(f"callbacks/delivered/{one}.json") or b"{}")["attempts"] == 2


def test_a_failed_callback_that_is_moved_back_is_sent_once_more(
    callbacks: Callbacks, folder: ObjectFolder, settings: Settings
) -> None:
    handler, received = receiver(404, 204)
    with serving(handler) as address:
        one = str(callbacks.record(request_with(address), RESULT, "run"))
        assert callbacks.attempt(one, open_settings(settings)).outcome == "failed"
        kept = folder.read(f"callbacks/failed/{one}.json")
        folder.write(f"callbacks/pending/{one}.json", kept or b"", "application/json")
        folder.delete(f"callbacks/failed/{one}.json")
        assert callbacks.attempt(one, open_settings(settings)).outcome == "delivered"
    assert len(received) == 2


@pytest.mark.parametrize("data", [b"{", b"{}", b" " * ((4 << 20) + 1)], ids=["no JSON", "no record", "large"])
def test_a_damaged_record_is_refused(data: bytes, callbacks: Callbacks, folder: ObjectFolder) -> None:
    folder.write(f"callbacks/pending/{'0' * 64}.json", data, "application/json")
    with pytest.raises(Rejected):
        callbacks.find("0" * 64)


@pytest.mark.parametrize(
    ("address", "host"),
    [
        ("https://Example.COM./done?key=secret", "example.com"),
        ("https://user:word@example.com:8443/", "example.com"),
        ("https://[2001:db8::1]/", "2001:db8::1"),
        ("https://[", "https://["),
        ("", ""),
    ],
)
def test_the_receiver_is_its_host(address: str, host: str) -> None:
    assert callback_to(address).host == host
