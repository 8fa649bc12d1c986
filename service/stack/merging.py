"""Three-way comparison: what the release wants, what the server has, what provisioning wrote last.

A value that still is what provisioning wrote last belongs to the release and is updated. Any other value was changed
by an operator and is kept. Only digests of written values are stored.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.actions import VariableCreate, VariableUpdate

Kind = Literal["pools", "deployments", "schedules", "automations"]
_PREFIX: Final = "panelworks_provisioned_"
_TAGS: Final = ["panelworks", "do-not-edit"]
_MAX_CHARACTERS: Final = 4_900
"""Prefect refuses longer values."""


class ProvisioningRecords:
    """What provisioning wrote last: one record per object, in one Prefect variable per kind of object."""

    def __init__(self, client: PrefectClient) -> None:
        self._client = client
        self._records: dict[Kind, dict[str, dict[str, str]]] = {}

    async def load(self, kind: Kind) -> dict[str, dict[str, str]]:
        """All records of a kind, by the object's name; `save` writes changes to them."""
        if kind not in self._records:
            variable = await self._client.read_variable_by_name(_PREFIX + kind)
            value: Any = variable.value if variable else {}
            records = value.items() if isinstance(value, dict) else ()
            self._records[kind] = {str(name): dict(one) for name, one in records if isinstance(one, dict)}
        return self._records[kind]

    async def save(self) -> None:
        """Write the records that were loaded."""
        for kind, records in self._records.items():
            name, value = _PREFIX + kind, _limit_size(records)
            if await self._client.read_variable_by_name(name) is None:
                await self._client.create_variable(VariableCreate(name=name, value=value, tags=_TAGS))
            else:
                await self._client.update_variable(VariableUpdate(name=name, value=value))


def _limit_size(records: dict[str, dict[str, str]]) -> dict[str, Any]:
    """The records that fit into a variable. An object without a record keeps the values that differ, which is safe."""
    kept: dict[str, Any] = {}
    size = 2
    for name, record in records.items():
        size += len(json.dumps({name: record}))
        if size > _MAX_CHARACTERS:
            break
        kept[name] = record
    return kept


_DIGEST_CHARACTERS: Final = 8
"""A record of all deployments must fit into one Prefect variable of 5,000 characters."""
_MAX_SHOWN_CHARACTERS: Final = 60
Path = tuple[str, ...]
Written = Mapping[str, str]
"""Digest of each value that provisioning wrote last, by its path joined with slashes."""


@dataclass(frozen=True)
class Difference:
    """One value of one object, and what provisioning did about it."""

    subject: str
    """The object, such as `schedule backfill/backfill/nightly`."""
    action: str
    """`created`, `updated` or `kept`."""
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.action:<8} {self.subject}{f': {self.detail}' if self.detail else ''}"


@dataclass(frozen=True)
class Merge:
    """The outcome of one comparison."""

    values: dict[str, Any]
    """All fields after the merge."""
    changed: frozenset[str]
    """Names of the fields that differ from what the server has."""
    written: dict[str, str]
    """What to record as written by provisioning."""
    updated: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()

    def differences(self, subject: str) -> Iterator[Difference]:
        """The differences, to be printed."""
        if self.updated:
            yield Difference(subject, "updated", ", ".join(self.updated))
        for detail in self.kept:
            yield Difference(subject, "kept", detail)


@dataclass
class _Result:
    values: dict[Path, Any] = field(default_factory=dict)
    written: dict[str, str] = field(default_factory=dict)
    updated: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)


def merge(
    wanted: Mapping[str, Any],
    found: Mapping[str, Any],
    written: Written,
    *,
    nested: frozenset[str] = frozenset(),
    overwrite: bool = False,
) -> Merge:
    """Compare the fields of one object.

    Args:
        wanted: Fields as this release wants them; JSON values.
        found: The same fields as the server has them.
        written: What provisioning wrote last; empty when that is not known, in which case differing values are kept.
        nested: Fields that hold objects and are compared key by key.
        overwrite: Take the values of the release also where an operator changed them.
    """
    ours, theirs = dict(_leaves(wanted, nested)), dict(_leaves(found, nested))
    ours, theirs = _without_empty_parents(ours, theirs), _without_empty_parents(theirs, ours)
    result = _Result()
    for path in sorted({*ours, *theirs}):
        _merge_leaf(path, ours, theirs, written, overwrite, result)
    values = _assemble(result.values, {*wanted, *found} & nested)
    changed = frozenset(name for name in values if values[name] != found.get(name))
    return Merge(values, changed, result.written, tuple(result.updated), tuple(result.kept))


def record(fields: Mapping[str, Any], *, nested: frozenset[str] = frozenset()) -> dict[str, str]:
    """The record of an object that was just created with these fields."""
    return {_key(path): digest(value) for path, value in _leaves(fields, nested)}


def digest(value: Any) -> str:
    """A short digest of a JSON value."""
    text = json.dumps(value, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:_DIGEST_CHARACTERS]


def _merge_leaf(
    path: Path,
    ours: Mapping[Path, Any],
    theirs: Mapping[Path, Any],
    written: Written,
    overwrite: bool,
    result: _Result,
) -> None:
    key = _key(path)
    last = written.get(key)
    if path in ours and path in theirs and ours[path] == theirs[path]:
        result.values[path] = ours[path]
        result.written[key] = digest(ours[path])
        return
    if path in theirs and path not in ours:
        if last == digest(theirs[path]):
            result.updated.append(f"{key} removed")
        else:
            result.values[path] = theirs[path]
            result.kept.append(f"{key} was added by an operator")
        return
    unchanged = last is None if path not in theirs else last == digest(theirs[path])
    if unchanged or overwrite:
        result.values[path] = ours[path]
        result.written[key] = digest(ours[path])
        result.updated.append(key)
        return
    if path in theirs:
        result.values[path] = theirs[path]
    if last is not None:
        result.written[key] = last
    result.kept.append(_sentence(path, ours[path], theirs.get(path, _REMOVED)))


_REMOVED: Final = object()


def _sentence(path: Path, ours: Any, theirs: Any) -> str:
    key = _key(path)
    if theirs is _REMOVED:
        return f"{key} was removed by an operator"
    if "env" in path or not (_is_short(ours) and _is_short(theirs)):
        return f"{key} was changed by an operator"
    return f"{key} is {json.dumps(theirs)}; this release has {json.dumps(ours)}"


def _is_short(value: Any) -> bool:
    return len(json.dumps(value, default=str)) <= _MAX_SHOWN_CHARACTERS


def _leaves(fields: Mapping[str, Any], nested: frozenset[str]) -> Iterator[tuple[Path, Any]]:
    for name, value in fields.items():
        if name in nested:
            yield from _inner((name,), value or {})
        else:
            yield (name,), value


def _inner(path: Path, value: Mapping[str, Any]) -> Iterator[tuple[Path, Any]]:
    for name, inner in value.items():
        if isinstance(inner, dict) and inner:
            yield from _inner((*path, name), inner)
        else:
            yield (*path, name), inner


def _without_empty_parents(leaves: dict[Path, Any], others: Mapping[Path, Any]) -> dict[Path, Any]:
    """Without empty objects in which the other side has keys: only the keys differ then."""
    parents = {path[:length] for path in others for length in range(1, len(path))}
    return {path: value for path, value in leaves.items() if value != {} or path not in parents}


def _assemble(leaves: Mapping[Path, Any], nested: set[str]) -> dict[str, Any]:
    values: dict[str, Any] = {name: {} for name in nested}
    for path, value in leaves.items():
        place = values
        for name in path[:-1]:
            place = place.setdefault(name, {})
        place[path[-1]] = value
    return values


def _key(path: Path) -> str:
    return "/".join(path)
