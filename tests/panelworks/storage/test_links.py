"""Signed links: they work until they expire, for one name, and with the keys of the settings."""

import time
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from panelworks.errors import Misconfigured, Rejected
from panelworks.settings import Settings, get_settings
from panelworks.storage.folder import open_folder
from panelworks.storage.links import check_link, make_link, sign_name

KEY = "ab" * 32
NAME = f"variants/{KEY}/high.webp"
OLD, NEW, FOREIGN = "o" * 32, "n" * 32, "f" * 32


def changed(settings: Settings, **more: Any) -> Settings:
    return Settings.model_validate({**settings.model_dump(), **more})


@pytest.fixture
def signing(settings: Settings) -> Settings:
    return changed(settings, out="s3://pages/web", links="gateway", link_secrets=f"{NEW}, {OLD}")


def parts_of(url: str) -> tuple[str, str, str]:
    parts = urlsplit(url)
    query = parse_qs(parts.query)
    return parts.path.removeprefix("/media/"), query["expires"][0], query["signature"][0]


def test_a_link_works_until_it_expires(signing: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    link = make_link(f"s3://pages/web/{NAME}", signing)
    assert link is not None
    name, expires, signature = parts_of(link.url)
    assert link.expires_at.timestamp() == int(expires)
    assert 3590 <= check_link(name, expires, signature, signing) <= 3600
    monkeypatch.setattr("panelworks.storage.links.time.time", lambda: float(expires))
    with pytest.raises(Rejected) as caught:
        check_link(name, expires, signature, signing)
    assert caught.value.code == "link_expired"


LATER = str(int(time.time()) + 10_000)


@pytest.mark.parametrize(
    ("name", "expires", "signature"),
    [
        (NAME.replace("high", "normal"), LATER, sign_name(NAME, int(LATER), NEW)),
        (NAME, str(int(LATER) + 1), sign_name(NAME, int(LATER), NEW)),
        (NAME, LATER, sign_name(NAME, int(LATER), FOREIGN)),
        (NAME, LATER, sign_name(NAME, int(LATER), "")),
        (NAME, LATER, sign_name(NAME, int(LATER), NEW).upper()),
        (NAME, LATER, sign_name(NAME, int(LATER), NEW)[:-1]),
        (NAME, f"0{LATER}", sign_name(NAME, int(LATER), NEW)),
        (NAME, f"+{LATER}", sign_name(NAME, int(LATER), NEW)),
        (NAME, f"{LATER}\n", sign_name(NAME, int(LATER), NEW)),
        (NAME, "9" * 5000, sign_name(NAME, int(LATER), NEW)),
        (NAME, "", ""),
        (NAME, LATER, "é" * 64),
        (NAME, "1e9", "0" * 64),
    ],
)
def test_other_links_are_refused(name: str, expires: str, signature: str, signing: Settings) -> None:
    with pytest.raises(Rejected) as caught:
        check_link(name, expires, signature, signing)
    assert caught.value.code == "bad_link"


def test_keys_can_be_replaced(signing: Settings) -> None:
    signature = sign_name(NAME, int(LATER), OLD)
    assert check_link(NAME, LATER, signature, signing) > 0, "the second key verifies"
    link = make_link(f"s3://pages/web/{NAME}", signing)
    assert link is not None
    _, expires, made = parts_of(link.url)
    assert made == sign_name(NAME, int(expires), NEW), "the first key signs"
    for secrets in (NEW, ""):
        with pytest.raises(Rejected, match="signature"):
            check_link(NAME, LATER, signature, changed(signing, link_secrets=secrets))


@pytest.mark.parametrize(
    "uri",
    [
        f"s3://pages/web/review/{NAME}", f"s3://other/web/{NAME}", f"s3://pages/{NAME}", "s3://pages/web/books/one.cbz",
        f"s3://pages/web/results/{KEY}.json", f"file:///srv/{NAME}",
    ],
)  # fmt: skip
def test_nothing_else_gets_a_link(uri: str, signing: Settings) -> None:
    assert make_link(uri, signing) is None


def test_links_are_optional_and_need_a_key(settings: Settings) -> None:
    assert make_link(f"s3://pages/web/{NAME}", changed(settings, out="s3://pages/web")) is None
    with pytest.raises(Misconfigured, match="PANELWORKS_LINK_SECRETS"):
        make_link(f"s3://pages/web/{NAME}", changed(settings, out="s3://pages/web", links="gateway"))


def test_a_short_key_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PANELWORKS_LINK_SECRETS", f"{NEW},short")
    with pytest.raises(Misconfigured, match="PANELWORKS_LINK_SECRETS: ") as caught:
        get_settings()
    assert NEW not in caught.value.message


def test_a_presigned_link_reads_the_object(bucket: str) -> None:
    chosen = changed(get_settings(), links="s3", link_seconds=60)
    uri = open_folder(f"s3://{bucket}/web", chosen).write(NAME, b"picture", "image/webp")
    link = make_link(uri, chosen)
    assert link is not None
    assert "X-Amz-Signature" in link.url
    assert "X-Amz-Expires=60" in link.url
    answer = httpx.get(link.url)
    assert (answer.status_code, answer.content) == (200, b"picture")
    assert make_link(f"s3://{bucket}/web/review/{NAME}", chosen) is None
    assert make_link("file:///srv/x.png", chosen) is None
