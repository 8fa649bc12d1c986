"""Pictures for readers and CDNs: variants of jobs, published objects, signed links, and pictures that are not published."""

import io
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import boto3
import httpx
import pytest
from PIL import Image

from panelworks.settings import Settings
from panelworks.storage.links import sign_name
from service.gateway.access import hash_of
from tests.books import page_file
from tests.service.gateway.conftest import Open

KEYS = (f"studio:{hash_of('studio')}", f"reader:{hash_of('reader')}", f"cdn:{hash_of('cdn')}:admin")
SECRET, OTHER = "s" * 32, "o" * 32
IMMUTABLE = "max-age=31536000, immutable"


class Pages:
    """A gateway with the page of the key `studio`."""

    def __init__(self, client: httpx.Client, **form: str) -> None:
        self.client = client
        made = client.post(
            "/api/pages?deadline=60",
            files={"image": ("ページ 1.png", page_file(1))},
            data=form,
            headers={"X-API-Key": "studio"},
        )
        assert made.is_success, made.text
        rows = client.get("/api/results", headers={"X-API-Key": "studio"}).json()["results"]
        self.job: dict[str, Any] = client.get(
            f"/api/enhancement/status/{rows[0]['job_id']}", headers={"X-API-Key": "studio"}
        ).json()
        self.links = {link["name"]: link for link in (*self.job["links"], self.job["master"])}

    def ask(
        self, address: str, key: str | None = None, method: str = "GET", **headers: str
    ) -> httpx.Response:
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.client.request(method, address, headers={**given, **({"X-API-Key": key} if key else {})})


@pytest.fixture
def fresh_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.gateway.result_index.REFRESH_SECONDS", 0.0)


@pytest.fixture
def pages(fresh_rows: None, gateway: Open) -> Pages:
    return Pages(gateway(api_keys=KEYS, links="gateway", link_secrets=(SECRET,)))


def format_of(answer: httpx.Response) -> str | None:
    with Image.open(io.BytesIO(answer.content)) as image:
        return image.format


def test_a_repeated_request_is_answered_with_304(pages: Pages) -> None:
    address = pages.links["high"]["url"]
    first = pages.ask(address, "studio")
    assert (first.status_code, first.headers["content-type"]) == (200, "image/webp")
    assert (first.headers["cache-control"], first.headers["vary"]) == ("private, no-cache", "Accept")
    assert first.headers["content-length"] == str(len(first.content)) == str(pages.links["high"]["bytes"])
    again = pages.ask(address, "studio", If_None_Match=first.headers["etag"])
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", first.headers["etag"])
    assert pages.ask(address, "studio", If_Modified_Since=first.headers["last-modified"]).status_code == 304
    head = pages.ask(address, "studio", "HEAD")
    assert (head.status_code, head.content) == (200, b"")
    for name in ("etag", "content-length", "content-type", "content-disposition", "last-modified"):
        assert head.headers[name] == first.headers[name]
    part = pages.ask(address, "studio", Range="bytes=0-3", If_Range=first.headers["etag"])
    assert (part.status_code, part.content) == (206, b"RIFF")
    assert pages.ask(address, "studio", Range="bytes=99999999-").status_code == 416


ACCEPTED = (
    ("high", "image/avif,image/webp,image/*,*/*;q=0.8", 200, "WEBP"),
    ("high", "image/jpeg", 200, "JPEG"),
    ("high", "image/avif", 200, "AVIF"),
    ("high", "image/webp;q=0, image/avif;q=0.2, image/jpeg;q=0.5", 200, "JPEG"),
    ("normal", "image/webp", 200, "WEBP"),
    ("master", "image/png", 200, "PNG"),
    ("master", "image/webp", 200, "WEBP"),
    ("high", "text/html", 406, None),
    ("high", "image/gif", 406, None),
)


def check_formats(pages: Pages) -> None:
    for name, accept, status, format in ACCEPTED:
        address = pages.links[name]["url"]
        answer = pages.ask(address, "studio", Accept=accept)
        assert answer.status_code == status, answer.text
        if format is None:
            assert answer.json()["error"]["code"] == "not_acceptable"
            continue
        assert format_of(answer) == format
        assert answer.headers["content-type"] == f"image/{format.lower()}"
        stored = pages.ask(address, "studio", Accept="*/*")
        assert (answer.headers["etag"] == stored.headers["etag"]) == (format_of(stored) == format)
        again = pages.ask(address, "studio", Accept=accept, If_None_Match=answer.headers["etag"])
        assert again.status_code == 304


def check_signed_links(pages: Pages) -> None:
    for link in pages.links.values():
        address = link["signed_url"]
        answer = pages.ask(address)
        assert (answer.status_code, len(answer.content)) == (200, link["bytes"]), answer.text
        lifetime = (
            answer.headers["cache-control"].removeprefix("private, max-age=").removesuffix(", immutable")
        )
        assert 3500 <= int(lifetime) <= 3600
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert pages.ask(address, If_None_Match=answer.headers["etag"]).status_code == 304
        assert pages.ask(address, method="HEAD").headers["content-length"] == str(link["bytes"])
        # A reader's site embeds the picture.
        assert (
            pages.ask(address, Origin="https://reader.example", Sec_Fetch_Site="cross-site").status_code
            == 200
        )


def changed_link(address: str, **change: str) -> str:
    """A signed link with another name, time or signature."""
    parts = urlsplit(address)
    query = {key: values[0] for key, values in parse_qs(parts.query).items()}
    name = change.pop("name", parts.path)
    query |= change
    return f"{name}?expires={query['expires']}&signature={query['signature']}"


def check_changed_links(pages: Pages) -> None:
    link, other = pages.links["high"]["signed_url"], pages.links["normal"]["signed_url"]
    name, expires = urlsplit(link).path.removeprefix("/media/"), int(time.time()) + 900
    past = int(time.time()) - 1
    signature = parse_qs(urlsplit(link).query)["signature"][0]
    cases = {
        changed_link(link, signature=f"{'0' * 63}1"): "bad_link",
        changed_link(link, expires=str(expires + 100_000)): "bad_link",
        changed_link(link, name=urlsplit(other).path): "bad_link",
        changed_link(link, expires=str(expires), signature=sign_name(name, expires, OTHER)): "bad_link",
        changed_link(link, expires=str(past), signature=sign_name(name, past, SECRET)): "link_expired",
        f"/media/{name}?signature={signature}": "bad_link",
        f"/media/{name}?expires={expires}": "bad_link",
        f"/media/{name.replace('/', '//', 1)}?{urlsplit(link).query}": "bad_link",
        f"/media/{name.rpartition('.')[0]}?{urlsplit(link).query}": "bad_link",
        f"/media/x%2F..%2F{name}?{urlsplit(link).query}": "bad_link",
    }
    etag = pages.ask(link).headers["etag"]
    for address, code in cases.items():
        for headers in ({}, {"If_None_Match": etag}, {"If_None_Match": "*"}):
            answer = pages.ask(address, **headers)
            assert (answer.status_code, answer.json()["error"]["code"]) == (403, code), address
    # A valid key does not rescue a bad signature.
    assert pages.ask(changed_link(link, signature="0" * 64), "cdn").status_code == 403


HOSTILE = (
    "../cache/store/x.png", "x/%2e%2e/%2e%2e/etc/passwd", f"variants/{'a' * 64}/..%2F..%2F..%2Fpage.png",
    "results/{key}.json", "review/variants/{key}/high.webp", "variants/{key}/missing.webp",
    "variants/{key}/high%00.webp", "variants/{key}/" + "x" * 300 + ".webp", "variants/{key}/", "",
    "variants/{key}/*", "%ff%fe.png", "variants/{key}/high.webp%0d%0aX-Evil:%201", "variants/{key}/high%5c.webp",
)  # fmt: skip


def check_hostile_names(pages: Pages) -> None:
    for name in HOSTILE:
        name = name.replace("{key}", pages.job["result"]["content_key"])
        expires = int(time.time()) + 900
        signature = sign_name(unquote(name), expires, SECRET)
        signed = f"/media/{name}?expires={expires}&signature={signature}"
        for address, key in ((signed, None), (f"/media/{name}", "cdn")):
            answer = pages.ask(address, key, If_None_Match="*")
            # httpx resolves `..`, so that some addresses are others when they arrive.
            assert answer.status_code in (403, 404), (address, answer.text)
            assert answer.status_code == 404 or key is None


def check_keys(pages: Pages) -> None:
    name = urlsplit(pages.links["high"]["signed_url"]).path
    statuses = [pages.ask(name, key).status_code for key in (None, "wrong", "studio", "reader", "cdn")]
    assert statuses == [401, 401, 403, 403, 200]
    answer = pages.ask(name, "cdn")
    assert answer.headers["cache-control"] == f"private, {IMMUTABLE}", "the settings name no CDN"
    assert "vary" not in answer.headers


def test_the_variants_of_a_request_are_served_also_as_jpeg_xl(fresh_rows: None, gateway: Open) -> None:
    pytest.importorskip("pillow_jxl")
    variants = [
        {"name": "web", "width": 120, "format": "jxl"},
        {"name": "thumb", "width": 64, "height": 64, "fit": "crop", "format": "avif"},
    ]
    pages = Pages(gateway(api_keys=KEYS), options=json.dumps({"variants": variants}))
    assert sorted(pages.links) == ["master", "thumb", "web"]
    assert (pages.links["thumb"]["width"], pages.links["thumb"]["height"]) == (64, 64)
    address = pages.links["web"]["url"]
    stored = pages.ask(address, "studio", Accept="image/jxl,image/webp;q=0.5")
    assert (stored.headers["content-type"], stored.content[:2]) == ("image/jxl", b"\xff\x0a"), (
        "a bare codestream"
    )
    converted = pages.ask(address, "studio", Accept="image/avif,image/webp")
    assert (converted.status_code, format_of(converted)) == (200, "AVIF")
    assert (
        pages.ask(pages.links["thumb"]["url"], "studio", Accept="image/*").headers["content-type"]
        == "image/avif"
    )


def test_the_preview_of_a_job_is_for_its_key(pages: Pages) -> None:
    address = pages.job["preview_url"]
    own = pages.ask(address, "studio")
    assert (own.status_code, own.headers["content-type"], format_of(own)) == (200, "image/webp", "WEBP")
    assert len(own.content) <= 4000
    assert pages.ask(address, "studio", If_None_Match=own.headers["etag"]).status_code == 304
    assert [pages.ask(address, key).status_code for key in ("cdn", "reader", None)] == [200, 404, 401]
    assert pages.job["placeholder"] == pages.job["result"]["placeholder"]
    assert pages.ask("/api/enhancement/another/preview", "studio").status_code == 404


def test_a_preview_that_left_the_store_is_read_where_it_was_delivered(
    pages: Pages, settings: Settings
) -> None:
    for stored in Path(settings.store_location).rglob("*.webp"):
        stored.unlink()
    answer = pages.ask(pages.job["preview_url"], "studio")
    assert (answer.status_code, len(answer.content)) == (200, pages.job["result"]["preview"]["bytes"])


def test_who_gets_which_picture(pages: Pages) -> None:
    """On one gateway: each start takes seconds."""
    check_formats(pages)
    check_signed_links(pages)
    check_changed_links(pages)
    check_hostile_names(pages)
    check_keys(pages)


def test_an_address_without_extension_is_negotiated(fresh_rows: None, gateway: Open, tmp_path: Path) -> None:
    pages = Pages(gateway(api_keys=KEYS, public_url="https://cdn.example"))
    link = pages.links["high"]
    assert link["public_url"].startswith("https://cdn.example/variants/")
    assert pages.job["result"]["variants"][-1]["url"] == link["public_url"]
    assert pages.job["result"]["master"]["url"] == pages.links["master"]["public_url"]
    assert "%E3%83%9A" in pages.links["master"]["public_url"]
    name = f"/media{urlsplit(link['public_url']).path}"
    address = name.removesuffix(".webp")
    stored = tmp_path / "out" / name.removeprefix("/media/")
    Image.open(stored).save(stored.with_suffix(".avif"))
    found: Mapping[str, tuple[str, str]] = {
        "image/avif,image/webp,*/*;q=0.8": ("AVIF", "Accept"), "image/webp,*/*;q=0.8": ("WEBP", "Accept"),
        "image/jpeg": ("JPEG", "Accept"),
    }  # fmt: skip
    for accept, expected in found.items():
        answer = pages.ask(address, "cdn", Accept=accept)
        assert (format_of(answer), answer.headers["vary"]) == expected
        assert answer.headers["cache-control"] == f"public, {IMMUTABLE}"
        assert (
            pages.ask(address, "cdn", Accept=accept, If_None_Match=answer.headers["etag"]).status_code == 304
        )
    assert pages.ask(address, "cdn", Accept="text/html").status_code == 406
    assert pages.ask(f"{address}-missing", "cdn").status_code == 404
    master = pages.ask(f"/media{urlsplit(pages.links['master']['public_url']).path}", "cdn")
    assert "filename*=UTF-8''%E3%83%9A%E3%83%BC%E3%82%B8" in master.headers["content-disposition"]


def test_a_page_in_review_is_not_public(fresh_rows: None, gateway: Open) -> None:
    client = gateway(api_keys=KEYS, links="gateway", link_secrets=(SECRET,), public_url="https://cdn.example")
    pages = Pages(client, review="always")
    for link in pages.links.values():
        assert (link["public_url"], link["signed_url"], link["expires_at"]) == (None, None, None)
        own = pages.ask(link["url"], "studio")
        assert (own.status_code, own.headers["cache-control"]) == (200, "private, no-cache")
        assert pages.ask(link["url"], "reader", If_None_Match=own.headers["etag"]).status_code == 404
    key, expires = pages.job["result"]["content_key"], int(time.time()) + 900

    def public_statuses() -> set[int]:
        names = [f"{under}variants/{key}/high.webp" for under in ("", "review/")]
        signed = [
            f"/media/{one}?expires={expires}&signature={sign_name(one, expires, SECRET)}" for one in names
        ]
        answers = [pages.ask(one, If_None_Match="*") for one in signed]
        answers += [pages.ask(f"/media/{one}", "cdn", If_None_Match="*") for one in names]
        return {one.status_code for one in answers}

    assert public_statuses() == {404}
    decision = {"publish_original": False}
    rejected = client.post(
        f"/api/results/{pages.job['job_id']}/reject", headers={"X-API-Key": "studio"}, json=decision
    )
    assert rejected.is_success, rejected.text
    page = rejected.json()["page"]
    assert [link["signed_url"] for link in page["links"]] == [None] * len(page["links"])
    assert public_statuses() == {404}


def test_links_appear_with_the_approval(fresh_rows: None, gateway: Open) -> None:
    client = gateway(api_keys=KEYS, links="gateway", link_secrets=(SECRET,), public_url="https://cdn.example")
    pages = Pages(client, review="always")
    approved = client.post(
        f"/api/results/{pages.job['job_id']}/approve", headers={"X-API-Key": "studio"}, json={}
    )
    for link in approved.json()["page"]["links"]:
        assert link["public_url"].startswith("https://cdn.example/variants/")
        assert pages.ask(link["signed_url"]).status_code == 200


def test_links_are_limited_by_address(fresh_rows: None, gateway: Open) -> None:
    client = gateway(api_keys=KEYS, links="gateway", link_secrets=(SECRET,), rate_limit="5/minute")
    answers = [client.get(f"/media/a.png?expires=1&signature={'0' * 64}") for _ in range(6)]
    assert [one.status_code for one in answers] == [403] * 5 + [429]


def test_a_gateway_on_a_bucket(bucket: str, s3_endpoint: str, fresh_rows: None, gateway: Open) -> None:
    pages = Pages(
        gateway(
            api_keys=KEYS,
            out=f"s3://{bucket}/web",
            links="s3",
            public_url="https://cdn.example",
            licence="CC0",
        )
    )
    link = pages.links["high"]
    answer = pages.ask(link["url"], "studio")
    assert answer.status_code == 200
    assert pages.ask(link["url"], "studio", If_None_Match=answer.headers["etag"]).status_code == 304
    assert httpx.get(link["signed_url"]).content == answer.content
    head = boto3.client("s3", endpoint_url=s3_endpoint).head_object(
        Bucket=bucket, Key=link["uri"].removeprefix(f"s3://{bucket}/")
    )
    assert (head["ContentType"], head["CacheControl"]) == ("image/webp", f"public, {IMMUTABLE}")
    assert head["Metadata"] == {
        "content-key": pages.job["result"]["content_key"], "route": "upscaled", "licence": "CC0",
    }  # fmt: skip
    name = f"web/results/{pages.job['result']['content_key']}.json"
    record = boto3.client("s3", endpoint_url=s3_endpoint).get_object(Bucket=bucket, Key=name)
    assert record["CacheControl"] == "no-cache"
    assert json.loads(record["Body"].read())["variants"][-1]["url"] == link["public_url"]
    assert httpx.get(link["signed_url"].partition("?")[0]).status_code == 403, "the bucket is private"
