"""Data of clients is checked before it is used."""

import json
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from panelworks.domain.fields import (
    METADATA_LIMITS,
    JsonLimits,
    Metadata,
    OpaqueMetadata,
    parse_json,
    parse_metadata,
)
from panelworks.domain.request import Origin
from panelworks.errors import Rejected

LIMITS = JsonLimits(max_bytes=100_000)

HOSTILE: dict[str, tuple[str | bytes, str]] = {
    "half": ("{", "bad_request"),
    "no UTF-8": (b'"\xff"', "bad_request"),
    "UTF-16 surrogates as bytes": (b'"\xed\xa0\x80"', "bad_request"),
    "65 bits": (f'{{"a": {2**64}}}', "bad_json"),
    "one more than 64 bits": (f'{{"a": {2**63}}}', "bad_json"),
    "one less than 64 bits": (f'{{"a": {-(2**63) - 1}}}', "bad_json"),
    "4,000 digits": ('{"a": ' + "9" * 4000 + "}", "bad_json"),
    "5,000 digits": ('{"a": ' + "9" * 5000 + "}", "bad_json"),
    "5,000 decimals": ('{"a": 0.' + "9" * 5000 + "}", "bad_json"),
    "NaN": ('{"a": NaN}', "bad_json"),
    "Infinity": ('{"a": [-Infinity]}', "bad_json"),
    "an infinite exponent": ('{"a": 1e999}', "bad_json"),
    "a lone surrogate": (r'{"a": "\ud800"}', "bad_json"),
    "a lone surrogate in a key": (r'{"\udc00": 1}', "bad_json"),
    "NUL": (r'{"a": "x\u0000"}', "bad_json"),
    "NUL in a key": (r'{"x\u0000": 1}', "bad_json"),
    "900 objects deep": ('{"a":' * 900 + "1" + "}" * 900, "bad_json"),
    "900 arrays deep": ("[" * 900 + "]" * 900, "bad_json"),
    "50,000 arrays deep": ("[" * 50_000, "bad_json"),
    "17 levels": ("[" * 17 + "]" * 17, "bad_json"),
    "6,000 values": (json.dumps([0] * 6000), "bad_json"),
    "an instruction": ('{"__prefect_kind": "jinja"}', "bad_json"),
    "an instruction, deep": ('{"a": [{"b": {"__prefect_kind": "json"}}]}', "bad_json"),
    "an instruction, escaped": (r'{"\u005f\u005fprefect_kind": "json"}', "bad_json"),
    "too long": ('"' + "x" * 100_000 + '"', "too_large"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_cannot_be_delivered_is_refused(name: str) -> None:
    text, code = HOSTILE[name]
    with pytest.raises(Rejected) as caught:
        parse_json(text, LIMITS)
    assert caught.value.code == code
    if name != "no UTF-8" and isinstance(text, str):
        with pytest.raises(ValidationError):
            TypeAdapter(OpaqueMetadata).validate_python('{"deep": ' + text + "}")


@pytest.mark.parametrize(
    "value",
    [
        {},
        {"a": [1, -(2**63), 2**63 - 1, 0.5, 1e300, None, True, 'ä ページ 😀 \\ud800 " [[[[[[[[[[[[[[[[[[[']},
        {"{{ 3**9 }}": "{{ event }}", "_one": {"x": [[[[]]]]}},
    ],
)
def test_what_is_accepted_is_returned_unchanged(value: dict[str, Any]) -> None:
    assert parse_json(json.dumps(value), LIMITS) == value
    assert parse_json(json.dumps(value, ensure_ascii=False).encode(), LIMITS) == value
    opaque = TypeAdapter(OpaqueMetadata)
    crossing = opaque.dump_python(opaque.validate_python(value), mode="json")
    assert isinstance(crossing, str)
    assert opaque.validate_python(crossing) == value


@pytest.mark.parametrize("given", [[], 1, "1", "[]", None, {"a": b"x"}, {1: 2}, {"a": "x" * 40_000}])
def test_metadata_is_an_object_of_limited_size(given: Any) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(Metadata).validate_python(given)


def test_the_largest_metadata_fits_into_a_run_s_parameters() -> None:
    """They hold 512 KiB of JSON, in which the text is escaped once more."""
    adapter = TypeAdapter(OpaqueMetadata)
    for filling in ('"', "\\", "é", "ペ", "\x01"):
        fits = next(n for n in range(33_000, 0, -500) if _valid({"a": filling * n}))
        crossing = json.dumps(adapter.dump_python({"a": filling * fits}, mode="json"))
        assert len(crossing) < 256 * 1024


def _valid(value: dict[str, Any]) -> bool:
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    return len(text.encode()) <= METADATA_LIMITS.max_bytes


@pytest.mark.parametrize("text", ['"' + "\\\\" * 49_000, '"' * 99_999, '"\\' * 49_000])
def test_strings_without_an_end_are_scanned_once(text: str) -> None:
    """A pattern that starts again at each quotation mark takes minutes for these."""
    with pytest.raises(Rejected):
        parse_json(text, LIMITS)


@pytest.mark.parametrize("character", ["a", "é", "漫", "😀", "\u2028", '"', "\\", "\n", "\x7f"])
def test_metadata_that_is_accepted_is_read_again(character: str) -> None:
    """Regression: CJK text of 11 KB was accepted and could not be read again: its escapes took more than the limit."""
    cost = len(json.dumps(character, ensure_ascii=False).encode()) - 2
    largest = {"title": character * ((METADATA_LIMITS.max_bytes - len('{"title":""}')) // cost)}
    origin = Origin(metadata=parse_metadata(largest))
    assert Origin.model_validate_json(origin.model_dump_json()).metadata == largest
    with pytest.raises(ValueError, match="32 KiB"):
        parse_metadata({"title": largest["title"] + character})
