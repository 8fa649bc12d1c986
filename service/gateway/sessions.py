"""Sessions of browsers: a signed cookie that stands for an API key, and the tokens of forms.

A session is signed with the hash of its key. It needs no state, does not contain the key, and ends when the key is removed
or replaced.
"""

import base64
import hashlib
import hmac
import secrets
import time
from typing import Final

from starlette.requests import HTTPConnection, Request
from starlette.responses import Response

SESSION_COOKIE: Final = "panelworks_session"
SESSION_SECONDS: Final = 12 * 3600
_NONCE_BYTES: Final = 16
_MAX_SESSION_CHARACTERS: Final = 1000


def session_cookie(connection: HTTPConnection) -> str:
    """The session that a browser presents; empty if there is none."""
    return connection.cookies.get(SESSION_COOKIE, "")


def sign_session(name: str, digest: bytes, now: float | None = None) -> str:
    """A session of the key with this name and hash, which ends after `SESSION_SECONDS`."""
    ends = int((time.time() if now is None else now) + SESSION_SECONDS)
    encoded = base64.urlsafe_b64encode(name.encode()).decode().rstrip("=")
    content = f"{encoded}.{ends}.{secrets.token_hex(_NONCE_BYTES)}"
    return f"{content}.{_signature(content, digest)}"


def name_in_session(session: str) -> str:
    """The name of the key that a session claims to be of; empty if it is not well-formed."""
    encoded = session[:_MAX_SESSION_CHARACTERS].partition(".")[0]
    try:
        return base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4)).decode()
    except ValueError:
        return ""


def is_signed(session: str, digest: bytes, now: float | None = None) -> bool:
    """Was a session signed with the hash of a key, and has it not ended?"""
    content, _, signature = session[:_MAX_SESSION_CHARACTERS].rpartition(".")
    parts = content.split(".")
    if len(parts) != 3 or not parts[1].isascii() or not parts[1].isdigit():
        return False
    if not hmac.compare_digest(signature.encode(), _signature(content, digest).encode()):
        return False
    return int(parts[1]) > (time.time() if now is None else now)


def anonymous_session() -> str:
    """A session for a gateway without keys: it only ties the tokens of forms to a browser."""
    return secrets.token_urlsafe(32)


def session_of(request: Request) -> tuple[str, bool]:
    """The session of a request, and whether it was created now. A gateway without keys needs one for its forms."""
    known = session_cookie(request)
    return (known, False) if known else (anonymous_session(), True)


def set_session(request: Request, response: Response, session: str) -> None:
    """Store a session in the browser; no script can read it, and no other site can send it."""
    response.set_cookie(
        SESSION_COOKIE, session, max_age=SESSION_SECONDS, httponly=True, samesite="strict",
        secure=request.url.scheme == "https", path="/",
    )  # fmt: skip


def form_token(session: str) -> str:
    """The token that forms of a session contain. Pages of other sites do not know it."""
    return hmac.new(session.encode(), b"form", hashlib.sha256).hexdigest()


def is_form_token(session: str, token: str) -> bool:
    """Is this the token of the session's forms? No session has none."""
    return bool(session) and hmac.compare_digest(token.encode(), form_token(session).encode())


def _signature(content: str, digest: bytes) -> str:
    return hmac.new(digest, content.encode(), hashlib.sha256).hexdigest()
