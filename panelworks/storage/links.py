"""Signed links: addresses of published objects that work without a key until they expire."""

import hashlib
import hmac
import logging
import re
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final
from urllib.parse import quote

from panelworks.errors import Misconfigured, PanelworksError, Rejected
from panelworks.settings import Settings
from panelworks.storage.headers import delivered_name, is_in_review, is_picture_name
from panelworks.storage.location import Location

logger = logging.getLogger(__name__)

MEDIA_PATH: Final = "/media/"
"""Path of published pictures at the gateway; the name of the object follows."""
_EXPIRES: Final = re.compile(r"[0-9]{1,12}", re.ASCII)
_SIGNATURE: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)


@dataclass(frozen=True)
class SignedLink:
    """An address that works without a key."""

    url: str
    expires_at: datetime


def make_link(uri: str, settings: Settings) -> SignedLink | None:
    """A signed link to the published object with this address; None if the settings want none, or it waits for review.

    Links of the gateway are for pictures at the default destination, presigned ones for objects in any bucket.

    Raises:
        Misconfigured: `links_unsigned`.
    """
    expires = int(time.time()) + settings.link_seconds
    url = None
    if settings.links == "gateway":
        name = delivered_name(uri, settings)
        url = _gateway_url(name, expires, settings) if name is not None and is_picture_name(name) else None
    elif settings.links == "s3" and Location.parse(uri).is_in_bucket:
        url = _presigned_url(uri, settings)
    return None if url is None else SignedLink(url, datetime.fromtimestamp(expires, UTC))


def _gateway_url(name: str, expires: int, settings: Settings) -> str:
    check_link_settings(settings)
    signature = sign_name(name, expires, settings.link_secrets[0].get_secret_value())
    base = (settings.gateway_url or "").rstrip("/")
    return f"{base}{MEDIA_PATH}{quote(name)}?expires={expires}&signature={signature}"


def _presigned_url(uri: str, settings: Settings) -> str | None:
    """The presigned address of an object; None if it waits for review, or cannot be signed now."""
    from panelworks.storage.s3 import S3Folder

    place = Location.parse(uri)
    if is_in_review(place.key):
        return None
    try:
        return S3Folder(place.bucket, "", settings).presigned_url(place.key, settings.link_seconds)
    except PanelworksError as error:
        logger.warning("link to %s not signed: %s [%s]", uri, error, error.code)
        return None


def check_link_settings(settings: Settings) -> None:
    """Refuse settings with which no link can be signed.

    Raises:
        Misconfigured: `links_unsigned`.
    """
    if settings.links == "gateway" and not settings.link_secrets:
        raise Misconfigured("links_unsigned", "Links of the gateway are signed; set PANELWORKS_LINK_SECRETS.")


def sign_name(name: str, expires: int, secret: str) -> str:
    """HMAC-SHA256 over the name of an object and the second at which the link expires, in hexadecimal."""
    text = f"panelworks-link-v1\n{expires}\n{name}"
    return hmac.new(secret.encode(), text.encode("utf-8", "surrogateescape"), hashlib.sha256).hexdigest()


def check_link(name: str, expires: str, signature: str, settings: Settings) -> int:
    """Check a signed link; returns for how many seconds it works from now on.

    Args:
        name: The name of the object in the address, decoded.
        expires: The parameter of the address.
        signature: The parameter of the address.
        settings: The keys. Each of them is tried, in the same time whether it fits or not.

    Raises:
        Rejected: `bad_link`, the signature does not belong to this name and time; `link_expired`.
    """
    if not (_EXPIRES.fullmatch(expires) and _SIGNATURE.fullmatch(signature)):
        raise _bad_link()
    fits = [
        hmac.compare_digest(sign_name(name, int(expires), secret.get_secret_value()), signature)
        for secret in settings.link_secrets
    ]
    # `01` and `1` are one number: the text of the time must be the one that was signed.
    if not any(fits) or str(int(expires)) != expires:
        raise _bad_link()
    left = int(expires) - int(time.time())
    if left <= 0:
        raise Rejected("link_expired", "This link has expired; request the status of the job for a new one.")
    return left


def _bad_link() -> Rejected:
    return Rejected("bad_link", "The signature of this link does not fit its address.")
