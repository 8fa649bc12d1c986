"""Locations: the text comes back exactly, and each place is parsed into its parts."""

import os
from pathlib import Path
from random import Random

import pytest

from panelworks.storage.location import Location

CHARACTERS = "abcXYZ019 .-_~/:#?%&=+@'\"\\é漢\U0001f600\udce9\n"
STARTS = (
    "",
    "/",
    "./",
    "~/",
    "C:\\",
    "s3://",
    "s3:/",
    "S3://",
    "file://",
    "file:/",
    "https://",
    "data:",
    "stored:",
)


@pytest.mark.parametrize("seed", range(20))
def test_every_text_comes_back_exactly(seed: int) -> None:
    random = Random(seed)
    for _ in range(500):
        text = random.choice(STARTS) + "".join(random.choices(CHARACTERS, k=random.randrange(30)))
        location = Location.parse(text)
        assert str(location) == text
        assert Location.parse(str(location)) == location
        assert location.is_in_bucket == text.startswith("s3://")


@pytest.mark.parametrize("seed", range(10))
def test_buckets_and_keys_come_back(seed: int) -> None:
    random = Random(seed)
    for _ in range(300):
        bucket = "".join(random.choices("abc-.019", k=random.randrange(3, 20)))
        key = "".join(random.choices(CHARACTERS, k=random.randrange(1, 30)))
        location = Location.of_object(bucket, key)
        assert (location.scheme, location.bucket, location.key) == ("s3", bucket, key)
        folder, name = location.folder_and_name
        assert (f"{folder}/{name}" if "/" in key else name) == key


@pytest.mark.parametrize("seed", range(10))
def test_local_paths_of_any_bytes_come_back(seed: int) -> None:
    random = Random(seed)
    for _ in range(300):
        name = bytes(random.choice([*range(1, 47), *range(48, 256)]) for _ in range(random.randrange(1, 20)))
        path = Path(os.fsdecode(b"/books/" + name))
        location = Location.of_path(path)
        str(location).encode()  # records hold valid text only
        assert location.path == path
        assert location.absolute() == location
        parent, last = location.parent_and_name()
        assert parent.joined(last).path == path


@pytest.mark.parametrize(
    ("text", "scheme", "bucket", "key"),
    [
        ("s3://pages/one/two.png", "s3", "pages", "one/two.png"),
        ("s3://pages", "s3", "pages", ""),
        ("s3://pages/a#1?b", "s3", "pages", "a#1?b"),
        ("file:///tmp/a.png", "file", "", ""),
        ("HTTPS://host/a.png", "https", "", ""),
        ("C:\\pages\\a.png", "", "", ""),
        ("chapter 1: end.png", "", "", ""),
    ],
)
def test_an_address_has_its_parts(text: str, scheme: str, bucket: str, key: str) -> None:
    location = Location.parse(text)
    assert (location.scheme, location.bucket, location.key) == (scheme, bucket, key)


def test_names_are_joined_below_folders_and_prefixes() -> None:
    assert str(Location.parse("s3://pages/out/").joined("a/b.cbz")) == "s3://pages/out/a/b.cbz"
    assert str(Location.parse("out").joined("a.cbz")) == "out/a.cbz"
    assert Location.parse("file:///tmp/%E9").joined("a.cbz").path == Path(os.fsdecode(b"/tmp/\xe9/a.cbz"))
