"""Forms that are generated from models of options, with the same descriptions as the API and the run form of Prefect."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any, Final, Literal

from pydantic import BaseModel

from service.gateway.bodies import resolved_schema

_LABELS: Final = {"xmp": "XMP", "model": "Network", "levels": "Whiten paper", "out": "Destination"}
"""Labels of options whose names are not plain words."""


@dataclass(frozen=True)
class OptionField:
    """A field of the form, from the schema of an option."""

    name: str
    kind: Literal["choice", "switch", "number", "text", "json"]
    description: str
    value: Any
    choices: tuple[str, ...] = ()
    minimum: float | None = None
    maximum: float | None = None
    step: float = 1

    @property
    def label(self) -> str:
        """The name as text."""
        return _LABELS.get(self.name) or self.name.replace("_", " ").capitalize()


def option_fields(options: BaseModel, without: Collection[str]) -> Iterator[OptionField]:
    """The fields of a model of options in the order of its schema, with its values; those named in `without` are left out."""
    # A dump leaves out some fields with default values, which are simple.
    given = dict(options) | options.model_dump(mode="json")
    for name, schema in resolved_schema(type(options).model_json_schema())["properties"].items():
        if name in without:
            continue
        parts = [schema, *(part for part in schema.get("anyOf", ()) if part.get("type") != "null")]
        kinds = {part.get("type") for part in parts} - {None}
        choices = next((tuple(map(str, part["enum"])) for part in parts if "enum" in part), ())
        text = schema.get("description", "")
        if choices:
            yield OptionField(name, "choice", text, given.get(name), choices)
        elif kinds == {"boolean"}:
            yield OptionField(name, "switch", text, getattr(options, name))
        elif name == "scale" or kinds == {"string"}:
            yield OptionField(name, "text", text, given.get(name))
        elif kinds <= {"number", "integer"}:
            limits: dict[str, Any] = next((part for part in parts if "minimum" in part), {})
            yield OptionField(
                name, "number", text, given.get(name),
                minimum=limits.get("minimum"), maximum=limits.get("maximum"), step=1 if "integer" in kinds else 0.05,
            )  # fmt: skip
        else:
            yield OptionField(name, "json", text, given.get(name))
