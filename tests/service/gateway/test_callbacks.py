"""Callbacks that could never be delivered are refused before the job is accepted."""

from typing import Any

import pytest

from tests.books import page_file
from tests.service.gateway.conftest import Open


@pytest.mark.parametrize(
    ("address", "code"),
    [
        ("file:///etc/passwd", "bad_address"),
        ("https://example.com/\r\nX: y", "bad_address"),
        ("https://127.0.0.1:1/x", "forbidden_address"),
        ("https://[::1]/x", "forbidden_address"),
        ("https://168.63.129.16/x", "forbidden_address"),
        ("http://example.com/x", "plain_http"),
        ("https://xn--/", "bad_address"),
        ("https://", "bad_address"),
    ],
)
def test_addresses_that_are_never_called_are_refused(gateway: Open, address: str, code: str) -> None:
    """Before, each was a 202, and the callback failed in a log that only the operator reads."""
    client = gateway(callback_secret="s" * 32)
    body: dict[str, Any] = {"source": "https://example.com/p.png", "callback": address}
    for place in ("/api/generation/events", "/api/enhancement/process"):
        answer = client.post(place, json=body)
        assert answer.json()["error"]["code"] == code, place
        assert answer.status_code == (422 if code == "bad_address" else 403)


def test_a_server_without_a_secret_says_that_it_sends_no_callbacks(gateway: Open) -> None:
    answer = gateway().post(
        "/api/generation/events",
        json={"source": "https://example.com/p.png", "callback": "https://example.com/done"},
    )
    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "callbacks_off")


@pytest.mark.parametrize("address", ["https://xn--/", "https://xn--a/x", "https://xn--.com/"])
def test_host_names_that_cannot_be_decoded_are_bad_addresses(gateway: Open, address: str) -> None:
    """Before, these answered 500."""
    answer = gateway().post("/api/enhancement/process", json={"source": address})
    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "bad_address")


def test_media_types_are_compared_without_case(gateway: Open) -> None:
    body = b'--XX\r\nContent-Disposition: form-data; name="file"; filename="p.png"\r\n\r\n' + page_file(5)
    answer = gateway().post(
        "/api/pages",
        content=body.replace(b'"file"', b'"image"') + b"\r\n--XX--\r\n",
        headers={"Content-Type": "Multipart/Form-Data; boundary=XX"},
    )
    assert answer.status_code == 200, answer.text
