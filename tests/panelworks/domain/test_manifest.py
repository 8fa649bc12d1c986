"""Manifests of batches: what is read from CSV and JSON Lines, and which rows or files are refused."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from panelworks.domain.manifest import MAX_MANIFEST_BYTES, ManifestRow, read_manifest
from panelworks.errors import Rejected

PLAIN = 'source,options,job_id\na.png,,one\nb.png,"{""scale"": 3}",two\n'


def read(text: str | bytes, max_rows: int = 100) -> tuple[ManifestRow, ...]:
    return read_manifest(text.encode() if isinstance(text, str) else text, max_rows=max_rows)


def code_of(data: str | bytes, max_rows: int = 100) -> str:
    with pytest.raises(Rejected) as refused:
        read(data, max_rows)
    return refused.value.code


@pytest.mark.parametrize(
    "data",
    [
        PLAIN.encode(),
        b"\xef\xbb\xbf" + PLAIN.encode(),
        PLAIN.replace("\n", "\r\n").encode(),
        PLAIN.replace("\n", "\r").encode(),
        PLAIN.encode("utf-16"),
        b"\xfe\xff" + PLAIN.encode("utf-16-be"),
        b"Source;Options;JOB_ID\na.png;;one\nb.png;\"{\"\"scale\"\": 3}\";two",
        b"source\toptions\tjob_id\na.png\t\tone\nb.png\t\"{\"\"scale\"\": 3}\"\ttwo\n",
        b"source,scale,job_id,,\na.png,,one,,\nb.png,3,two,,\n",
        b'\xef\xbb\xbf{"source": "a.png", "job_id": "one"}\r\n'
        b'{"source": "b.png", "job_id": "two", "options": {"scale": 3}}\r\n',
        b'{"source": "a.png", "job_id": "one", "options": null}\n'
        b'{"source": "b.png", "job_id": "two", "scale": 3}',
    ],
)  # fmt: skip
def test_one_manifest_in_many_forms(data: bytes) -> None:
    rows = read(data)
    assert [(row.source, row.job_id, row.error) for row in rows] == [
        ("a.png", "one", None), ("b.png", "two", None),
    ]  # fmt: skip
    assert [row.options.scale for row in rows] == [None, 3]


def test_rows_are_numbered_as_a_spreadsheet_and_an_editor_do() -> None:
    assert [row.row for row in read('source\na.png\n\n"b\n.png"\nc.png')] == [2, 4, 5]
    assert [row.row for row in read('{"source": "a"}\n\n{"source": "b"}')] == [1, 3]
    assert [row.row for row in read('{"source": "a\\u2028b"}\n{"source": "x\u2028y"}')] == [1, 2]


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("a.png,{", "bad_request"),
        ("a.png,7", "bad_option"),
        ("a.png,[]", "bad_option"),
        ('a.png,"{""scale"": 9}"', "bad_option"),
        ('a.png,"{""nonsense"": 1}"', "bad_option"),
        ('a.png,"{""__prefect_kind"": ""jinja""}"', "bad_json"),
        ("a.png," + "[" * 500, "bad_json"),
        (",,x", "bad_row"),
        ("a.png,,../x", "bad_row"),
        ("a.png,,..", "bad_row"),
        ("a.png,,a b", "bad_row"),
        ("a.png,,one", "repeated_job_id"),
        ("a.png,,,x", "bad_row"),
        ('a.png,"{}"x,y', "bad_row"),
        ("x" * 5000, "bad_row"),
        ("\udcff.png", "bad_row"),
    ],
)
def test_a_bad_row_does_not_affect_the_others(line: str, code: str) -> None:
    data = f"source,options,job_id\nfirst.png,,one\n{line}\nlast.png,,last\n"
    rows = read(data.encode("utf-8", "surrogateescape"))
    assert [row.source for row in rows if row.error is None] == ["first.png", "last.png"]
    (bad,) = [row for row in rows if row.error is not None]
    assert bad.error is not None and (bad.row, bad.error.code, bad.error.fault) == (3, code, "input")
    bad.model_dump_json()


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("{", "bad_request"),
        ("[]", "bad_row"),
        ("{}", "bad_row"),
        ('{"source": 7}', "bad_row"),
        ('{"source": "a", "sorce": 1}', "bad_row"),
        ('{"source": "a", "job_id": true}', "bad_row"),
        ('{"source": "a", "scale": 2, "options": {"scale": 3}}', "bad_option"),
        ('{"source": "\\u0000"}', "bad_json"),
        ('{"source": "\\ud800"}', "bad_json"),
        ('{"source": "a", "options": {"model": %s}}' % ('"x' + "y" * 200_000 + '"'), "too_large"),
    ],
)
def test_a_bad_line_does_not_affect_the_others(line: str, code: str) -> None:
    rows = read(f'{{"source": "first.png"}}\n{line}\n{{"source": "last.png"}}')
    assert [row.error and row.error.code for row in rows] == [None, code, None]


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "bad_manifest"),
        (b"\n\n", "bad_manifest"),
        (b"source,options\n", "bad_manifest"),
        (b"https://example.com/a.png\n", "bad_manifest"),
        (b"source,sorce\na,b", "bad_manifest"),
        (b"source,source\na,b", "bad_manifest"),
        (b'[{"source": "a"}]', "bad_manifest"),
        (b"\x89PNG\r\n\x1a\n\x00\x00", "bad_manifest"),
        (b"PK\x03\x04\x00", "bad_manifest"),
        (b"\xff\xfes\x00o", "bad_manifest"),
        (b"source\n" + b"a\n" * 101, "too_many_rows"),
        (b"x" * (MAX_MANIFEST_BYTES + 1), "too_large"),
    ],
)
def test_files_that_are_refused_as_a_whole(data: bytes, code: str) -> None:
    assert code_of(data) == code


def test_ten_thousand_rows_are_read_and_one_more_is_refused() -> None:
    lines = "".join(json.dumps({"source": f"{number}.png", "scale": 2}) + "\n" for number in range(10_000))
    assert len(read(lines, 10_000)) == 10_000
    assert code_of(lines + '{"source": "x"}', 10_000) == "too_many_rows"


@given(st.binary(max_size=300))
def test_any_bytes_are_rows_or_one_sentence(data: bytes) -> None:
    for start in (b"", b"source,options,job_id\n", b"source,scale\n", b'{"source": "a"}\n'):
        try:
            rows = read(start + data)
        except Rejected as error:
            assert error.message.endswith(".")
        else:
            assert all(row.model_dump_json() and (row.source or row.error) for row in rows)
