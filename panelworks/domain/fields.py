"""The base class of all records, and field types for data of clients: text, ids, JSON."""

import hashlib
import json
import math
import re
from dataclasses import dataclass
from typing import Annotated, Any, Final, NoReturn

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    WithJsonSchema,
)

from panelworks.errors import Rejected


class Frozen(BaseModel):
    """Immutable. Unknown fields are an error: a misspelt name must not become a silent default."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def digest_of(content: Any) -> str:
    """SHA-256 of the canonical JSON of `content`, in hexadecimal."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


MAX_INTEGER: Final = 2**63 - 1
"""Integers are stored as signed 64-bit numbers."""
MIN_INTEGER: Final = -(2**63)
RESERVED_KEY_PREFIX: Final = "__"
"""Keys that begin with it are instructions for template engines."""
_MAX_INTEGER_DIGITS: Final = 19
_MAX_FLOAT_CHARACTERS: Final = 64
_MAX_PARSER_DEPTH: Final = 100
"""Upper bound of every limit on levels: the parser recurses once per level."""
_STRING: Final = re.compile(r'"(?:[^"\\]|\\.)*+(?:"|\\?\Z)', re.DOTALL)
"""A string, also one without an end; without this case, each quotation mark in it would start another scan."""
_UNUSABLE_CHARACTERS: Final = re.compile("[\x00\ud800-\udfff]")


@dataclass(frozen=True)
class JsonLimits:
    """Limits on JSON of a client."""

    max_bytes: int
    """UTF-8 bytes of the text."""
    max_depth: int = 16
    """Levels of nested objects and arrays."""
    max_values: int = 5_000
    """Keys, and elements of arrays, in total."""


METADATA_LIMITS: Final = JsonLimits(max_bytes=32 * 1024)
"""Metadata is copied into the parameters of a run (limit 512 KiB), events (1.5 MB) and callbacks."""
REQUEST_LIMITS: Final = JsonLimits(max_bytes=128 * 1024)
"""Limits on a request without the picture it may contain."""


def parse_json(data: str | bytes, limits: JsonLimits) -> Any:
    """Parse JSON of a client and check it.

    Raises:
        Rejected: `bad_request`, it is not well-formed; `too_large`; `bad_json`, it contains a value or key that
            `check_value` refuses.
    """
    size = len(data) if isinstance(data, bytes) else len(data.encode("utf-8", "surrogatepass"))
    if size > limits.max_bytes:
        raise _too_large(limits)
    try:
        text = data if isinstance(data, str) else data.decode()
        _check_nesting(text, limits.max_depth)
        value = json.loads(text, parse_int=_integer, parse_float=_float, parse_constant=_refuse_constant)
    except ValueError as error:  # UnicodeDecodeError is one of them
        raise Rejected("bad_request", "The JSON is not well-formed.") from error
    check_value(value, limits)
    return value


def check_value(value: Any, limits: JsonLimits) -> None:
    """Check a parsed value: every number, text and key in it.

    Raises:
        Rejected: `bad_json`, too many levels or values, a number out of range, text that is not valid Unicode or
            contains a NUL character, or a key that begins with two underscores.
    """
    count, waiting = 0, [(value, 1)]
    while waiting:
        one, depth = waiting.pop()
        if isinstance(one, dict):
            for key in one:
                _check_key(key)
            inner = list(one.values())
        elif isinstance(one, list | tuple):
            inner = list(one)
        else:
            _check_scalar(one)
            continue
        if depth > limits.max_depth:
            raise _too_deep(limits.max_depth)
        count += len(inner)
        if count > limits.max_values:
            raise Rejected("bad_json", f"The JSON has more than {limits.max_values} values.")
        waiting += [(each, depth + 1) for each in inner]


def check_text(text: str) -> str:
    """Return the text unchanged if it is usable.

    Raises:
        Rejected: `bad_json`, it is not valid Unicode or contains a NUL character.
    """
    if _UNUSABLE_CHARACTERS.search(text):
        raise Rejected("bad_json", "A text contains a NUL character or half of a surrogate pair.")
    return text


def _check_scalar(value: Any) -> None:
    if isinstance(value, str):
        check_text(value)
    elif isinstance(value, bool) or value is None:
        return
    elif isinstance(value, int):
        if not MIN_INTEGER <= value <= MAX_INTEGER:
            raise _out_of_range()
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise _out_of_range()
    else:
        raise Rejected("bad_json", f"A value of the type {type(value).__name__} is not JSON.")


def _check_key(key: Any) -> None:
    if not isinstance(key, str):
        raise Rejected("bad_json", "The keys of JSON objects are texts.")
    check_text(key)
    if key.startswith(RESERVED_KEY_PREFIX):
        raise Rejected("bad_json", "Keys that begin with two underscores are reserved.")


def _check_nesting(text: str, limit: int) -> None:
    """Count brackets outside strings, before a parser recurses into them."""
    depth = 0
    for bracket in re.finditer(r"[\[\]{}]", _STRING.sub("", text)):
        depth += 1 if bracket[0] in "[{" else -1
        if depth > min(limit, _MAX_PARSER_DEPTH):
            raise _too_deep(limit)


def _integer(digits: str) -> int:
    """Conversion time grows with the square of the number of digits: count them first."""
    if len(digits.lstrip("-")) > _MAX_INTEGER_DIGITS:
        raise _out_of_range()
    return int(digits)


def _float(text: str) -> float:
    if len(text) > _MAX_FLOAT_CHARACTERS:
        raise _out_of_range()
    return float(text)


def _refuse_constant(name: str) -> NoReturn:
    raise Rejected("bad_json", f"{name} is not JSON.")


def _out_of_range() -> Rejected:
    return Rejected("bad_json", "A number is out of range: integers have 64 bits, other numbers are finite.")


def _too_deep(limit: int) -> Rejected:
    return Rejected("bad_json", f"The JSON is nested more than {limit} levels deep.")


def _too_large(limits: JsonLimits) -> Rejected:
    return Rejected("too_large", f"The JSON has more than {limits.max_bytes // 1024} KiB.")


def metadata_text(metadata: dict[str, Any]) -> str:
    """Metadata as text: compact JSON, the same at every boundary.

    `METADATA_LIMITS` limits its size in UTF-8. Escapes could make accepted metadata too large to be read again.
    """
    return json.dumps(metadata, separators=(",", ":"), ensure_ascii=False)


def parse_metadata(given: Any) -> dict[str, Any]:
    """Read metadata from its text or from an object.

    Raises:
        ValueError: it is not a JSON object, or `check_value` refuses it; the message contains the reason.
    """
    try:
        value = parse_json(given, METADATA_LIMITS) if isinstance(given, str | bytes) else given
        if not isinstance(value, dict):
            raise Rejected("bad_json", "Metadata is a JSON object.")
        check_value(value, METADATA_LIMITS)
        if len(metadata_text(value).encode()) > METADATA_LIMITS.max_bytes:
            raise _too_large(METADATA_LIMITS)
    except Rejected as error:
        raise ValueError(error.message) from error
    return value


def _check_client_text(text: str) -> str:
    try:
        return check_text(text)
    except Rejected as error:
        raise ValueError(error.message) from error


ClientText = Annotated[str, AfterValidator(_check_client_text)]
"""Text of a client: valid Unicode without NUL. Fields of this type need a `max_length`."""
ClientId = Annotated[ClientText, Field(max_length=500)]
"""An identity that a client has chosen."""
Metadata = Annotated[dict[str, Any], BeforeValidator(parse_metadata)]
"""Metadata in requests and answers: an object."""
OpaqueMetadata = Annotated[
    dict[str, Any],
    BeforeValidator(parse_metadata),
    PlainSerializer(metadata_text, return_type=str, when_used="json"),
    WithJsonSchema({"type": "string", "contentMediaType": "application/json", "default": "{}"}),
]
"""Metadata in stored records: an object in Python, one text in JSON, which nothing on the way interprets."""


_TRACEPARENT: Final = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}", re.ASCII)


def read_traceparent(given: Any) -> str | None:
    """A `traceparent` of version 00 of W3C's Trace Context; None for anything else, as the standard demands."""
    return given if isinstance(given, str) and _TRACEPARENT.fullmatch(given) else None


Traceparent = Annotated[
    str | None,
    BeforeValidator(read_traceparent),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "null"}], "default": None}),
]
"""The trace of a request. An invalid value is ignored: it must not fail the request."""
