"""Previews: a part of a page as other options would deliver it, within seconds.

The page is assessed as a whole, so that the same rule and the same steps apply as when it is processed.
"""

import threading
import time
from collections import OrderedDict
from typing import Any, Final

from panelworks import quality
from panelworks.domain.fields import Frozen, digest_of
from panelworks.domain.options import EnhanceOptions, Region, TonePoints
from panelworks.domain.plan import Plan, Step
from panelworks.domain.quality import QualityReport
from panelworks.domain.regions import ArtifactRegion
from panelworks.domain.request import JobKey, Origin, PageRequest
from panelworks.domain.result import ArtifactRef, IngestedPage, JobRecord
from panelworks.errors import ObjectMissing, Rejected
from panelworks.page.engine import Engine
from panelworks.page.rules import choose_treatment, choose_work
from panelworks.page.views import cut_part
from panelworks.pictures import Picture, encode
from panelworks.quality.scorers import SCORERS
from panelworks.sources.stored import stored_original
from panelworks.steps.tone import measure_tone_points

PREVIEW_PIXELS: Final = 512
"""Width and height of the part of the source that is shown."""
_QUALITY: Final = 95
_MAX_PREVIEWS: Final = 24
_MAX_REPORTS: Final = 8


class Preview(Frozen):
    """A part of a page before and after, both in the size that it will have."""

    region: Region
    """The part of the source, in its pixels."""
    width: int
    height: int
    model: str | None
    """The network, or the resampler; None: the page would be delivered as it is."""
    steps: tuple[str, ...]
    rule: str | None
    """Name of the rule that applies."""
    reason: str
    """Why the page is enhanced or not."""
    seconds: float
    """Time of the computation; that of the whole page grows with its pixels."""
    source: bytes
    """WebP: the source, enlarged with bicubic."""
    result: bytes
    """WebP: what would be delivered."""


class Previews:
    """Makes previews. The last ones stay in memory."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._made: OrderedDict[str, Preview] = OrderedDict()
        self._reports: OrderedDict[str, QualityReport] = OrderedDict()
        self._lock = threading.Lock()

    def make(self, record: JobRecord, options: EnhanceOptions, left: int, top: int) -> Preview:
        """Make the preview of a part of a finished page.

        Args:
            record: The page.
            options: How it would be processed.
            left: Of the part, in pixels of the source; it is moved into the page.
            top: As `left`.

        Raises:
            Rejected: `not_found`, the original is no longer stored; `too_large`.
            Transient, Misconfigured, Invalid, ResourceExhausted: as `Engine.enhance`.
        """
        origin = record.request.origin
        options, _ = self._engine.series.complete(options, origin.owner, origin.comic_id)
        key = _identity(record.request.key, options, left, top)
        with self._lock:
            known = self._made.get(key)
        if known is not None:
            return known
        try:
            preview = self._make(record, options, left, top)
        except ObjectMissing as error:
            raise Rejected("not_found", "The original of this page is no longer stored.") from error
        with self._lock:
            self._made[key] = preview
            while len(self._made) > _MAX_PREVIEWS:
                self._made.popitem(last=False)
        return preview

    def _make(self, record: JobRecord, options: EnhanceOptions, left: int, top: int) -> Preview:
        if record.result.source is None:
            raise Rejected("not_found", "The page was not read; upload it again.")
        began = time.perf_counter()
        # Whoever asks may name what a client of the gateway may name, whoever requested the page.
        origin = Origin(comic_id=record.request.origin.comic_id, entry_point="http")
        request = PageRequest(
            source=stored_original(record.result.source), out=self._engine.settings.default_out,
            options=options, job_id=record.request.job_id, origin=origin,
        )  # fmt: skip
        page = self._engine.identify(request)
        report = self._engine.find_regions(page, self._report(page))
        work = choose_work(choose_treatment(page, report), report)
        original = self._engine.picture(page.original)
        region = _region_at(original, left, top)
        part = original.region(region.left, region.top, region.width, region.height)
        size = _scaled((region.width, region.height), work.size, page.size)
        result = part
        if work.plan is not None:
            plan = _plan_of_part(work.plan, region, size, original)
            result = self._enhance(work.page, part, plan)
        return Preview(
            region=region,
            width=result.width,
            height=result.height,
            model=work.plan.model if work.plan else None,
            steps=tuple(step.action for step in work.plan.steps) if work.plan else (),
            rule=work.page.rule.name if work.page.rule else None,
            reason=work.decision.reason,
            seconds=round(time.perf_counter() - began, 3),
            source=encode(cut_part(part, result.size, (0, 0, *result.size)), "webp", _QUALITY),
            result=encode(cut_part(result, result.size, (0, 0, *result.size)), "webp", _QUALITY),
        )

    def _report(self, page: IngestedPage) -> QualityReport:
        sha256 = page.original.sha256
        with self._lock:
            report = self._reports.get(sha256)
        if report is None:
            report = quality.assess(self._engine.picture(page.original), SCORERS)
            with self._lock:
                self._reports[sha256] = report
                while len(self._reports) > _MAX_REPORTS:
                    self._reports.popitem(last=False)
        return report

    def _enhance(self, page: IngestedPage, part: Picture, plan: Plan) -> Picture:
        """Run a plan on a part; its picture is an object of the store, as that of any page."""
        data = encode(part, "png", _QUALITY)
        original: ArtifactRef = self._engine.store.put(data, "image/png", part.size)
        attempt = self._engine.enhance(
            page.model_copy(update={"original": original}), plan, destination="memory"
        )
        picture = self._engine.picture(attempt.master)
        self._engine.forget((original, attempt.master, attempt.reference, attempt.faithful))
        return picture


def _identity(key: JobKey, options: EnhanceOptions, left: int, top: int) -> str:
    return digest_of([key.owner, key.job_id, options.model_dump(mode="json"), left, top])


def _region_at(picture: Picture, left: int, top: int) -> Region:
    """The part that begins at a pixel, moved into the picture."""
    width, height = min(PREVIEW_PIXELS, picture.width), min(PREVIEW_PIXELS, picture.height)
    return Region(
        left=max(0, min(left, picture.width - width)),
        top=max(0, min(top, picture.height - height)),
        width=width,
        height=height,
    )


def _scaled(part: tuple[int, int], master: tuple[int, int], page: tuple[int, int]) -> tuple[int, int]:
    """The size of a part of the page in the master."""
    across, down = (part[axis] * master[axis] / page[axis] for axis in (0, 1))
    return max(1, round(across)), max(1, round(down))


def _plan_of_part(plan: Plan, region: Region, size: tuple[int, int], page: Picture) -> Plan:
    """The plan of a page for a part of it: regions are moved, and paper and ink are those of the whole page."""
    steps = tuple(_step_of_part(step, region, page) for step in plan.steps)
    return plan.model_copy(update={"steps": steps, "width": size[0], "height": size[1]})


def _step_of_part(step: Step, region: Region, page: Picture) -> Step:
    config = dict(step.config)
    if step.action == "levels" and "points" not in config:
        points: TonePoints = measure_tone_points(page)
        config["points"] = points.model_dump()
    if config.get("regions"):
        moved = [_region_of(one).within(region) for one in config["regions"]]
        config["regions"] = [one.model_dump() for one in moved if one is not None]
    return step.model_copy(update={"config": config})


def _region_of(config: dict[str, Any]) -> Region:
    """A region in the configuration of a step."""
    return (ArtifactRegion if "kind" in config else Region).model_validate(config)
