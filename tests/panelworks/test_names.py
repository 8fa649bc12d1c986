"""Names of any bytes: addressed, shown and stored."""

import json
import os
from pathlib import Path

import pytest

from panelworks.names import address_of, local_path, shown, stored, text_of
from panelworks.storage.local import LocalFolder

FOREIGN = [
    b"caf\xe9.cbz", b"\x93\xfa\x96\x7b.png", b"two\nlines", b"\x1b[31mred", "rtl\u202egpj".encode(), b"x" * 255,
    b"dots...", b"100%25.png", b"a#b?c", "\u65e5\u672c".encode(), b"\xed\xa0\x80",
]  # fmt: skip
"""File names that a Linux file system holds."""


@pytest.mark.parametrize("name", FOREIGN)
def test_an_address_can_be_recorded_and_leads_back_to_the_same_bytes(name: bytes, tmp_path: Path) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name))
    path.write_bytes(name)
    address = address_of(path)
    json.dumps(address, ensure_ascii=False).encode()
    assert local_path(address).read_bytes() == name
    assert local_path(path.as_uri()).read_bytes() == name


@pytest.mark.parametrize("name", FOREIGN)
def test_what_is_shown_and_stored_is_printable_text_on_one_line(name: bytes) -> None:
    text = text_of(os.fsdecode(name))
    for form in (shown(text), stored(text)):
        assert form.encode().decode().isprintable()


def test_the_forms() -> None:
    text = text_of(os.fsdecode(b"a\xe9\n")) + "\u202e\ud83d"
    assert shown(text) == "a\\xe9\\x0a\\u202e\\ud83d"
    assert stored(text) == "a%E9___"


def test_objects_of_foreign_names_are_listed_and_read(tmp_path: Path) -> None:
    for name in FOREIGN:
        Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name)).write_bytes(name)
    folder = LocalFolder(tmp_path)
    assert sorted(folder.read(file.name) or b"" for file in folder.files()) == sorted(FOREIGN)


def test_a_root_may_climb_and_a_name_may_not(tmp_path: Path) -> None:
    folder = LocalFolder(f"{tmp_path}/in/../out")
    uri = folder.write("a/b.txt", b"x", "text/plain")
    assert (tmp_path / "out" / "a" / "b.txt").read_bytes() == b"x"
    assert ".." not in uri
    with pytest.raises(ValueError, match="contains"):
        folder.read("../secret")
