"""Results: the records that the stages of a page pass on, and the record that users receive.

Records never contain pixels: an `ArtifactRef` names a picture whose bytes are in the store.
"""

from typing import Final, Literal, Self

from pydantic import AwareDatetime, Field

from panelworks.domain.fields import Frozen
from panelworks.domain.formats import MEDIA_TYPES, PictureFormat
from panelworks.domain.options import Region, ResolvedOptions
from panelworks.domain.plan import Plan, Route, Step
from panelworks.domain.quality import QualityReport
from panelworks.domain.regions import ArtifactRegion
from panelworks.domain.request import PageRequest
from panelworks.domain.treatment import Conditions, GivenTreatment
from panelworks.errors import Fault, PanelworksError


class Cost(Frozen):
    """Use of the device by one page."""

    pool: str | None
    """Work pool; None outside a pool."""
    gpu_seconds: float
    """Seconds in the stages that use the device; 0 for a page whose result was cached."""
    usd: float | None
    """US dollars; None if the pool has no price."""


class GpuUse(Frozen):
    """Use of a GPU by one page."""

    name: str
    memory_bytes: int
    """Peak memory in use on the GPU, by all processes."""
    own_memory_bytes: int
    """Peak memory in use by this process."""
    memory_total_bytes: int
    utilisation: float | None
    """Mean utilisation of the GPU by all processes, in [0, 1]; None if the driver does not report it."""


class ArtifactRef(Frozen):
    """A picture in the store."""

    sha256: str
    uri: str
    media_type: str
    width: int
    height: int
    bytes: int
    url: str | None = Field(None, exclude_if=lambda given: given is None)
    """Address at the CDN of a published master; None without PANELWORKS_PUBLIC_URL, and for other pictures."""
    frames: int = Field(1, exclude_if=lambda given: given == 1)
    """Frames of an animation; 1 for a still picture."""


class Placeholder(Frozen):
    """What a page looks like in a few bytes, for clients to show while its pictures load."""

    thumbhash: str
    """ThumbHash in Base64."""
    colour: str
    """Mean colour as `#rrggbb`."""


class SourceInfo(Frozen):
    """The source as it was received."""

    uri: str
    sha256: str
    width: int
    height: int
    format: str
    bytes: int
    frames: int = Field(1, exclude_if=lambda given: given == 1)
    """Complete frames of an animation; 1 for a still picture."""

    @property
    def artifact(self) -> ArtifactRef:
        """The source as a picture of the store."""
        return ArtifactRef(
            sha256=self.sha256, uri=self.uri, media_type=MEDIA_TYPES[self.format],
            width=self.width, height=self.height, bytes=self.bytes, frames=self.frames,
        )  # fmt: skip


class Candidate(Frozen):
    """A treatment that a page gets if it matches the conditions of a rule."""

    rule: str | None
    """Name of the rule; None: the treatment of the request alone."""
    when: Conditions | None
    options: ResolvedOptions
    plan: Plan


class AppliedRule(Frozen):
    """The rule that chose the treatment of a page."""

    name: str
    when: str
    """Its conditions, as text."""


class IngestedPage(Frozen):
    """A page within the limits, in the store, with its plan."""

    content_key: str
    stem: str
    """File name without folder and extension, safe as an object name."""
    source: SourceInfo
    original: ArtifactRef
    options: ResolvedOptions
    """Before the page is assessed, those of the last candidate."""
    plan: Plan
    """Before the page is assessed, that of the last candidate."""
    candidates: tuple[Candidate, ...] = ()
    """In the order of the rules; the first that matches applies."""
    rule: AppliedRule | None = None
    series_rule: GivenTreatment | None = Field(None, exclude_if=lambda given: given is None)
    """What the rule of its series states; None if there is none, or the request does not use it."""
    placeholder: Placeholder | None = None
    """None if only the header was read."""
    preview: ArtifactRef | None = None
    """A small picture of the original, in the store; None if only the header was read."""
    notes: tuple[str, ...] = ()
    """Notes for people, such as that only the first frame was used."""
    downloads: tuple[str, ...] = ()
    """A note for each weight file that was downloaded to identify the work."""

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the original."""
        return (self.original.width, self.original.height)


class Attempt(Frozen):
    """One enhancement of a page, not validated."""

    master: ArtifactRef
    plan: Plan
    reference: ArtifactRef | None = None
    """Picture before the enlargement, if an earlier step changed the content deliberately; None: the original."""
    faithful: ArtifactRef | None = None
    """Picture after the enlargement, if a later step changed the content deliberately; None: the master."""
    notes: tuple[str, ...] = ()
    """Notes for people, such as that drawn faces were not changed."""
    downloads: tuple[str, ...] = ()
    """A note for each weight file that was downloaded for this attempt."""
    gpu: GpuUse | None = None
    """Use of a GPU by its networks; None if they ran on another device."""


TARGET: Final = "target"
"""Name of the check that compares the score with PANELWORKS_TARGET_SCORE."""


class Check(Frozen):
    """One check of validation and its result."""

    name: str
    passed: bool
    value: float
    limit: float
    message: str
    region: Region | None = None
    """The part of the source that failed, in pixels; None: the whole page."""


class Verdict(Frozen):
    """The result of validating an attempt."""

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
        """Did the attempt pass, or is a score below the target its only failed check?"""
        return self.passed or set(self.failed_checks) == {TARGET}


class FallbackAttempt(Frozen):
    """One alternative that was tried after the plan had failed."""

    name: str
    model: str
    passed: bool
    reason: str
    score: float | None = None
    """Overall score of its result; None if it has no result."""
    taken: bool = False
    """Was its result delivered?"""


class Fallback(Frozen):
    """Why the plan failed, and the alternatives that were tried."""

    reason: str
    attempts: tuple[FallbackAttempt, ...]
    checks: tuple[Check, ...] = Field((), exclude_if=lambda given: not given)
    """The checks of the plan's result; empty if it has no result."""


class FallbackResult(Frozen):
    """The result of the fallback: an accepted attempt, or none."""

    fallback: Fallback
    attempt: Attempt | None
    verdict: Verdict | None


class VariantArtifact(Frozen):
    """An encoded derivative of the master, in the store."""

    name: str
    format: PictureFormat
    artifact: ArtifactRef
    quality: int | None = Field(None, exclude_if=lambda given: given is None)
    """The quality that was found for `quality: auto` or `bytes_at_most`; None for others."""
    note: str | None = Field(None, exclude_if=lambda given: given is None)
    """What a person should know of it."""


class Outcome(Frozen):
    """Everything computed for a content key, independent of where it is delivered. The result cache stores it."""

    route: Route
    decision: str
    """Reason of the gate's decision, for people."""
    before: QualityReport
    after: QualityReport
    plan: Plan | None
    rule: AppliedRule | None = None
    """The rule that chose the treatment; None: the request alone did."""
    fallback: Fallback | None
    master: ArtifactRef
    variants: tuple[VariantArtifact, ...]
    placeholder: Placeholder | None = None
    preview: ArtifactRef | None = None
    """As those of the page. None in outcomes of earlier releases, and of pages of books."""
    notes: tuple[str, ...] = ()
    source_notes: tuple[str, ...] = ()
    """Notes from decoding the source."""
    downloads: tuple[str, ...] = ()
    """A note for each weight file that was downloaded for the computation. Cached results do not show them."""
    seconds: dict[str, float] = Field(default_factory=dict)
    """Seconds of the computation, by stage."""
    gpu: GpuUse | None = None
    """Use of a GPU by the delivered attempt."""


class Quality(Frozen):
    """Scores of the source and of the delivered master."""

    before: QualityReport
    after: QualityReport


class DeliveredVariant(Frozen):
    """A variant at its place of delivery."""

    name: str
    uri: str
    width: int
    height: int
    format: PictureFormat
    bytes: int
    url: str | None = Field(None, exclude_if=lambda given: given is None)
    """Address at the CDN; None without PANELWORKS_PUBLIC_URL, or while the page waits for review."""
    quality: int | None = Field(None, exclude_if=lambda given: given is None)
    """The quality that was found for `quality: auto` or `bytes_at_most`; None for others."""
    frames: int = Field(1, exclude_if=lambda given: given == 1)
    """Frames of an animation; 1 for a still picture."""


class ErrorInfo(Frozen):
    """Why a page was not delivered: a code for programs, one plain sentence for people."""

    code: str
    message: str
    fault: Fault | None = None
    """Who must act; None in records of earlier releases."""

    @classmethod
    def of(cls, error: PanelworksError, message: str | None = None) -> Self:
        """The record of an error; `message` replaces one that clients must not read."""
        return cls(code=error.code, message=error.message if message is None else message, fault=error.fault)


REVIEW_FOLDER: Final = "review/"
"""Folder of the pages that wait for the decision of a person, in the folder of the delivery."""
ReviewState = Literal["pending", "approved", "rejected"]
"""`pending`: the page waits under `review/` for the decision of a person."""


class Review(Frozen):
    """The review of a page by a person."""

    state: ReviewState = "pending"
    requested_at: AwareDatetime
    reasons: tuple[str, ...]
    """Why the page is reviewed."""
    decided_at: AwareDatetime | None = None
    decided_by: str | None = None
    """Name of the API key, or address of the caller where there are no keys."""
    comment: str | None = None
    """What the person wrote."""
    next_job_id: str | None = None
    """The job that processes the page again, if the person requested it."""


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
    rule: AppliedRule | None = None
    """The rule that chose the treatment; None: the request alone did."""
    series_rule: GivenTreatment | None = Field(None, exclude_if=lambda given: given is None)
    """What the rule of its series stated; None if there was none, or the request did not use it."""
    fallback: Fallback | None = None
    master: ArtifactRef | None = None
    variants: tuple[DeliveredVariant, ...] = ()
    placeholder: Placeholder | None = Field(None, exclude_if=lambda given: given is None)
    """What clients show while the pictures load; None in results of earlier releases, and of pages that failed."""
    preview: ArtifactRef | None = Field(None, exclude_if=lambda given: given is None)
    """A WebP of the source with at most 4,000 bytes, published before the page was enhanced. None as above."""
    seconds: dict[str, float] = Field(default_factory=dict)
    cost: Cost | None = None
    """Use of the device by the computation; None for a page that failed."""
    gpu: GpuUse | None = None
    """Use of a GPU by its networks; None if the result was cached or they ran on another device."""
    compression_ratio: float | None = None
    """Bytes of the source over bytes of the smallest variant."""
    regions: tuple[ArtifactRegion, ...] = Field((), exclude_if=lambda given: not given)
    """Parts of the source with artifacts; empty if there are none, or if they were not looked for."""
    notes: tuple[str, ...] = ()
    review: Review | None = Field(None, exclude_if=lambda given: given is None)
    """The review of the page; None if it was published without one."""
    error: ErrorInfo | None = None

    @property
    def awaits_review(self) -> bool:
        """Is the page not published, because a person has not decided yet?"""
        return self.review is not None and self.review.state == "pending"

    @property
    def trace_attributes(self) -> dict[str, str | int | float | bool | None]:
        """What a trace shows of the page: no address, which could contain a signature."""
        return {
            "job_id": self.job_id,
            "status": self.status,
            "route": self.route,
            "cached": self.cached,
            "content_key": self.content_key,
            "model": self.model,
            "scale": self.scale,
            "pixels": self.source.width * self.source.height if self.source else None,
            "error": self.error.code if self.error else None,
        }


class JobRecord(Frozen):
    """A finished job, as stored under its id: the request and the result."""

    request: PageRequest
    result: PageResult
