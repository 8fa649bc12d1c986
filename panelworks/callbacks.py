"""Callbacks: a signed POST to whoever asked for a page, when it has ended."""

import hashlib
import hmac
import json
import time
from typing import Final

from panelworks.errors import Misconfigured, Rejected
from panelworks.records import PageRequest, PageResult
from panelworks.settings import Settings
from panelworks.sources.web import check_address, post

SIGNATURE: Final = "X-Panelworks-Signature"


def deliver_callback(request: PageRequest, result: PageResult, settings: Settings) -> None:
    """POST the result to the job's callback address, guarded like a source's address.

    Raises:
        UnsafeSource: the address is not on the public internet.
        Transient: the receiver did not answer, or with 5xx or 429.
        Rejected: the receiver answered 4xx.
        Misconfigured: `callback_unsigned`, there is no secret to sign with.
    """
    if request.origin.callback is None:
        return
    if settings.callback_secret is None:
        raise Misconfigured(
            "callback_unsigned", "Callbacks are signed; set PANELWORKS_CALLBACK_SECRET on the workers."
        )
    body = json.dumps(
        {
            "event": "comic.panel.enhanced" if result.status == "success" else "comic.panel.failed",
            "job_id": request.job_id,
            "panel_id": request.origin.panel_id,
            "comic_id": request.origin.comic_id,
            "metadata": request.origin.metadata,
            "result": result.model_dump(mode="json"),
        },
        ensure_ascii=False,
    ).encode()
    signature = sign(body, settings.callback_secret.get_secret_value(), int(time.time()))
    headers = {"Content-Type": "application/json", SIGNATURE: signature}
    post(request.origin.callback, body, headers, settings)


def check_callback(address: str | None, settings: Settings) -> None:
    """Refuse a callback that could never be delivered, before its job is accepted.

    Raises:
        Rejected: `callbacks_off`, there is no secret to sign with; `bad_address`.
        UnsafeSource: `plain_http`, `forbidden_address`.
    """
    if address is None:
        return
    if settings.callback_secret is None:
        raise Rejected(
            "callbacks_off", "This server sends no callbacks: PANELWORKS_CALLBACK_SECRET is not set."
        )
    check_address(address, settings)


def sign(body: bytes, secret: str, at: int) -> str:
    """`t=UNIX_SECONDS,v1=HEX`: HMAC-SHA256 over `t.body`. The time lets a receiver refuse old ones."""
    digest = hmac.new(secret.encode(), f"{at}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={at},v1={digest}"


def verify(body: bytes, secret: str, signature: str, *, now: float, tolerance: float = 300) -> bool:
    """Is the signature ours, and no older than `tolerance` seconds? For receivers."""
    try:
        at = int(dict(part.split("=", 1) for part in signature.split(","))["t"])
    except (KeyError, ValueError):
        return False
    return abs(now - at) <= tolerance and hmac.compare_digest(sign(body, secret, at), signature)
