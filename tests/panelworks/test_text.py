"""Untrusted text: file names of arbitrary bytes, and text inside Markdown."""

import json
import os
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

from panelworks.storage.local import LocalFolder
from panelworks.text import (
    MAX_MARKDOWN_CHARACTERS,
    address_to_path,
    code_span,
    escape_markdown,
    path_to_address,
    path_to_text,
    to_printable,
    to_storable,
)

FOREIGN = [
    b"caf\xe9.cbz", b"\x93\xfa\x96\x7b.png", b"two\nlines", b"\x1b[31mred", "rtl\u202egpj".encode(), b"x" * 255,
    b"dots...", b"100%25.png", b"a#b?c", "\u65e5\u672c".encode(), b"\xed\xa0\x80",
]  # fmt: skip
"""File names that a Linux file system holds."""


HOSTILE = [
    "page.png",
    "[click](javascript:alert(1))",
    "![x](https://evil.example/pixel.png)",
    "<img src=x onerror=alert(1)>",
    "https://evil.example/login",
    "a | b | c",
    "`code` and ``more``",
    "# heading",
    "- item",
    "1. item",
    "***bold*** _under_ ~~gone~~",
    "&lt;b&gt; &amp;",
    r"back\slash \`",
    "{{ flow_run.state }}",
    "日本語 – “quoted”",
]
"""Texts that Markdown would interpret."""


@pytest.mark.parametrize("name", FOREIGN)
def test_an_address_can_be_stored_as_json_and_converted_back(name: bytes, tmp_path: Path) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name))
    path.write_bytes(name)
    address = path_to_address(path)
    json.dumps(address, ensure_ascii=False).encode()
    assert address_to_path(address).read_bytes() == name
    assert address_to_path(path.as_uri()).read_bytes() == name


@pytest.mark.parametrize("name", FOREIGN)
def test_printable_and_storable_names_are_one_printable_line(name: bytes) -> None:
    text = path_to_text(os.fsdecode(name))
    for form in (to_printable(text), to_storable(text)):
        assert form.encode().decode().isprintable()


def test_printable_and_storable_forms() -> None:
    text = path_to_text(os.fsdecode(b"a\xe9\n")) + "\u202e\ud83d"
    assert to_printable(text) == "a\\xe9\\x0a\\u202e\\ud83d"
    assert to_storable(text) == "a%E9___"


def test_objects_of_foreign_names_are_listed_and_read(tmp_path: Path) -> None:
    for name in FOREIGN:
        Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name)).write_bytes(name)
    folder = LocalFolder(tmp_path)
    assert sorted(folder.read(file.name) or b"" for file in folder.files()) == sorted(FOREIGN)


def test_a_root_may_contain_parent_folders_and_a_name_may_not(tmp_path: Path) -> None:
    folder = LocalFolder(f"{tmp_path}/in/../out")
    uri = folder.write("a/b.txt", b"x", "text/plain")
    assert (tmp_path / "out" / "a" / "b.txt").read_bytes() == b"x"
    assert ".." not in uri
    with pytest.raises(ValueError, match="contains"):
        folder.read("../secret")


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize("wrap", [escape_markdown, code_span])
def test_markdown_shows_the_text_and_nothing_else(text: str, wrap: object) -> None:
    assert callable(wrap)
    tokens = MarkdownIt("commonmark").parse(f"- note: {wrap(text)}")
    (inline,) = [token for token in tokens if token.type == "inline"]
    assert inline.children is not None
    assert {token.type for token in inline.children} <= {"text", "text_special", "code_inline"}
    assert "".join(token.content for token in inline.children) == f"note: {text}"


@pytest.mark.parametrize("wrap", [escape_markdown, code_span])
def test_line_breaks_and_surrogates_do_not_leave_the_line(wrap: object) -> None:
    assert callable(wrap)
    text = wrap("one\n\n# two\r\nthree\x00\x1b[31m\u2028four \udce9")
    assert len(text.splitlines()) == 1
    text.encode()


def test_a_table_row_keeps_its_cells() -> None:
    table = f"| name | score |\n|---|---|\n| {escape_markdown('a | b')} | 1 |"
    cells = [t for t in MarkdownIt("commonmark").enable("table").parse(table) if t.type == "td_open"]
    assert len(cells) == 2


def test_a_long_text_is_cut() -> None:
    assert len(escape_markdown("x" * 10_000)) == MAX_MARKDOWN_CHARACTERS + 1
