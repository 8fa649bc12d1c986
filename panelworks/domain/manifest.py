"""Manifests of batches: a file with one page a row, as CSV or JSON Lines."""

import csv
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from pydantic import ValidationError

from panelworks.domain.fields import REQUEST_LIMITS, Frozen, check_text, parse_json
from panelworks.domain.options import EnhanceOptions
from panelworks.domain.request import JOB_ID_PATTERN
from panelworks.domain.result import ErrorInfo
from panelworks.errors import Rejected
from panelworks.limits import MIB

MAX_MANIFEST_BYTES: Final = 16 * MIB
MAX_SOURCE_CHARACTERS: Final = 4096
"""Of a source that is not a data: address."""
MAX_JOB_ID_CHARACTERS: Final = 200
MANIFEST_NAMES: Final = ("manifest.csv", "manifest.jsonl", "manifest.ndjson")
"""Names of a manifest in an archive or a folder, in lower case."""
MANIFEST_SUFFIXES: Final = (".csv", ".jsonl", ".ndjson")
_OPTIONS: Final = frozenset(EnhanceOptions.model_fields)
"""Options, which may be columns of their own."""
_COLUMNS: Final = frozenset({"source", "options", "job_id"}) | _OPTIONS
_DELIMITERS: Final = (",", ";", "\t")
"""Spreadsheets write semicolons in some languages, and tabs as 'Unicode text'."""
_JOB_ID: Final = re.compile(JOB_ID_PATTERN, re.ASCII)
_FOREIGN_BYTES: Final = re.compile("[\udc80-\udcff]")
"""Bytes that are not UTF-8, as Python's `surrogateescape` decodes them."""
_MAX_SHOWN_CHARACTERS: Final = 80


class ManifestRow(Frozen):
    """A row of a manifest: a page to process, or the error of a row that cannot be used."""

    row: int
    """As a spreadsheet or an editor numbers it, from 1. The first row of a CSV file has the names of the columns."""
    source: str = ""
    options: EnhanceOptions = EnhanceOptions()
    """What the row states; the rest comes from the batch."""
    job_id: str | None = None
    error: ErrorInfo | None = None


def read_manifest(data: bytes, *, max_rows: int) -> tuple[ManifestRow, ...]:
    """Read a manifest: JSON Lines if it begins with a brace, otherwise CSV whose first row names the columns.

    Columns, or keys, are `source`, `options` (a JSON object), `job_id`, and every option. Empty rows are skipped. A row that
    cannot be used has an `error`, and does not affect the others.

    Raises:
        Rejected: `too_large`; `too_many_rows`; `bad_manifest`, it has no rows, no column `source`, an unknown column, or is
            not text.
    """
    if len(data) > MAX_MANIFEST_BYTES:
        raise Rejected("too_large", f"A manifest has at most {MAX_MANIFEST_BYTES // MIB} MiB.")
    text = _decode(data)
    start = text.lstrip()[:1]
    if start == "[":
        raise _bad_manifest("It is a JSON array; JSON Lines has one object a line.")
    rows: list[ManifestRow] = []
    for row in _json_rows(text) if start == "{" else _csv_rows(text):
        if len(rows) >= max_rows:
            raise too_many_rows(max_rows)
        rows.append(row)
    if not rows:
        raise _bad_manifest("It has no rows.")
    return tuple(_refuse_repeated_ids(rows))


def too_many_rows(max_rows: int) -> Rejected:
    """The error for a batch with too many rows."""
    return Rejected("too_many_rows", f"The batch has more than {max_rows} rows, which is the limit.")


def _bad_manifest(reason: str) -> Rejected:
    return Rejected("bad_manifest", f"The manifest cannot be used: {reason}")


def _decode(data: bytes) -> str:
    """The text without a byte order mark. Bytes that are not UTF-8 are lone surrogates: only their row is refused."""
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        try:
            return data.decode("utf-16")
        except UnicodeDecodeError:
            raise _bad_manifest("It is neither UTF-8 nor UTF-16.") from None
    if b"\x00" in data:
        raise _bad_manifest("It is not a text file.")
    return data.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "surrogateescape")


def _refuse_repeated_ids(rows: Sequence[ManifestRow]) -> Iterator[ManifestRow]:
    first: dict[str, int] = {}
    for row in rows:
        if row.error is None and row.job_id is not None and row.job_id in first:
            message = f"Row {first[row.job_id]} has the same job_id."
            yield _refused(row.row, Rejected("repeated_job_id", message), row.source)
            continue
        if row.job_id is not None:
            first.setdefault(row.job_id, row.row)
        yield row


def _json_rows(text: str) -> Iterator[ManifestRow]:
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        source = ""
        try:
            _check_encoding(line)
            given = parse_json(line, REQUEST_LIMITS)
            if not isinstance(given, dict):
                raise Rejected("bad_row", "The row is not a JSON object.")
            source = str(given.get("source") or "")
            yield _row_of(number, {name: value for name, value in given.items() if value is not None})
        except Rejected as error:
            yield _refused(number, error, source)


def _csv_rows(text: str) -> Iterator[ManifestRow]:
    delimiter, columns = _header_of(text)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    next(reader)
    number = 1
    while True:
        number += 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error:
            yield _refused(number, Rejected("bad_row", "The row is not well-formed CSV."))
            continue
        if not any(cell.strip() for cell in cells):
            continue
        given = {name: cell.strip() for name, cell in zip(columns, cells, strict=False) if cell.strip()}
        try:
            _check_encoding("".join(cells))
            if any(cell.strip() for cell in cells[len(columns) :]) or given.get(""):
                raise Rejected("bad_row", "The row has more cells than there are columns.")
            yield _row_of(number, {name: _value_of(name, cell) for name, cell in given.items()})
        except Rejected as error:
            yield _refused(number, error, given.get("source", ""))


def _header_of(text: str) -> tuple[str, list[str]]:
    """The delimiter and the names of the columns.

    Raises:
        Rejected: `bad_manifest`.
    """
    for delimiter in _DELIMITERS:
        try:
            cells = next(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True), [])
        except csv.Error:
            continue
        columns = [cell.strip().lower() for cell in cells]
        if "source" not in columns:
            continue
        unknown = [name for name in columns if name and name not in _COLUMNS]
        if unknown:
            shown = ", ".join(repr(name[:_MAX_SHOWN_CHARACTERS]) for name in unknown[:5])
            raise _bad_manifest(
                f"Unknown columns: {shown}; known are source, options, job_id and every option."
            )
        named = [name for name in columns if name]
        if len(set(named)) < len(named):
            raise _bad_manifest("A column occurs twice.")
        return delimiter, columns
    raise _bad_manifest("Its first row does not name a column 'source'.")


def _value_of(name: str, cell: str) -> Any:
    """The value of a cell: JSON for options that are objects, otherwise its text."""
    if name == "options" or (name in _OPTIONS and cell.startswith(("{", "["))):
        return parse_json(cell, REQUEST_LIMITS)
    return cell


def _row_of(number: int, given: Mapping[str, Any]) -> ManifestRow:
    """Check a row.

    Raises:
        Rejected: `bad_row`, `bad_option`, or text that cannot be used.
    """
    unknown = next((name for name in given if name not in _COLUMNS), None)
    if unknown is not None:
        raise Rejected("bad_row", f"There is no column '{unknown[:_MAX_SHOWN_CHARACTERS]}'.")
    return ManifestRow(
        row=number,
        source=_source_of(given.get("source")),
        options=_options_of(given),
        job_id=_job_id_of(given.get("job_id")),
    )


def _source_of(value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise Rejected("bad_row", "The row names no source.")
    source = check_text(value.strip())
    if len(source) > MAX_SOURCE_CHARACTERS and not source.startswith("data:"):
        raise Rejected("bad_row", f"A source has at most {MAX_SOURCE_CHARACTERS} characters.")
    return source


def _job_id_of(value: Any) -> str | None:
    if value is None:
        return None
    text = str(value) if isinstance(value, str | int) and not isinstance(value, bool) else ""
    if len(text) > MAX_JOB_ID_CHARACTERS or not _JOB_ID.fullmatch(text):
        raise Rejected(
            "bad_row", f"A job_id has up to {MAX_JOB_ID_CHARACTERS} letters, digits and characters of . _ : -"
        )
    return text


def _options_of(given: Mapping[str, Any]) -> EnhanceOptions:
    options = given.get("options", {})
    if not isinstance(options, dict):
        raise Rejected("bad_option", "The options are not a JSON object.")
    own = {name: value for name, value in given.items() if name in _OPTIONS}
    twice = sorted(own.keys() & options.keys())
    if twice:
        raise Rejected("bad_option", f"{twice[0]}: it is a column and in the options.")
    try:
        return EnhanceOptions.model_validate(options | own)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])[:_MAX_SHOWN_CHARACTERS] or "options"
        message = f"{place}: {first['msg'].removeprefix('Value error, ')}"
        raise Rejected("bad_option", message) from error


def _check_encoding(text: str) -> None:
    if _FOREIGN_BYTES.search(text):
        raise Rejected("bad_row", "The row is not valid UTF-8.")


def _refused(number: int, error: Rejected, source: str = "") -> ManifestRow:
    """A row with an error. Its source is shown: without what cannot be stored."""
    shown = source.encode("utf-8", "replace").decode()[:_MAX_SHOWN_CHARACTERS].replace("\x00", "")
    return ManifestRow(row=number, source=shown, error=ErrorInfo.of(error))
