"""Requests for pages, and the forms in which they cross a boundary: parameters of a run, and the event of a panel."""

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, NamedTuple, Protocol, Self

from pydantic import BeforeValidator, Field, ValidationError, model_validator

from panelworks.domain.fields import (
    ClientId,
    ClientText,
    Frozen,
    JsonLimits,
    OpaqueMetadata,
    Traceparent,
    digest_of,
    parse_json,
    read_traceparent,
)
from panelworks.domain.options import EnhanceOptions
from panelworks.errors import Rejected

EntryPoint = Literal["operator", "event", "http"]
"""Where a request came in; it decides which sources and places it may name (`panelworks.page.entry_points`)."""

JOB_ID_PATTERN: Final = r"^(\.{3,}|\.*[A-Za-z0-9_:-][A-Za-z0-9._:-]*)$"
"""Ids that clients choose are part of addresses; therefore `.` and `..` are not allowed."""


class JobKey(NamedTuple):
    """The identity of a job: two API keys may use the same job id for different jobs."""

    owner: str | None
    """Name of the API key that created the job; None for jobs of operators and of events."""
    job_id: str


def job_digest(key: JobKey) -> str:
    """The name of a job in the store. Jobs without an owner have the name that jobs had before owners existed."""
    return digest_of(key.job_id) if key.owner is None else digest_of([key.owner, key.job_id])


class ClientFields(Protocol):
    """What a client says of itself and of the panel, in a request of any form."""

    @property
    def tool(self) -> str: ...

    @property
    def panel_id(self) -> str | None: ...

    @property
    def comic_id(self) -> str | None: ...

    @property
    def callback(self) -> str | None: ...

    @property
    def metadata(self) -> dict[str, Any]: ...


class Origin(Frozen):
    """Who requested a page, and who receives the result."""

    tool: str = Field("prefect", description="Name of the client, for logs, metrics and the ledger.")
    panel_id: str | None = Field(None, description="The panel's identity in the comic generator.")
    comic_id: str | None = Field(None, description="The comic's identity in the comic generator.")
    callback: str | None = Field(None, description="https:// address that receives the result.")
    metadata: OpaqueMetadata = Field(
        default_factory=dict,
        description="JSON object, as text, that is returned with the result; up to 32 KiB.",
    )
    owner: str | None = Field(
        None, description="API key that the job belongs to. The gateway sets it; leave it empty."
    )
    entry_point: EntryPoint = Field(
        "operator", description="Events and HTTP requests may name less than an operator: no local files."
    )
    traceparent: Traceparent = Field(
        None,
        exclude_if=lambda given: given is None,  # earlier releases read records and know no such field
        description="Trace that the page belongs to, in the format of W3C's Trace Context.",
    )

    @classmethod
    def of_client(
        cls,
        client: ClientFields,
        *,
        owner: str | None,
        entry_point: EntryPoint,
        traceparent: str | None = None,
    ) -> Self:
        """The origin of a client's request. Owner and entry point are known to the server, never named by the client."""
        return cls(
            tool=client.tool,
            panel_id=client.panel_id,
            comic_id=client.comic_id,
            callback=client.callback,
            metadata=client.metadata,
            owner=owner,
            entry_point=entry_point,
            traceparent=traceparent,
        )

    @model_validator(mode="before")
    @classmethod
    def _rename_door(cls, given: Any) -> Any:
        """Jobs and runs that were stored before the field was renamed have `door`."""
        if isinstance(given, Mapping) and "door" in given:
            return {"entry_point" if name == "door" else name: value for name, value in given.items()}
        return given


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

    def to_parameters(self) -> dict[str, Any]:
        """The request as parameters of a run: JSON values."""
        return {
            "source": self.source,
            "out": self.out,
            "options": self.options.model_dump(mode="json", exclude_defaults=True),
            "force": self.force,
            "job_id": self.job_id,
            "origin": self.origin.model_dump(mode="json", exclude_none=True),
        }

    @classmethod
    def from_parameters(cls, given: Mapping[str, Any], *, job_id: str, out: str) -> Self:
        """Read parameters of a run; a run of an event has most of its request in `event`, a JSON text.

        Args:
            given: Parameters as JSON values or as models.
            job_id: Identity of a job whose parameters name none.
            out: Where to deliver a page whose parameters name no place.

        Raises:
            Rejected: `refused_event`, the event cannot be used.
        """
        options = EnhanceOptions.model_validate(given.get("options") or {})
        origin = Origin.model_validate(given.get("origin") or {})
        force = bool(given.get("force"))
        if given.get("event") is not None:
            panel = read_generated_panel(given["event"])
            options, origin, force = (
                options.with_defaults_from(panel.options),
                panel.origin,
                force or panel.force,
            )
        return cls(
            source=str(given["source"]),
            out=given.get("out") or out,
            options=options,
            job_id=str(given.get("job_id") or job_id),
            origin=origin,
            force=force,
        )

    def to_event(self) -> dict[str, Any]:
        """The request as payload of the event `comic.panel.generated`, which has neither a place nor an owner."""
        origin = self.origin
        payload = {
            "source": self.source,
            "tool": origin.tool,
            "job_id": self.job_id,
            "panel_id": origin.panel_id,
            "comic_id": origin.comic_id,
            "options": self.options.model_dump(mode="json", exclude_defaults=True),
            "force": self.force or None,
            "callback": origin.callback,
            "metadata": origin.metadata or None,
            "traceparent": origin.traceparent,
        }
        return {name: value for name, value in payload.items() if value is not None}


EVENT_LIMITS: Final = JsonLimits(max_bytes=256 * 1024)
"""ASCII JSON; what the fields may hold is less."""


def _text_of_number(value: Any) -> Any:
    """Generators may number their panels and comics: a number is an identity too."""
    return str(value) if isinstance(value, int | float) else value


Identity = Annotated[ClientId, BeforeValidator(_text_of_number)]


class GeneratedPanel(Frozen):
    """What an event requests, beside the source and the job id."""

    tool: Annotated[ClientText, Field(max_length=100)] = "event"
    panel_id: Identity | None = None
    comic_id: Identity | None = None
    options: EnhanceOptions = EnhanceOptions()
    force: bool = False
    callback: Annotated[ClientText, Field(max_length=2048)] | None = None
    metadata: OpaqueMetadata = Field(default_factory=dict)
    traceparent: Traceparent = None

    @property
    def origin(self) -> Origin:
        """The origin of the job."""
        return Origin.of_client(self, owner=None, entry_point="event", traceparent=self.traceparent)


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


def traceparent_of(parameters: Mapping[str, Any]) -> str | None:
    """The trace that parameters of a run name, in their origin or in their event; None if there is none.

    It raises nothing: what is wrong with the parameters is reported by the run.
    """
    origin = parameters.get("origin")
    known = read_traceparent(origin.get("traceparent")) if isinstance(origin, Mapping) else None
    event = parameters.get("event")
    if known is not None or not isinstance(event, str):
        return known
    try:
        payload = parse_json(event, EVENT_LIMITS)
    except Rejected:
        return None
    return read_traceparent(payload.get("traceparent")) if isinstance(payload, dict) else None
