"""The small frozen models that stages pass to each other and users receive.

Never pixels: a picture is named by an `ArtifactRef`, its bytes lie in the store.
"""

from typing import Any, Final, Literal, NamedTuple, Self

from pydantic import Field

from panelworks.actions import DELIBERATE, ENLARGING, Action
from panelworks.client_data import OpaqueMetadata
from panelworks.cost import Cost
from panelworks.errors import Fault, PanelworksError
from panelworks.frozen import Frozen
from panelworks.gpu import GpuUse
from panelworks.options import EnhanceOptions, Region, SettledOptions
from panelworks.pictures.formats import PictureFormat
from panelworks.quality.report import QualityReport

Route = Literal["good_quality", "upscaled", "couldn't_upscale"]
"""Where a page ended; also the name of the folder that its master is delivered to."""
Condition = Literal["always", "asked", "good", "jpeg", "strong_jpeg", "halftone"]
"""When a planned step is taken: unless the page is good, always, only if it is good, or if the report says so."""
Config = dict[str, Any]
"""What a provider must know of a step beside its model, as JSON."""


class ArtifactRef(Frozen):
    """A picture in the store."""

    sha256: str
    uri: str
    media_type: str
    width: int
    height: int
    bytes: int


Door = Literal["operator", "event", "http"]
"""Through which door a request came; it decides what may be named (`panelworks.doors`)."""


class JobKey(NamedTuple):
    """The identity of a job: two API keys may use the same job id for different jobs."""

    owner: str | None
    """Name of the API key that created the job; None for jobs of operators and of Prefect's own events."""
    job_id: str


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


class SourceInfo(Frozen):
    """What we were given."""

    uri: str
    sha256: str
    width: int
    height: int
    format: str
    bytes: int


class Step(Frozen):
    """One action of a plan, with all that decides its result."""

    action: Action
    provider: str
    model: str
    digest: str | None = None
    """SHA-256 of the weights; None where there are none."""
    weights: str | None = None
    """Path of the user's own weight file; None for a registered network."""
    tile: int | None = None
    """Side of a tile; None takes what suits the machine."""
    precision: Literal["auto", "fp32"] = "auto"
    config: Config = Field(default_factory=dict)
    """What the provider must know beside that, such as a strength."""
    when: Condition = "always"


class Plan(Frozen):
    """The ordered steps chosen for a picture and the size they lead to.

    Made without having looked at the picture, it holds also steps that are taken only when the report
    says so; `panelworks.planning.chosen` leaves those that are.
    """

    steps: tuple[Step, ...]
    width: int
    height: int

    @property
    def model(self) -> str:
        """The network that decides the look, or the resampler where there is none."""
        return next((s.model for s in self.steps if s.action in ("upscale", "enhance")), self.steps[-1].model)

    @property
    def faithful(self) -> slice:
        """The steps around the enlargement that change nothing on purpose; the validator judges these."""
        deliberate = [index for index, step in enumerate(self.steps) if step.action in DELIBERATE]
        if len(deliberate) == len(self.steps):
            return slice(0, 0)
        enlarging = [index for index, step in enumerate(self.steps) if step.action in ENLARGING]
        middle = enlarging[0] if enlarging else next(i for i in range(len(self.steps)) if i not in deliberate)
        start = max((index + 1 for index in deliberate if index < middle), default=0)
        return slice(start, min((index for index in deliberate if index > middle), default=len(self.steps)))


class IngestedPage(Frozen):
    """A page that passed the limits and lies in the store."""

    content_key: str
    stem: str
    """File name without folder and extension, safe as an object name."""
    source: SourceInfo
    original: ArtifactRef
    options: SettledOptions
    plan: Plan
    notes: tuple[str, ...] = ()
    """What a person should know, such as that only the first frame was taken."""


class Attempt(Frozen):
    """One enhancement of a page, not yet judged."""

    master: ArtifactRef
    plan: Plan
    reference: ArtifactRef | None = None
    """What the enlargement started from, if something was changed on purpose before; else the original."""
    faithful: ArtifactRef | None = None
    """What the enlargement came to, if something was changed on purpose after; else the master."""
    notes: tuple[str, ...] = ()
    """What a person should know, such as that drawn faces were left alone."""
    gpu: GpuUse | None = None
    """What its networks took of a GPU; None where they ran elsewhere."""


TARGET: Final = "target"
"""Name of the check that compares the score with PANELWORKS_TARGET_SCORE."""


class Check(Frozen):
    """One question that validation asked, and the answer."""

    name: str
    passed: bool
    value: float
    limit: float
    message: str
    region: Region | None = None
    """Where it failed, in pixels of the source."""


class Verdict(Frozen):
    """What validation said of an attempt."""

    passed: bool
    reason: str
    checks: tuple[Check, ...] = ()
    after: QualityReport | None = None

    @property
    def failed_checks(self) -> dict[str, float]:
        """Values of the checks that failed, by name."""
        return {check.name: check.value for check in self.checks if not check.passed}

    @property
    def deliverable(self) -> bool:
        """Did the attempt pass, or is its only fault a score below the target?"""
        return self.passed or set(self.failed_checks) == {TARGET}


class FallbackAttempt(Frozen):
    """One way that was tried after the plan had failed."""

    name: str
    model: str
    passed: bool
    reason: str
    score: float | None = None
    """Overall score of what it came to; None when it came to nothing."""
    taken: bool = False
    """Is it the one that was delivered?"""


class Fallback(Frozen):
    """Why the plan was left, and what was tried instead."""

    reason: str
    attempts: tuple[FallbackAttempt, ...]


class Rescue(Frozen):
    """What the fallback came to: an accepted attempt, or none."""

    fallback: Fallback
    attempt: Attempt | None
    verdict: Verdict | None


class VariantArtifact(Frozen):
    """An encoded derivative of the master, in the store."""

    name: str
    format: PictureFormat
    artifact: ArtifactRef


class Outcome(Frozen):
    """All that was computed for a content key, wherever it is delivered. This is what is cached."""

    route: Route
    decision: str
    """What the gate said, in an operator's words."""
    before: QualityReport
    after: QualityReport
    plan: Plan | None
    fallback: Fallback | None
    master: ArtifactRef
    variants: tuple[VariantArtifact, ...]
    notes: tuple[str, ...] = ()
    source_notes: tuple[str, ...] = ()
    """What a person should know of how the source was read, from when it was decoded."""
    seconds: dict[str, float] = Field(default_factory=dict)
    """What computing it took, by stage."""
    gpu: GpuUse | None = None
    """What the attempt that was delivered took of a GPU."""


class Quality(Frozen):
    """Scores of the source and of what was delivered."""

    before: QualityReport
    after: QualityReport


class DeliveredVariant(Frozen):
    """A variant where the user finds it."""

    name: str
    uri: str
    width: int
    height: int
    format: PictureFormat
    bytes: int


class ErrorInfo(Frozen):
    """Why a page was not delivered: a code for programs, one plain sentence for people."""

    code: str
    message: str
    fault: Fault | None = None
    """Who acts; None in records of earlier releases."""

    @classmethod
    def of(cls, error: PanelworksError, message: str | None = None) -> Self:
        """What is recorded of an error, with another message where its own is not for outsiders."""
        return cls(code=error.code, message=error.message if message is None else message, fault=error.fault)


class PageResult(Frozen):
    """The result of one source, as printed by `--json` and stored beside the variants."""

    job_id: str
    status: Literal["success", "error"]
    route: Route | None = None
    cached: bool = False
    content_key: str | None = None
    source: SourceInfo | None = None
    quality: Quality | None = None
    model: str | None = None
    scale: float | None = None
    steps: tuple[Step, ...] = ()
    fallback: Fallback | None = None
    master: ArtifactRef | None = None
    variants: tuple[DeliveredVariant, ...] = ()
    seconds: dict[str, float] = Field(default_factory=dict)
    cost: Cost | None = None
    """What computing it took of the device; None for a page that failed."""
    gpu: GpuUse | None = None
    """What its networks took of a GPU; None for a page that was known before, or where they ran elsewhere."""
    compression_ratio: float | None = None
    """Bytes of the source over bytes of the smallest variant."""
    notes: tuple[str, ...] = ()
    error: ErrorInfo | None = None


class JobRecord(Frozen):
    """A finished job as it is looked up by its id: what was asked, what came of it."""

    request: PageRequest
    result: PageResult
