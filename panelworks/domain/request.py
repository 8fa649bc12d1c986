"""Requests: what, how, where to and for whom; and the event of a generated panel, which asks for the same as one text."""

from typing import Annotated, Any, Final, Literal, NamedTuple

from pydantic import BeforeValidator, Field, ValidationError

from panelworks.domain.fields import (
    ClientId,
    ClientText,
    Frozen,
    JsonLimits,
    OpaqueMetadata,
    digest_of,
    parse_json,
)
from panelworks.domain.options import EnhanceOptions
from panelworks.errors import Rejected

Door = Literal["operator", "event", "http"]
"""Through which door a request came; it decides what may be named (`panelworks.page.entry_points`)."""


class JobKey(NamedTuple):
    """The identity of a job: two API keys may use the same job id for different jobs."""

    owner: str | None
    """Name of the API key that created the job; None for jobs of operators and of Prefect's own events."""
    job_id: str


def job_digest(key: JobKey) -> str:
    """The name of a job in the store. Jobs without an owner keep the name that they had before there were owners."""
    return digest_of(key.job_id) if key.owner is None else digest_of([key.owner, key.job_id])


class Origin(Frozen):
    """Who asked for a page, and whom to tell."""

    tool: str = Field("prefect", description="Who asked, for logs, metrics and the ledger.")
    panel_id: str | None = Field(None, description="The panel's identity in the comic generator.")
    comic_id: str | None = Field(None, description="The comic's identity in the comic generator.")
    callback: str | None = Field(None, description="https:// address that is told how the page ended.")
    metadata: OpaqueMetadata = Field(
        default_factory=dict,
        description="JSON object, as text, that comes back with the result; up to 32 KiB.",
    )
    owner: str | None = Field(
        None, description="API key that the job belongs to. The gateway sets it; leave it empty."
    )
    door: Door = Field(
        "operator", description="Events and HTTP requests may name less than an operator: no local files."
    )


class PageRequest(Frozen):
    """One page to process: what, how, and where to deliver."""

    source: str
    """Path, file://, https://, s3:// or data: address of the picture."""
    out: str
    """Folder or s3://bucket/prefix that receives the master, variants and result."""
    options: EnhanceOptions = EnhanceOptions()
    job_id: str
    origin: Origin = Origin()
    force: bool = False
    """Compute again even when the result is known."""

    @property
    def key(self) -> JobKey:
        """The identity of the job."""
        return JobKey(self.origin.owner, self.job_id)


EVENT_LIMITS: Final = JsonLimits(max_bytes=256 * 1024)
"""ASCII JSON; what the fields may hold is less."""


def _text_of_number(value: Any) -> Any:
    """Generators count their panels and comics: a number is an identity too."""
    return str(value) if isinstance(value, int | float) else value


Identity = Annotated[ClientId, BeforeValidator(_text_of_number)]


class GeneratedPanel(Frozen):
    """What an event asks for, beside the source and the job id."""

    tool: Annotated[ClientText, Field(max_length=100)] = "event"
    panel_id: Identity | None = None
    comic_id: Identity | None = None
    options: EnhanceOptions = EnhanceOptions()
    force: bool = False
    callback: Annotated[ClientText, Field(max_length=2048)] | None = None
    metadata: OpaqueMetadata = Field(default_factory=dict)

    @property
    def origin(self) -> Origin:
        """Who asked, as the job records it."""
        return Origin(
            tool=self.tool,
            panel_id=self.panel_id,
            comic_id=self.comic_id,
            callback=self.callback,
            metadata=self.metadata,
            door="event",
        )

    def merged(self, options: EnhanceOptions) -> EnhanceOptions:
        """The event's options; what `options` sets has precedence."""
        given = [one.model_dump(exclude_defaults=True) for one in (self.options, options)]
        return EnhanceOptions.model_validate(given[0] | given[1])


def read_generated_panel(text: str) -> GeneratedPanel:
    """Read the JSON text of an event.

    Raises:
        Rejected: `refused_event`, the event holds something that cannot be used; the message says what.
    """
    try:
        given = parse_json(text, EVENT_LIMITS)
        if not isinstance(given, dict):
            raise Rejected("bad_json", "It is not a JSON object.")
        return GeneratedPanel.model_validate(
            {name: value for name, value in given.items() if value is not None}
        )
    except Rejected as error:
        raise Rejected("refused_event", f"The event cannot be used: {error.message}") from error
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])[:100]
        raise Rejected("refused_event", f"The event cannot be used: {place}: {first['msg']}") from error
