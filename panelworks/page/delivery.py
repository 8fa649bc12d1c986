"""Making variants of a master, and delivering pictures under their object names."""

import logging
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from typing import Final

from panelworks.domain.formats import EXTENSIONS, VariantSpec
from panelworks.domain.options import EnhanceOptions
from panelworks.domain.plan import Route
from panelworks.domain.quality import QualityReport
from panelworks.domain.request import PageRequest
from panelworks.domain.result import (
    REVIEW_FOLDER,
    ArtifactRef,
    DeliveredVariant,
    IngestedPage,
    Outcome,
    PageResult,
    Quality,
    Review,
    VariantArtifact,
)
from panelworks.errors import PanelworksError
from panelworks.page.purging import Purges
from panelworks.page.variants import Materials, Variant, make_variant, no_materials, variant_size
from panelworks.pictures import Picture, fit_size, resize
from panelworks.pictures.resample import shrinker
from panelworks.settings import ReviewPolicy, Settings
from panelworks.storage import ContentStore, ObjectFolder
from panelworks.storage.folder import open_folder
from panelworks.storage.headers import headers_of, public_url

logger = logging.getLogger(__name__)

_VARIANT_THREADS: Final = 2
"""Variants that are made at the same time. Resizing and encoding release the interpreter's lock."""
_MAX_PARALLEL_PIXELS: Final = 32_000_000
"""Variants of a larger master are made one after the other, in less memory."""


Box = tuple[int | None, int | None]
"""Maximum width and height; None: no limit."""


def delivery_size(size: tuple[int, int], boxes: Iterable[Box]) -> tuple[int, int]:
    """Width and height of the largest picture that is delivered of a master of `size`."""
    return max((fit_size(size, box) for box in boxes), default=size)


def make_variants(
    master: Picture, specs: tuple[VariantSpec, ...], materials: Materials | None = None
) -> Iterator[Variant]:
    """The variants, smallest first. If they are made at the same time, the largest begins: it takes longest.

    `materials` are needed for watermarks of pictures and for metadata.
    """
    materials = materials or no_materials()
    planned = sorted(((variant_size(master.size, spec), spec) for spec in specs), key=lambda plan: plan[0])
    parallel = master.width * master.height <= _MAX_PARALLEL_PIXELS
    resized = shrinker(master) if parallel else partial(resize, master)
    if not parallel:
        yield from (make_variant(master, resized, *plan, materials) for plan in planned)
        return
    with ThreadPoolExecutor(_VARIANT_THREADS, "variants") as threads:
        started = [
            threads.submit(make_variant, master, resized, *plan, materials) for plan in reversed(planned)
        ]
        yield from (variant.result() for variant in reversed(started))


def deliver(
    store: ContentStore,
    folder: ObjectFolder,
    request: PageRequest,
    page: IngestedPage,
    outcome: Outcome,
    *,
    settings: Settings,
    purges: Purges,
    cached: bool,
    review: Review | None = None,
) -> PageResult:
    """Copy the master and the variants into `folder` and return the result. A page with a `review` goes under `review/`.

    Object names contain the content key: an existing object of that name is equal. A forced page replaces it, and the copies of
    CDNs are purged.
    """
    name = f"{page.stem}-{page.content_key[:12]}"
    place = DeliveryPlace(
        store, folder, settings, page.content_key, outcome.route, name,
        replace=request.force, under="" if review is None else REVIEW_FOLDER,
    )  # fmt: skip
    variants = place.deliver_variants(outcome.variants)
    master = place.deliver_master(outcome.master)
    preview = page.preview or outcome.preview
    if preview is not None:
        preview = place.deliver_preview(preview)
    if review is None:
        purges.request(place.replaced)
    smallest = min((variant.bytes for variant in variants), default=0)
    return PageResult(
        job_id=request.job_id,
        status="success",
        route=outcome.route,
        cached=cached,
        content_key=page.content_key,
        source=page.source,
        quality=Quality(before=_without_regions(outcome.before), after=_without_regions(outcome.after)),
        model=outcome.plan.model if outcome.plan else None,
        scale=round(outcome.master.width / page.source.width, 3),
        steps=outcome.plan.steps if outcome.plan else (),
        rule=outcome.rule,
        series_rule=page.series_rule,
        fallback=outcome.fallback,
        master=master,
        variants=variants,
        placeholder=page.placeholder or outcome.placeholder,
        preview=preview,
        compression_ratio=round(page.source.bytes / smallest, 3) if smallest else None,
        regions=outcome.before.regions,
        notes=_notes(page, outcome, cached=cached),
        gpu=None if cached else outcome.gpu,
        review=review,
    )


def publish_preview(
    store: ContentStore, request: PageRequest, page: IngestedPage, settings: Settings
) -> ArtifactRef | None:
    """Copy the preview of a page to the destination before the page is enhanced; None if the page has none.

    It stays in the store if a person may have to see the page first. A destination that is unavailable is a warning: the
    preview is delivered again with the page.
    """
    if page.preview is None or _review_policy(request.options, settings) != "never":
        return page.preview
    name = f"{page.stem}-{page.content_key[:12]}"
    try:
        folder = open_folder(request.out, settings)
        place = DeliveryPlace(store, folder, settings, page.content_key, None, name)
        return place.deliver_preview(page.preview)
    except PanelworksError as error:
        logger.warning("preview of %s not published: %s", page.stem, error.message)
        return page.preview


def _review_policy(options: EnhanceOptions, settings: Settings) -> ReviewPolicy:
    """Which pages a person has to see under the policy of a request, or of the settings."""
    return options.review or settings.review


def review_of(options: EnhanceOptions, outcome: Outcome, settings: Settings) -> Review | None:
    """The review that a page needs under the policy of its request, or of the settings; None if it is published at once."""
    policy = _review_policy(options, settings)
    reasons = doubts_of(outcome, settings.target_score)
    if policy == "never" or (policy == "doubtful" and not reasons):
        return None
    return Review(
        requested_at=datetime.now(UTC), reasons=reasons or ("all pages are reviewed (option review: always)",)
    )


def doubts_of(outcome: Outcome, target: float) -> tuple[str, ...]:
    """What makes a result doubtful, for people; empty if nothing does. `target` is the score that it should reach."""
    doubts = []
    if outcome.route == "couldn't_upscale":
        doubts.append(
            f"the original was kept: {outcome.fallback.reason}"
            if outcome.fallback
            else "the original was kept"
        )
    if outcome.fallback is not None and any(attempt.taken for attempt in outcome.fallback.attempts):
        doubts.append(f"a fallback was used: {outcome.fallback.reason}")
    if outcome.after.overall < target:
        doubts.append(f"the score {outcome.after.overall:.2f} is below the target of {target:.2f}")
    return tuple(doubts)


def _without_regions(report: QualityReport) -> QualityReport:
    """The report without its regions, which are a field of the result."""
    return report.model_copy(update={"regions": ()}) if report.regions else report


def _notes(page: IngestedPage, outcome: Outcome, *, cached: bool) -> tuple[str, ...]:
    """What a person should know of the page; each note once."""
    downloads = (*page.downloads, *(() if cached else outcome.downloads))
    return tuple(
        dict.fromkeys((*(page.notes or outcome.source_notes), outcome.decision, *outcome.notes, *downloads))
    )


class DeliveryPlace:
    """The folder of the delivery of one page, or a folder in it."""

    def __init__(
        self,
        store: ContentStore,
        folder: ObjectFolder,
        settings: Settings,
        content_key: str,
        route: Route | None,
        name: str,
        *,
        replace: bool = False,
        under: str = "",
    ) -> None:
        """Where a page is delivered to.

        Args:
            store: The pictures.
            folder: The destination of the page.
            settings: What the headers of objects contain, and their addresses at the CDN.
            content_key: The folder of the variants.
            route: The folder of the master; None: it is not known yet, and no master is delivered.
            name: The name of the master without its extension.
            replace: Overwrite objects of the same length.
            under: The first part of all names.
        """
        self._store = store
        self._folder = folder
        self._settings = settings
        self._content_key = content_key
        self._route = route
        self._name = name
        self._replace = replace
        self._under = under
        self.replaced: list[str] = []
        """Addresses of the objects that existed and were overwritten."""

    def deliver_master(self, master: ArtifactRef) -> ArtifactRef:
        """Publish a master in the folder of its route."""
        name = f"{self._name}.{EXTENSIONS[master.media_type]}"
        uri = self._copy(f"{self._route}/{name}", master, name)
        return master.model_copy(update={"uri": uri, "url": public_url(uri, self._settings)})

    def deliver_preview(self, preview: ArtifactRef) -> ArtifactRef:
        """Publish a preview. One of the same length is equal, also of a forced page: it shows the source."""
        extension = EXTENSIONS[preview.media_type]
        name = f"previews/{self._content_key}.{extension}"
        uri = self._copy(name, preview, f"{self._name}-preview.{extension}", replace=False)
        return preview.model_copy(update={"uri": uri, "url": public_url(uri, self._settings)})

    def deliver_variants(self, variants: Iterable[VariantArtifact]) -> tuple[DeliveredVariant, ...]:
        """Publish variants."""
        return tuple(self._deliver_variant(variant) for variant in variants)

    def _deliver_variant(self, variant: VariantArtifact) -> DeliveredVariant:
        name = f"{variant.name}.{EXTENSIONS[variant.artifact.media_type]}"
        uri = self._copy(f"variants/{self._content_key}/{name}", variant.artifact, f"{self._name}-{name}")
        return DeliveredVariant(
            name=variant.name,
            uri=uri,
            width=variant.artifact.width,
            height=variant.artifact.height,
            format=variant.format,
            bytes=variant.artifact.bytes,
            quality=variant.quality,
            frames=variant.artifact.frames,
            url=public_url(uri, self._settings),
        )

    def _copy(self, name: str, artifact: ArtifactRef, filename: str, *, replace: bool | None = None) -> str:
        """Publish a stored picture under `name` unless an object of its length exists; returns the URI.

        `replace` overwrites such an object too; by default if the place does.
        """
        replace = self._replace if replace is None else replace
        name = self._under + name
        there = self._folder.info(name)
        if there is not None and there.bytes == artifact.bytes and not replace:
            return self._folder.uri(name)
        headers = headers_of(
            name, self._settings, filename=filename, content_key=self._content_key, route=self._route
        )
        uri = self._folder.write(name, self._store.get(artifact), artifact.media_type, headers)
        if there is not None:
            self.replaced.append(uri)
        return uri
