"""Callbacks: signed, guarded, and honest about what the receiver answered."""

import json
from typing import Any

import pytest

from panelworks.callbacks import SIGNATURE, deliver_callback, sign, verify
from panelworks.errors import Misconfigured, PanelworksError
from panelworks.records import Origin, PageRequest, PageResult
from panelworks.settings import Settings
from tests.servers import QuietHandler, serving

RESULT = PageResult(job_id="job", status="success", route="upscaled")


def asked(callback: str | None) -> PageRequest:
    origin = Origin(callback=callback, panel_id="p7", comic_id="c1", metadata={"shelf": 3})
    return PageRequest(source="data:,x", out="out", job_id="job", origin=origin)


def open_settings(settings: Settings, **more: Any) -> Settings:
    """The test's receiver listens on loopback and speaks plain http."""
    update = {"allow_private_addresses": True, "allow_http": True, "callback_secret": "sesame", **more}
    return Settings.model_validate({**settings.model_dump(), **update})


def receiver(status: int) -> tuple[type[QuietHandler], list[tuple[bytes, str]]]:
    received: list[tuple[bytes, str]] = []

    class Receiver(QuietHandler):
        def do_POST(self) -> None:  # noqa: N802 - the name that http.server calls
            body = self.rfile.read(int(self.headers["Content-Length"]))
            received.append((body, self.headers[SIGNATURE]))
            self.send_response(status)
            self.end_headers()

    return Receiver, received


def test_the_receiver_can_trust_what_it_reads(settings: Settings) -> None:
    handler, received = receiver(204)
    with serving(handler) as address:
        deliver_callback(asked(address), RESULT, open_settings(settings))
    ((body, signature),) = received
    at = int(signature.partition(",")[0].removeprefix("t="))
    assert verify(body, "sesame", signature, now=at)
    assert not verify(body + b" ", "sesame", signature, now=at)
    assert not verify(body, "other", signature, now=at)
    assert not verify(body, "sesame", signature, now=at + 301)
    assert not verify(body, "sesame", "nonsense", now=at)
    told = json.loads(body)
    assert (told["event"], told["panel_id"], told["metadata"]) == ("comic.panel.enhanced", "p7", {"shelf": 3})
    assert told["result"]["route"] == "upscaled"


@pytest.mark.parametrize(
    ("status", "code"), [(503, "server_error"), (404, "callback_refused"), (302, "callback_refused")]
)
def test_a_refusal_is_an_error_with_a_code(status: int, code: str, settings: Settings) -> None:
    handler, _ = receiver(status)
    with serving(handler) as address, pytest.raises(PanelworksError) as caught:
        deliver_callback(asked(address), RESULT, open_settings(settings))
    assert caught.value.code == code


def test_inner_addresses_are_not_called(settings: Settings) -> None:
    with pytest.raises(PanelworksError) as caught:
        deliver_callback(
            asked("https://169.254.169.254/"), RESULT, open_settings(settings, allow_private_addresses=False)
        )
    assert caught.value.code == "forbidden_address"


def test_without_a_secret_nothing_is_sent(settings: Settings) -> None:
    with pytest.raises(Misconfigured, match="PANELWORKS_CALLBACK_SECRET"):
        deliver_callback(asked("https://example.com"), RESULT, settings)
    deliver_callback(asked(None), RESULT, settings)


def test_the_signature_covers_the_time() -> None:
    assert sign(b"body", "secret", 1) != sign(b"body", "secret", 2)
