"""Headers of delivered objects: how long caches keep them, names that people see, and addresses at the CDN."""

import re
from pathlib import Path
from typing import Any

import boto3
import pytest

from panelworks.settings import Settings, get_settings
from panelworks.storage.folder import open_folder
from panelworks.storage.headers import (
    IMMUTABLE,
    REVALIDATE,
    WAITING,
    content_disposition,
    delivered_name,
    headers_of,
    is_picture_name,
    public_url,
)
from panelworks.storage.s3 import S3Folder

KEY = "ab" * 32


def changed(settings: Settings, **more: Any) -> Settings:
    return Settings.model_validate({**settings.model_dump(), **more})


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (f"variants/{KEY}/high.webp", IMMUTABLE),
        (f"variants/{KEY}-original/high.webp", IMMUTABLE),
        (f"comic/one/variants/{KEY}/normal.jpg", IMMUTABLE),
        ("upscaled/page-1-abababababab.png", IMMUTABLE),
        ("couldn't_upscale/ページ-abababababab.jpg", IMMUTABLE),
        (f"results/{KEY}.json", REVALIDATE),
        ("books/saga-abababababab.cbz", REVALIDATE),
        ("upscaled/page.png", REVALIDATE),
        ("couldn't_upscale/text-abababababab.bin", REVALIDATE),
        (f"review/variants/{KEY}/high.webp", WAITING),
        (f"comic/review/variants/{KEY}/high.webp", WAITING),
        ("review/upscaled/page-abababababab.png", WAITING),
        (f"review/results/{KEY}.json", WAITING),
    ],
)
def test_caches_keep_what_cannot_change(name: str, expected: str, settings: Settings) -> None:
    headers = headers_of(name, settings)
    assert headers.cache_control == expected
    assert headers.is_published == (expected != WAITING)


@pytest.mark.parametrize(
    "name",
    [
        "", "/", "..", f"../variants/{KEY}/high.webp", f"a/../variants/{KEY}/high.webp", f"./variants/{KEY}/high.webp",
        f"/variants/{KEY}/high.webp", f"variants/{KEY}//high.webp", f"variants/{KEY}/../high.webp", f"variants/{KEY}/a/b.webp",
        f"variants/{KEY}/high.svg", f"variants/{KEY}/high.html", f"variants/{KEY}/high.webp\n", f"variants/{KEY}/hi\0gh.webp",
        f"variants/{KEY}/..\\high.webp", f"variants/{KEY[:-1]}/high.webp", f"objects/ab/{KEY}.png", f"results/{KEY}.json",
        f"variants/{KEY}/{'x' * 1100}.webp", f"review/variants/{KEY}/high.webp", "upscaled/page.png", "jobs/x.json",
    ],
)  # fmt: skip
def test_other_names_are_no_published_pictures(name: str) -> None:
    assert not is_picture_name(name)


@pytest.mark.parametrize(
    ("filename", "expected"),
    [
        ("page.png", 'inline; filename="page.png"'),
        ("my page.png", 'inline; filename="my page.png"'),
        (
            "ページ 1.png",
            "inline; filename=\"___ 1.png\"; filename*=UTF-8''%E3%83%9A%E3%83%BC%E3%82%B8%201.png",
        ),
        ('a"b.png', 'inline; filename="a_b.png"'),
        ("a\r\nSet-Cookie: x=1.png", 'inline; filename="a__Set-Cookie_ x=1.png"'),
        ("../../etc/passwd", 'inline; filename=".._.._etc_passwd"'),
        ("a\\b.png", 'inline; filename="a_b.png"'),
        ("a;b*c%20.png", 'inline; filename="a_b_c_20.png"'),
        ("bad\udc80.png", 'inline; filename="bad_.png"'),
        ("", 'inline; filename="page"'),
        ("it's (1)é.png", "inline; filename=\"it's (1)_.png\"; filename*=UTF-8''it%27s%20%281%29%C3%A9.png"),
    ],
)
def test_file_names_are_safe_in_the_header(filename: str, expected: str) -> None:
    header = content_disposition(filename)
    assert header == expected
    assert re.fullmatch(r"[\x20-\x7e]+", header)


def test_long_file_names_keep_their_extension() -> None:
    assert content_disposition("x" * 5000 + ".webp") == f'inline; filename="{"x" * 150}.webp"'


@pytest.mark.parametrize(
    ("out", "uri", "expected"),
    [
        (
            "s3://pages",
            f"s3://pages/variants/{KEY}/high.webp",
            f"https://cdn.example/c/variants/{KEY}/high.webp",
        ),
        (
            "s3://pages/web/",
            "s3://pages/web/couldn't_upscale/a b.png",
            "https://cdn.example/c/couldn%27t_upscale/a%20b.png",
        ),
        ("s3://pages/web", "s3://pages/web/ü?#%.png", "https://cdn.example/c/%C3%BC%3F%23%25.png"),
        ("s3://pages/web", "s3://pages/website/a.png", None),
        ("s3://pages/web", "s3://other/web/a.png", None),
        ("s3://pages", "s3://pages/review/upscaled/a.png", None),
        ("s3://pages", "s3://pages/books/review/saga.cbz", None),
        ("/srv/out", "file:///srv/out/upscaled/a%20b.png", "https://cdn.example/c/upscaled/a%20b.png"),
        ("/srv/out", "/srv/out/books/saga #1.cbz", "https://cdn.example/c/books/saga%20%231.cbz"),
        ("/srv/out", "file:///srv/outer/a.png", None),
        ("/srv/review", "file:///srv/review/upscaled/a.png", "https://cdn.example/c/upscaled/a.png"),
        ("/srv/out", "s3://pages/a.png", None),
    ],
)
def test_addresses_at_the_cdn(out: str, uri: str, expected: str | None, settings: Settings) -> None:
    assert public_url(uri, changed(settings, out=out)) is None
    assert public_url(uri, changed(settings, out=out, public_url="https://cdn.example/c/")) == expected


def test_names_below_a_relative_destination(settings: Settings, tmp_path: Path) -> None:
    chosen = changed(settings, out="enhanced")
    uri = open_folder("enhanced", chosen).uri("upscaled/ü.png")
    assert delivered_name(uri, chosen) == "upscaled/ü.png"


def head(bucket: str, key: str, *, acl: bool = True) -> dict[str, Any]:
    client = boto3.client("s3", endpoint_url=get_settings().s3_endpoint)
    found: dict[str, Any] = client.head_object(Bucket=bucket, Key=key)
    grants = client.get_object_acl(Bucket=bucket, Key=key)["Grants"] if acl else []
    found["public"] = any("AllUsers" in grant["Grantee"].get("URI", "") for grant in grants)
    return found


def test_an_object_has_its_headers(bucket: str) -> None:
    chosen = changed(
        get_settings(), licence="© Ana, CC BY 4.0\r\nX-Evil: 1", s3_encryption="aws:kms", s3_kms_key="alias/pages",
        s3_storage_class="STANDARD_IA", s3_acl="public-read",
    )  # fmt: skip
    folder, name = open_folder(f"s3://{bucket}", chosen), f"variants/{KEY}/high.webp"
    headers = headers_of(name, chosen, filename="ü.webp", content_key=KEY, route="couldn't_upscale")
    folder.write(name, b"picture", "image/webp", headers)
    found = head(bucket, name)
    assert (found["ContentType"], found["CacheControl"]) == ("image/webp", IMMUTABLE)
    assert found["ContentDisposition"] == "inline; filename=\"_.webp\"; filename*=UTF-8''%C3%BC.webp"
    assert found["Metadata"] == {
        "content-key": KEY, "route": "couldn't_upscale", "licence": "%C2%A9 Ana, CC BY 4.0 X-Evil: 1",
    }  # fmt: skip
    assert (found["ServerSideEncryption"], found["SSEKMSKeyId"]) == ("aws:kms", "alias/pages")
    assert (found["StorageClass"], found["public"]) == ("STANDARD_IA", True)


def test_what_waits_and_what_is_internal_never_becomes_public(bucket: str) -> None:
    chosen = changed(
        get_settings(), s3_encryption="AES256", s3_storage_class="STANDARD_IA", s3_acl="public-read"
    )
    folder = open_folder(f"s3://{bucket}", chosen)
    waiting = "review/upscaled/page-abababababab.png"
    folder.write(waiting, b"x", "image/png", headers_of(waiting, chosen))
    folder.write("objects/ab/original.png", b"x", "image/png")
    folder.create("jobs/one.json", b"{}", "application/json")
    for name in (waiting, "objects/ab/original.png", "jobs/one.json"):
        found = head(bucket, name)
        assert (found["ServerSideEncryption"], found["public"], "StorageClass" in found) == (
            "AES256",
            False,
            False,
        ), name
    assert head(bucket, waiting)["CacheControl"] == WAITING


def test_uploads_in_parts_and_copies_have_headers(bucket: str, tmp_path: Path) -> None:
    chosen = changed(get_settings(), licence="CC0", s3_encryption="AES256", s3_acl="public-read")
    folder, path = S3Folder(bucket, "books", chosen), tmp_path / "book.cbz"
    path.write_bytes(bytes(9 << 20))
    folder.upload(path, "review/one.cbz", "application/zip", headers_of("one.cbz", chosen, waits=True))
    folder.copy_from(folder, "review/one.cbz", "one.cbz", "application/zip", headers_of("one.cbz", chosen))
    # moto has no ACL of an object that was uploaded in parts without one.
    waiting, published = head(bucket, "books/review/one.cbz", acl=False), head(bucket, "books/one.cbz")
    assert "-" in waiting["ETag"], "it was uploaded in parts"
    assert waiting["CacheControl"] == WAITING
    assert (published["CacheControl"], published["public"]) == (REVALIDATE, True)
    for found in (waiting, published):
        assert found["Metadata"] == {"licence": "CC0", "made-by": "panelworks"}
        assert (found["ContentDisposition"], found["ServerSideEncryption"]) == (
            'inline; filename="one.cbz"',
            "AES256",
        )
    assert folder.is_ours("one.cbz")
