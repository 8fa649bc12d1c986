"""What the event of a generated panel asks for. It crosses other systems as one text and is parsed at its end."""

from typing import Annotated, Any, Final

from pydantic import BeforeValidator, Field, ValidationError

from panelworks.client_data import ClientId, ClientText, JsonLimits, OpaqueMetadata, parse_json
from panelworks.errors import Rejected
from panelworks.frozen import Frozen
from panelworks.options import EnhanceOptions
from panelworks.records import Origin

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
