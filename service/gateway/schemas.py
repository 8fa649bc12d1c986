"""Requests and responses of the gateway as models, from which the OpenAPI document is made."""

from datetime import datetime
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from deployments.names import Priority
from panelworks.domain.fields import ClientId, ClientText, Metadata
from panelworks.domain.options import EnhanceOptions
from panelworks.domain.request import JOB_ID_PATTERN
from panelworks.domain.result import ErrorInfo, PageResult, Placeholder

MAX_ADDRESS_CHARACTERS: Final = 4096


def _limit_address(source: str) -> str:
    if len(source) > MAX_ADDRESS_CHARACTERS and not source.startswith("data:"):
        raise ValueError(f"an address has at most {MAX_ADDRESS_CHARACTERS} characters")
    return source


Source = Annotated[ClientText, AfterValidator(_limit_address)]
JobStatus = Literal["queued", "running", "done", "failed", "cancelled"]


class Schema(BaseModel):
    """Base: unknown fields are refused, so that a misspelt option is not ignored."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class UploadFields(Schema):
    """Fields that accompany a page, whether it is named or uploaded."""

    preset: ClientText | None = Field(None, max_length=100, description="Short form of options.preset.")
    options: EnhanceOptions = Field(default=EnhanceOptions(), description="How to process the page.")
    priority: Priority = Field("interactive", description="The queue of the job.")
    force: bool = Field(False, description="Compute the result again even when it is known.")
    out: ClientText | None = Field(
        None,
        max_length=MAX_ADDRESS_CHARACTERS,
        description="s3://bucket/prefix to deliver to; by default the place that the gateway is configured with.",
    )
    tool: ClientText = Field(
        "http", max_length=100, description="The tool that makes the request, for metrics and the ledger."
    )
    panel_id: ClientId | None = Field(None, description="Returned with the result.")
    comic_id: ClientId | None = Field(None, description="Returned with the result.")
    callback: ClientText | None = Field(
        None,
        max_length=MAX_ADDRESS_CHARACTERS,
        description="https:// address that receives the signed result of the job.",
    )
    metadata: Metadata = Field(
        default_factory=dict, description="JSON object of up to 32 KiB that is returned with the result."
    )


class ProcessRequest(UploadFields):
    """A page to process, named by its source."""

    source: Source = Field(
        min_length=1, description="https://, s3:// (buckets on the allow-list) or data: address."
    )


class ReEnhanceRequest(Schema):
    """How to process a page again."""

    options: EnhanceOptions = EnhanceOptions()
    priority: Priority = "interactive"
    force: bool = False
    callback: ClientText | None = Field(None, max_length=MAX_ADDRESS_CHARACTERS)


class Link(Schema):
    """A file of a finished job."""

    name: str
    url: str = Field(description="At the gateway, for the key of the job.")
    uri: str
    width: int
    height: int
    bytes: int
    public_url: str | None = Field(
        None, description="At the CDN, if one is configured and the page is published."
    )
    signed_url: str | None = Field(
        None, description="Works without a key until expires_at, if signed links are configured."
    )
    expires_at: datetime | None = None


class Job(Schema):
    """A job: its status and, once it has ended, its result or error."""

    job_id: str
    status: JobStatus
    stage: str | None = None
    percent: float = 0
    flow_run_id: str | None = None
    run_url: str | None = Field(None, description="The run in the Prefect UI.")
    status_url: str
    progress_url: str
    placeholder: Placeholder | None = Field(
        None, description="What to show while pictures load; known before the page is enhanced."
    )
    preview_url: str | None = Field(
        None,
        description="A picture of the source with at most 4,000 bytes; it exists before the page is enhanced.",
    )
    links: tuple[Link, ...] = Field((), description="The variants.")
    master: Link | None = Field(None, description="The full-size picture.")
    result: PageResult | None = None
    error: ErrorInfo | None = None


class JobSummary(Schema):
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


class JobList(Schema):
    """One page of jobs, the newest first."""

    jobs: tuple[JobSummary, ...]
    limit: int
    offset: int


class GeneratedEvent(Schema):
    """A generator reports a finished panel."""

    source: Source = Field(
        min_length=1, description="https://, s3:// (buckets on the allow-list) or data: address."
    )
    tool: ClientText = Field("event", max_length=100)
    job_id: str | None = Field(
        None,
        pattern=JOB_ID_PATTERN,
        max_length=200,
        description="The generator's id of the job. It is part of addresses; therefore `.` and `..` are not allowed.",
    )
    panel_id: ClientId | None = None
    comic_id: ClientId | None = None
    options: EnhanceOptions = EnhanceOptions()
    priority: Priority = "events"
    force: bool = False
    callback: ClientText | None = Field(None, max_length=MAX_ADDRESS_CHARACTERS)
    metadata: Metadata = Field(default_factory=dict)


class EventAccepted(Schema):
    """The event was accepted. `event_id` is the same however often the job is posted."""

    event_id: str
    job_id: str
    status_url: str
    progress_url: str


class UploadResult(Schema):
    """The result of an uploaded picture, with the fields of VisionCloud."""

    original_key: str = Field(description="Name of the uploaded file.")
    status: Literal["success", "error"]
    folder: str | None = Field(None, description="good_quality, upscaled or couldn't_upscale.")
    s3_url: str | None = Field(None, description="HTTP address of the delivered object.")
    quality_score: float | None = Field(None, description="Resolution score of what was delivered.")
    upscale_scale: float | None = None
    processed_at: datetime | None = None


class UploadAnswer(Schema):
    """The response to one upload."""

    success: bool
    message: str
    result: UploadResult | None = None


class BatchAnswer(Schema):
    """The responses to several uploads, in their order."""

    success: bool
    message: str
    results: tuple[UploadAnswer, ...]


class Problem(Schema):
    """An error: a code for programs, a sentence for people, and the request's id to find it in the log."""

    error: ErrorInfo
    request_id: str | None = None


class Health(Schema):
    """`healthy` when every part works; the components name the parts that do not."""

    status: Literal["healthy", "degraded", "unhealthy"]
    components: dict[str, str]
    version: str
