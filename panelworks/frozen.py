"""The base of every record that stages exchange."""

from pydantic import BaseModel, ConfigDict


class Frozen(BaseModel):
    """Immutable, and strict about unknown fields, so that a typing error is not a silent default."""

    model_config = ConfigDict(frozen=True, extra="forbid")
