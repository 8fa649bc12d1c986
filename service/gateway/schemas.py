"""What the gateway takes and answers, as models: they are the OpenAPI documentation too."""

from datetime import datetime
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from deployments.names import Priority
from panelworks.domain.fields import ClientId, ClientText, Metadata
from panelworks.domain.options import EnhanceOptions
from panelworks.domain.result import ErrorInfo, PageResult

MAX_ADDRESS_CHARACTERS: Final = 4096


def _limit_address(source: str) -> str:
    if len(source) > MAX_ADDRESS_CHARACTERS and not source.startswith("data:"):
        raise ValueError(f"an address has at most {MAX_ADDRESS_CHARACTERS} characters")
    return source


Source = Annotated[ClientText, AfterValidator(_limit_address)]
JobStatus = Literal["queued", "running", "done", "failed", "cancelled"]


class Shape(BaseModel):
    """Base: unknown fields are refused, so that a misspelt option does not pass in silence."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class UploadFields(Shape):
    """What goes with a page, however the page itself comes."""

    preset: ClientText | None = Field(None, max_length=100, description="Short for options.preset.")
    options: EnhanceOptions = Field(default=EnhanceOptions(), description="What to do with the page.")
    priority: Priority = Field("interactive", description="Which queue the job waits in.")
    force: bool = Field(False, description="Compute again even when the result is known.")
    out: ClientText | None = Field(
        None,
        max_length=MAX_ADDRESS_CHARACTERS,
        description="s3://bucket/prefix to deliver to; else the default place.",
    )
    tool: ClientText = Field("http", max_length=100, description="Who asks, for metrics and the ledger.")
    panel_id: ClientId | None = Field(None, description="Comes back with the result.")
    comic_id: ClientId | None = Field(None, description="Comes back with the result.")
    callback: ClientText | None = Field(
        None,
        max_length=MAX_ADDRESS_CHARACTERS,
        description="https:// address that receives the signed result of the job.",
    )
    metadata: Metadata = Field(
        default_factory=dict, description="JSON object that comes back with the result; up to 32 KiB."
    )


class ProcessRequest(UploadFields):
    """A page to process, named by its source."""

    source: Source = Field(
        min_length=1, description="https://, s3:// (buckets on the allow-list) or data: address."
    )


class Again(Shape):
    """How to process a page once more."""

    options: EnhanceOptions = EnhanceOptions()
    priority: Priority = "interactive"
    force: bool = False
    callback: ClientText | None = Field(None, max_length=MAX_ADDRESS_CHARACTERS)


class Link(Shape):
    """A file of a finished job."""

    name: str
    url: str
    uri: str
    width: int
    height: int
    bytes: int


class Job(Shape):
    """A job: where it is and, once it has ended, what came of it."""

    job_id: str
    status: JobStatus
    stage: str | None = None
    percent: float = 0
    flow_run_id: str | None = None
    run_url: str | None = Field(None, description="The run in the Prefect UI.")
    status_url: str
    progress_url: str
    links: tuple[Link, ...] = ()
    result: PageResult | None = None
    error: ErrorInfo | None = None


class JobSummary(Shape):
    """A job in a list."""

    job_id: str
    name: str
    owner: str | None = Field(None, description="The API key that the job belongs to.")
    status: JobStatus
    queue: str | None
    created: datetime | None
    started: datetime | None
    ended: datetime | None
    status_url: str


class JobList(Shape):
    """One page of jobs, the newest first."""

    jobs: tuple[JobSummary, ...]
    limit: int
    offset: int


class GeneratedEvent(Shape):
    """A generator has finished a panel."""

    source: Source = Field(
        min_length=1, description="https://, s3:// (buckets on the allow-list) or data: address."
    )
    tool: ClientText = Field("event", max_length=100)
    job_id: str | None = Field(
        None,
        pattern=r"^(\.{3,}|\.*[A-Za-z0-9_:-][A-Za-z0-9._:-]*)$",
        max_length=200,
        description="The generator's own id of the job. It is part of addresses, so that `.` and `..` are none.",
    )
    panel_id: ClientId | None = None
    comic_id: ClientId | None = None
    options: EnhanceOptions = EnhanceOptions()
    priority: Priority = "events"
    force: bool = False
    callback: ClientText | None = Field(None, max_length=MAX_ADDRESS_CHARACTERS)
    metadata: Metadata = Field(default_factory=dict)


class EventAccepted(Shape):
    """The event was accepted. `event_id` is the same however often the job is posted."""

    event_id: str
    job_id: str
    status_url: str
    progress_url: str


class UploadResult(Shape):
    """What became of an uploaded picture; the fields are VisionCloud's."""

    original_key: str = Field(description="Name of the uploaded file.")
    status: Literal["success", "error"]
    folder: str | None = Field(None, description="good_quality, upscaled or couldn't_upscale.")
    s3_url: str | None = Field(None, description="HTTP address of the delivered object.")
    quality_score: float | None = Field(None, description="Resolution score of what was delivered.")
    upscale_scale: float | None = None
    processed_at: datetime | None = None


class UploadAnswer(Shape):
    """The answer to one upload."""

    success: bool
    message: str
    result: UploadResult | None = None


class BatchAnswer(Shape):
    """The answers to several uploads, in their order."""

    success: bool
    message: str
    results: tuple[UploadAnswer, ...]


class Problem(Shape):
    """What went wrong: a code for programs, a sentence for people, the request's id for the log."""

    error: ErrorInfo
    request_id: str | None = None


class Health(Shape):
    """`healthy` when pages can be taken; the components tell of what is slower or missing."""

    status: Literal["healthy", "degraded", "unhealthy"]
    components: dict[str, str]
    version: str
