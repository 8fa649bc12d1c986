"""The engine: every stage of a page as one plain call.

Tasks, the command line and the library call it. Calls take and return small records; pixels stay in the store and,
for a while, in memory.
"""

import logging
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import lru_cache, partial
from typing import Final

from panelworks import pictures, quality
from panelworks.accounting.jobs import FinishedJobs
from panelworks.accounting.ledger import open_ledger
from panelworks.domain.formats import MEDIA_TYPES, VariantSpec
from panelworks.domain.options import EnhanceOptions
from panelworks.domain.plan import Plan, content_key
from panelworks.domain.quality import QualityReport
from panelworks.domain.request import PageRequest
from panelworks.domain.result import (
    ArtifactRef,
    Attempt,
    IngestedPage,
    Outcome,
    PageResult,
    SourceInfo,
    VariantArtifact,
    Verdict,
)
from panelworks.domain.treatment import PageFacts
from panelworks.errors import ResourceExhausted, Transient
from panelworks.models.gpu import GpuSampler
from panelworks.page.admission import AcceptedJobs
from panelworks.page.animated import (
    MASTER,
    SOURCE,
    animation_key,
    enhance_animation,
    make_animated_variants,
    validate_animation,
    without_limits,
)
from panelworks.page.batches import Batches
from panelworks.page.callbacks import Callbacks
from panelworks.page.delivery import Box, deliver, delivery_size, make_variants, publish_preview, review_of
from panelworks.page.entry_points import admit
from panelworks.page.execution import run_plan
from panelworks.page.placeholders import PREVIEW_MEDIA_TYPE, make_early_view
from panelworks.page.planning import refusal_of_size
from panelworks.page.presets import with_preset
from panelworks.page.purging import Purges
from panelworks.page.rules import choose_treatment, choose_work, plan_candidates
from panelworks.page.series import SeriesRules
from panelworks.page.stored_pictures import Destination, StoredPictures
from panelworks.page.variants import Materials
from panelworks.page.watermarks import Watermarks
from panelworks.pictures.animation import Animation, check_frames, read_animation
from panelworks.pictures.parallel import stop_threads_of_opencv
from panelworks.pictures.picture import Picture
from panelworks.pictures.pixel_data import Header
from panelworks.progress import Progress, ignore_progress
from panelworks.quality.learned import learned_scorers
from panelworks.quality.regions import find_artifact_regions
from panelworks.quality.scorers import SCORERS, Scorer
from panelworks.quality.validation import validate, validate_finish
from panelworks.settings import Settings, get_settings
from panelworks.sources.fetch import Fetched, safe_stem
from panelworks.sources.stored import parse_stored, upload_missing
from panelworks.steps.detectors import run_detectors
from panelworks.steps.inventory import download_weights_of
from panelworks.storage.cache import open_cache
from panelworks.storage.content import DAMAGED_PREFIX, ContentStore
from panelworks.storage.folder import open_folder, sweep_places
from panelworks.storage.lease import open_leases
from panelworks.storage.local import LocalFolder
from panelworks.telemetry import count_page
from panelworks.video.source import fetch_picture

logger = logging.getLogger(__name__)

_DAMAGED_DIVISOR: Final = 20
"""Damaged objects that were moved aside may use this part of the store's size limit."""
_MAX_PATH_CHARACTERS: Final = 2048
"""Of a source that rules compare with their patterns: a data: address contains a whole picture."""


class Engine:
    """The stages, with the store, cache and ledger of the settings."""

    def __init__(self, settings: Settings) -> None:
        """From now on, OpenCV uses one thread in this process: see `stop_threads_of_opencv`."""
        stop_threads_of_opencv()
        self.settings: Final = settings
        settings.make_cache_dir()
        self._cache = open_cache(settings)
        self._folder = open_folder(settings.store_location, settings)
        self.store: Final = ContentStore(self._folder, self._cache, settings.cache_variant_bytes)
        self._pictures = StoredPictures(self.store, settings)
        self.leases: Final = open_leases(settings)
        self.ledger: Final = open_ledger(settings)
        self.jobs: Final = FinishedJobs(self._folder, settings)
        self.accepted: Final = AcceptedJobs(self._folder)
        self.callbacks: Final = Callbacks(self._folder)
        self.batches: Final = Batches(self._folder)
        self.series: Final = SeriesRules(self._folder)
        self.purges: Final = Purges(self._folder, settings)
        self.watermarks: Final = Watermarks(self._fetch, self.store, settings)

    def tidy(self, *outs: str) -> None:
        """Remove temporary files of dead writers from all local places and `outs`, and the oldest objects above the limit."""
        sweep_places(self.settings, *outs)
        if isinstance(self._folder, LocalFolder):
            self._folder.shrink("objects/", self.settings.store_bytes)
            self._folder.shrink(DAMAGED_PREFIX, self.settings.store_bytes // _DAMAGED_DIVISOR)

    def take_outages(self) -> int:
        """Number of outages of the result cache since the last call."""
        outages, self._cache.outages = self._cache.outages, 0
        return outages

    def identify(self, request: PageRequest, upload: bytes | None = None) -> IngestedPage:
        """`ingest` that reads only the header: fast, but the picture may still be damaged.

        Args:
            request: The page.
            upload: The bytes of the picture; the source is then only their name.
        """
        return self._ingested(request, upload, decode=False)

    def ingest(self, request: PageRequest) -> IngestedPage:
        """Fetch, check and store the source, plan its enhancement and compute the content key.

        Raises:
            Rejected: the source is not a picture that is accepted, or its entry point does not allow it.
            Transient: it cannot be fetched now.
            Misconfigured: the store cannot be used; `UnknownName`, a preset, model or action that does not exist.
        """
        return self._ingested(request, None, decode=True)

    def _ingested(self, request: PageRequest, upload: bytes | None, *, decode: bool) -> IngestedPage:
        admit(request, self.settings)
        series = request.origin.comic_id
        options, series_rule = self.series.complete(request.options, request.origin.owner, series)
        with_preset(options, self.settings)
        if upload is None:
            fetched = self._fetch(request.source)
        else:
            _, _, name = parse_stored(request.source)
            fetched = Fetched(upload, safe_stem(name), request.source)
        notes = fetched.notes
        decoded = None
        if decode:
            decoded = pictures.decode(fetched.data, self.settings)
            header, notes = decoded.header, (*notes, *decoded.notes)
        else:
            header = pictures.read_header(fetched.data, self.settings)
        animation = read_animation(fetched.data, self.settings) if header.frames > 1 else None
        if decode and animation is not None:
            animation, notes = check_frames(animation, self.settings, notes)
        page = self.page_of(
            fetched, header, options, path=request.source[:_MAX_PATH_CHARACTERS], series=series,
            animation=animation,
        )  # fmt: skip
        page = page.model_copy(update={"notes": notes, "series_rule": series_rule})
        if decoded is not None:
            first = decoded.picture if animation is None else animation.first()
            self._pictures.keep(page.original.sha256, first)
            view = make_early_view(first)
            preview = self.store.put(view.preview, PREVIEW_MEDIA_TYPE, view.size)
            page = page.model_copy(update={"placeholder": view.placeholder, "preview": preview})
        return page

    def page_of(
        self, fetched: Fetched, header: Header, options: EnhanceOptions, *, path: str, series: str | None,
        animation: Animation | None = None,
    ) -> IngestedPage:  # fmt: skip
        """Store the bytes of a picture with this header, plan its enhancement and compute the content key.

        `options` are complete: the rule of the series is not looked up. `path` and `series` are what rules compare with their patterns.
        Without the `animation` in the bytes, only its first frame is processed.
        """
        size = (header.width, header.height) if animation is None else animation.size
        frames = 1 if animation is None else len(animation)
        facts = PageFacts(width=size[0], height=size[1], path=path, series=series)
        candidates, downloads = plan_candidates(facts, options, self.settings, self.watermarks.stored)
        original = self.store.put(fetched.data, MEDIA_TYPES[header.format], size)
        original = original.model_copy(update={"frames": frames})
        key = content_key(original.sha256, ((one.when, one.options, one.plan) for one in candidates))
        return IngestedPage(
            content_key=key if animation is None else animation_key(key),
            stem=fetched.stem,
            source=SourceInfo(
                uri=fetched.uri,
                sha256=original.sha256,
                width=size[0],
                height=size[1],
                format=header.format,
                bytes=len(fetched.data),
                frames=frames,
            ),
            original=original,
            options=candidates[-1].options,
            plan=candidates[-1].plan,
            candidates=candidates,
            downloads=downloads,
        )

    def _fetch(self, source: str) -> Fetched:
        if not source.startswith("stored:"):
            return fetch_picture(source, self.settings)
        digest, format, name = parse_stored(source)
        data = self.store.read_named(digest, MEDIA_TYPES[format])
        if data is None:
            raise upload_missing()
        return Fetched(data, safe_stem(name), source)

    def hold_lease(self, page: IngestedPage) -> AbstractContextManager[bool]:
        """The exclusive right to compute the page, for a block; yields whether this waited for another holder."""
        return self.leases.holding(page.content_key)

    def recall(self, page: IngestedPage) -> Outcome | None:
        """The cached outcome of this page, if all its pictures are in the store."""
        outcome = self._cache.get(page.content_key)
        if outcome is None:
            return None
        artifacts = [outcome.master, outcome.preview, *(variant.artifact for variant in outcome.variants)]
        try:
            return outcome if all(self.store.has(one) for one in artifacts if one is not None) else None
        except Transient as error:
            logger.warning("the cached result is ignored: %s", error)
            return None

    def remember(self, page: IngestedPage, outcome: Outcome) -> None:
        """Cache the outcome, with the notes on the source: a later request may read only its header."""
        self._cache.put(page.content_key, outcome.model_copy(update={"source_notes": page.notes}))

    def assess(self, page: IngestedPage, boxes: Sequence[Box] | None = None) -> QualityReport:
        """The quality report of the original.

        Args:
            page: The page.
            boxes: Maximum width and height of each picture that is delivered; by default those of the variants.
        """
        picture, scorers = self.picture(page.original), self._scorers()
        report = self.find_regions(page, quality.assess(picture, scorers))
        work = choose_work(choose_treatment(page, report), report)
        if boxes is None:
            boxes = [spec.box_of(work.size) for spec in work.page.options.variant_specs]
        return quality.score_delivery(report, picture, delivery_size(work.size, boxes), scorers)

    def find_regions(self, page: IngestedPage, report: QualityReport) -> QualityReport:
        """The report on a page with the parts that have artifacts, if the options of its treatment ask for them.

        Raises:
            Misconfigured: `bad_detector`, `detector_failed`. UnknownName: `no_detector`.
        """
        options = choose_treatment(page, report).options
        if not options.finds_regions:
            return report
        picture = self.picture(page.original)
        found = find_artifact_regions(picture)
        found += run_detectors(options.detectors, picture, self.settings)
        return report.model_copy(update={"regions": found})

    def _scorers(self) -> tuple[Scorer, ...]:
        return (*SCORERS, *learned_scorers(self.settings))

    def enhance(
        self,
        page: IngestedPage,
        plan: Plan,
        progress: Progress = ignore_progress,
        *,
        destination: Destination = "store",
    ) -> Attempt:
        """Run a plan on the original; the result is stored as lossless PNG, that of an animation as lossless WebP.

        With `destination="memory"` it is kept as pixels in this process, for callers that encode it at once.

        Raises:
            ResourceExhausted: `too_large`, the result would have too many pixels; or there is too little memory.
            Invalid: a network returned values that are not a picture.
            Transient, Misconfigured: errors of the providers.
        """
        refusal = refusal_of_size(plan, self.settings)
        if refusal is not None:
            raise ResourceExhausted("too_large", refusal)
        notes: list[str] = []
        downloads = download_weights_of(plan, self.settings)
        stored: dict[str, ArtifactRef] = {}

        def keep(name: str, picture: Picture) -> None:
            stored[name] = self._pictures.put(picture, destination)

        with GpuSampler(self.settings) as watch:
            if page.original.frames > 1:
                enhanced = enhance_animation(
                    self._pictures.animation(page.original), plan, self.settings, notes.append, progress
                )
                stored |= {
                    name: self._pictures.put_animation(data, (plan.width, plan.height), page.original.frames)
                    for name, data in enhanced.files.items()
                }
            else:
                picture = self.picture(page.original)
                keep(MASTER, run_plan(picture, plan, self.settings, keep, notes.append, progress))
        return Attempt(
            plan=plan, notes=tuple(dict.fromkeys(notes)), downloads=downloads, gpu=watch.use, **stored
        )

    def validate(self, page: IngestedPage, before: QualityReport, attempt: Attempt) -> Verdict:
        """Compare an attempt with the original; deliberate changes are not counted as errors.

        Of an animation, every frame is compared; the verdict is that of the first frame that fails, or of the worst one.
        """
        results = {"reference": attempt.reference, "faithful": attempt.faithful, MASTER: attempt.master}
        artifacts = {name: artifact for name, artifact in results.items() if artifact is not None}
        if attempt.reference is None or page.original.frames > 1:
            artifacts = {SOURCE: page.original} | artifacts
        check = partial(self._validate_pictures, page, before, attempt.plan)
        try:
            if page.original.frames > 1:
                streams = {name: self._pictures.animation(artifact) for name, artifact in artifacts.items()}
                return validate_animation(streams, before, check)
            return check({name: self.picture(artifact) for name, artifact in artifacts.items()}, before)
        except MemoryError as error:
            raise ResourceExhausted(
                "out_of_memory", "There is too little memory to validate the page."
            ) from error

    def _validate_pictures(
        self, page: IngestedPage, first: QualityReport, plan: Plan, pictures: Mapping[str, Picture],
        before: QualityReport | None,
    ) -> Verdict:  # fmt: skip
        """Validate a picture, or a frame of an animation whose own report is `before`, computed if it is None.

        `first` is the report on the page, which states the size of the delivery.
        """
        scorers = self._scorers()
        if before is None:
            before = quality.assess_result(pictures[SOURCE], first, scorers)
        reference, master = pictures.get("reference") or pictures[SOURCE], pictures[MASTER]
        if "reference" in pictures:  # what was removed deliberately is not lost quality
            before = quality.assess_result(reference, before, scorers)
        faithful = pictures.get("faithful", master)
        verdict = validate(
            reference, faithful, (plan.width, plan.height), before, page.options.target_score, scorers
        )
        if "faithful" not in pictures or not verdict.deliverable:
            return verdict
        return validate_finish(faithful, master, verdict, quality.assess_result(master, before, scorers))

    def make_variants(
        self, master: ArtifactRef, specs: tuple[VariantSpec, ...]
    ) -> tuple[VariantArtifact, ...]:
        """Make and store variants."""
        variants = []
        jpeg = master.media_type == MEDIA_TYPES["jpeg"] and any(spec.format == "jxl" for spec in specs)
        materials = Materials(
            read=lambda address: self._fetch(address).data,
            decode=lambda data: pictures.decode(data, without_limits(self.settings)).picture,
            jpeg=self.store.get(master) if jpeg else None,
        )
        if master.frames > 1:
            made = make_animated_variants(self._pictures.animation(master), specs, materials)
        else:
            made = make_variants(self.picture(master), specs, materials)
        for variant in made:
            if variant.format != variant.spec.format:
                logger.warning(
                    "variant %s is %s: %s does not allow %d x %d pixels",
                    variant.spec.name, variant.format, variant.spec.format, *variant.size,
                )  # fmt: skip
            artifact = self.store.put_derivative(variant.data, MEDIA_TYPES[variant.format], variant.size)
            artifact = artifact.model_copy(update={"frames": variant.frames})
            variants.append(
                VariantArtifact(
                    name=variant.spec.name,
                    format=variant.format,
                    artifact=artifact,
                    quality=variant.quality,
                    note=variant.note,
                )
            )
        return tuple(variants)

    def publish(
        self, request: PageRequest, page: IngestedPage, outcome: Outcome, *, cached: bool
    ) -> PageResult:
        """Deliver master and variants to the place of the request, or to its `review/` if a person has to see the page."""
        folder = open_folder(request.out, self.settings)
        review = review_of(request.options, outcome, self.settings)
        return deliver(
            self.store, folder, request, page, outcome,
            settings=self.settings, purges=self.purges, cached=cached, review=review,
        )  # fmt: skip

    def publish_preview(self, request: PageRequest, page: IngestedPage) -> ArtifactRef | None:
        """Deliver the preview of a page before it is enhanced."""
        return publish_preview(self.store, request, page, self.settings)

    def record(self, request: PageRequest, result: PageResult) -> None:
        """Write the result beside the variants, the row of the ledger, the finished job, and a log line."""
        self.jobs.deliver_record(result, request.out)
        self.ledger.append(request, result)
        self.jobs.store(request, result)
        count_page(result)

    def cache_answers(self) -> bool:
        """Does the result cache answer?"""
        return self._cache.answers()

    def picture(self, artifact: ArtifactRef) -> Picture:
        """The pixels of a stored picture, from memory if an earlier stage had them."""
        return self._pictures.get(artifact)

    def notes_on(self, artifact: ArtifactRef) -> tuple[str, ...]:
        """Notes from decoding a stored picture; its pixels stay in memory.

        Raises:
            Rejected: as `pictures.decode`. ObjectMissing: it is not in the store.
        """
        return self._pictures.notes_on(artifact)

    def forget(self, artifacts: Iterable[ArtifactRef | None]) -> None:
        """Free the pixels of pictures that are no longer needed."""
        self._pictures.forget(artifacts)


@lru_cache(maxsize=1)
def get_engine() -> Engine:
    """The engine of this process."""
    return Engine(get_settings())


def renew_engine() -> None:
    """Forget this process's settings and engine if the variables have changed since they were read.

    For processes that serve runs with different variables, one after the other.

    Raises:
        Misconfigured: `bad_setting`.
    """
    known = get_settings()
    get_settings.cache_clear()
    if get_settings() != known:
        get_engine.cache_clear()
