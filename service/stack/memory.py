"""What provisioning wrote last, kept in Prefect variables of the server that it provisions."""

import json
from typing import Any, Final, Literal

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.actions import VariableCreate, VariableUpdate

Kind = Literal["pools", "deployments", "schedules", "automations"]
_PREFIX: Final = "panelworks_provisioned_"
_TAGS: Final = ["panelworks", "do-not-edit"]
_MAX_CHARACTERS: Final = 4_900
"""Prefect refuses longer values."""


class Memory:
    """One record per object, in one variable per kind of object."""

    def __init__(self, client: PrefectClient) -> None:
        self._client = client
        self._records: dict[Kind, dict[str, dict[str, str]]] = {}

    async def load(self, kind: Kind) -> dict[str, dict[str, str]]:
        """All records of a kind, by the object's name; changes to the answer are written by `save`."""
        if kind not in self._records:
            variable = await self._client.read_variable_by_name(_PREFIX + kind)
            value: Any = variable.value if variable else {}
            records = value.items() if isinstance(value, dict) else ()
            self._records[kind] = {str(name): dict(one) for name, one in records if isinstance(one, dict)}
        return self._records[kind]

    async def save(self) -> None:
        """Write what was loaded."""
        for kind, records in self._records.items():
            name, value = _PREFIX + kind, _bounded(records)
            if await self._client.read_variable_by_name(name) is None:
                await self._client.create_variable(VariableCreate(name=name, value=value, tags=_TAGS))
            else:
                await self._client.update_variable(VariableUpdate(name=name, value=value))


def _bounded(records: dict[str, dict[str, str]]) -> dict[str, Any]:
    """What fits into a variable. An object without a record keeps the values that differ, which is safe."""
    kept: dict[str, Any] = {}
    size = 2
    for name, record in records.items():
        size += len(json.dumps({name: record}))
        if size > _MAX_CHARACTERS:
            break
        kept[name] = record
    return kept
