"""Results: what the stages of a page hand to each other, and what users receive.

Never pixels: a picture is named by an `ArtifactRef`, its bytes lie in the store.
"""

from typing import Final, Literal, Self

from pydantic import Field

from panelworks.domain.fields import Frozen
from panelworks.domain.formats import PictureFormat
from panelworks.domain.options import Region, ResolvedOptions
from panelworks.domain.plan import Plan, Route, Step
from panelworks.domain.quality import QualityReport
from panelworks.domain.request import PageRequest
from panelworks.errors import Fault, PanelworksError


class Cost(Frozen):
    """What one page took of a pool's device."""

    pool: str | None
    """Work pool; None outside of one."""
    gpu_seconds: float
    """Seconds in the stages that hold the device; 0 for a page that was known before."""
    usd: float | None
    """US dollars; None where the pool has no price."""


class GpuUse(Frozen):
    """What a page took of a GPU."""

    name: str
    memory_bytes: int
    """Most that was in use on the card, by whoever."""
    own_memory_bytes: int
    """Most that this process held of it."""
    memory_total_bytes: int
    utilisation: float | None
    """Mean share of the time in which the card computed, by whoever (0 to 1); None where the driver does not tell."""


class ArtifactRef(Frozen):
    """A picture in the store."""

    sha256: str
    uri: str
    media_type: str
    width: int
    height: int
    bytes: int


class SourceInfo(Frozen):
    """What we were given."""

    uri: str
    sha256: str
    width: int
    height: int
    format: str
    bytes: int


class IngestedPage(Frozen):
    """A page that passed the limits and lies in the store."""

    content_key: str
    stem: str
    """File name without folder and extension, safe as an object name."""
    source: SourceInfo
    original: ArtifactRef
    options: ResolvedOptions
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
