"""Making variants of a master, and delivering pictures under their object names."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Final

from panelworks.domain.formats import EXTENSIONS, PictureFormat, VariantSpec, format_that_holds
from panelworks.domain.options import EnhanceOptions
from panelworks.domain.plan import Route
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
from panelworks.pictures import Picture, encode, fit_size, resize
from panelworks.pictures.resample import shrinker
from panelworks.settings import Settings
from panelworks.storage import ContentStore, ObjectFolder

_VARIANT_THREADS: Final = 2
"""Variants that are made at the same time. Resizing and encoding release the interpreter's lock."""
_MAX_PARALLEL_PIXELS: Final = 32_000_000
"""Variants of a larger master are made one after the other, in less memory."""


@dataclass(frozen=True)
class Variant:
    """One encoded derivative, in memory."""

    spec: VariantSpec
    format: PictureFormat
    """The format written: the requested one, or the next one whose side limit allows the size."""
    size: tuple[int, int]
    data: bytes
    frames: int = 1


Box = tuple[int | None, int | None]
"""Maximum width and height; None: no limit."""


def delivery_size(size: tuple[int, int], boxes: Iterable[Box]) -> tuple[int, int]:
    """Width and height of the largest picture that is delivered of a master of `size`."""
    return max((fit_size(size, box) for box in boxes), default=size)


def make_variants(master: Picture, specs: tuple[VariantSpec, ...]) -> Iterator[Variant]:
    """The variants, smallest first. If they are made at the same time, the largest begins: it takes longest."""
    planned = sorted(
        ((fit_size(master.size, (spec.width, spec.height)), spec) for spec in specs),
        key=lambda plan: plan[0],
    )
    parallel = master.width * master.height <= _MAX_PARALLEL_PIXELS
    resized = shrinker(master) if parallel else partial(resize, master)
    if not parallel:
        yield from (_make_variant(resized, *plan) for plan in planned)
        return
    with ThreadPoolExecutor(_VARIANT_THREADS, "variants") as threads:
        started = [threads.submit(_make_variant, resized, *plan) for plan in reversed(planned)]
        yield from (variant.result() for variant in reversed(started))


def _make_variant(
    resized: Callable[[tuple[int, int]], Picture], size: tuple[int, int], spec: VariantSpec
) -> Variant:
    format = format_that_holds(*size, spec.format)
    return Variant(spec, format, size, encode(resized(size), format, spec.quality))


def deliver(
    store: ContentStore,
    folder: ObjectFolder,
    request: PageRequest,
    page: IngestedPage,
    outcome: Outcome,
    *,
    cached: bool,
    review: Review | None = None,
) -> PageResult:
    """Copy the master and the variants into `folder` and return the result. A page with a `review` goes under `review/`.

    Object names contain the content key: an existing object of that name is equal. A forced page replaces it.
    """
    place = DeliveryPlace(store, folder, replace=request.force, under="" if review is None else REVIEW_FOLDER)
    name = f"{page.stem}-{page.content_key[:12]}"
    variants = place.deliver_variants(page.content_key, outcome.variants)
    smallest = min((variant.bytes for variant in variants), default=0)
    return PageResult(
        job_id=request.job_id,
        status="success",
        route=outcome.route,
        cached=cached,
        content_key=page.content_key,
        source=page.source,
        quality=Quality(before=outcome.before, after=outcome.after),
        model=outcome.plan.model if outcome.plan else None,
        scale=round(outcome.master.width / page.source.width, 3),
        steps=outcome.plan.steps if outcome.plan else (),
        rule=outcome.rule,
        series_rule=page.series_rule,
        fallback=outcome.fallback,
        master=place.deliver_master(outcome.route, name, outcome.master),
        variants=variants,
        compression_ratio=round(page.source.bytes / smallest, 3) if smallest else None,
        notes=_notes(page, outcome, cached=cached),
        gpu=None if cached else outcome.gpu,
        review=review,
    )


def review_of(options: EnhanceOptions, outcome: Outcome, settings: Settings) -> Review | None:
    """The review that a page needs under the policy of its request, or of the settings; None if it is published at once."""
    policy = options.review or settings.review
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


def _notes(page: IngestedPage, outcome: Outcome, *, cached: bool) -> tuple[str, ...]:
    """What a person should know of the page; each note once."""
    downloads = (*page.downloads, *(() if cached else outcome.downloads))
    return tuple(
        dict.fromkeys((*(page.notes or outcome.source_notes), outcome.decision, *outcome.notes, *downloads))
    )


class DeliveryPlace:
    """The folder of the delivery, or a folder in it."""

    def __init__(
        self, store: ContentStore, folder: ObjectFolder, *, replace: bool = False, under: str = ""
    ) -> None:
        """`replace` overwrites objects of the same length; `under` is the first part of all names."""
        self._store = store
        self._folder = folder
        self._replace = replace
        self._under = under

    def deliver_master(self, route: Route, name: str, master: ArtifactRef) -> ArtifactRef:
        """Publish a master in the folder of its route."""
        uri = self._copy(f"{route}/{name}.{EXTENSIONS[master.media_type]}", master)
        return master.model_copy(update={"uri": uri})

    def deliver_variants(
        self, content_key: str, variants: Iterable[VariantArtifact]
    ) -> tuple[DeliveredVariant, ...]:
        """Publish variants."""
        return tuple(
            DeliveredVariant(
                name=variant.name,
                uri=self._copy(
                    f"variants/{content_key}/{variant.name}.{EXTENSIONS[variant.artifact.media_type]}",
                    variant.artifact,
                ),
                width=variant.artifact.width,
                height=variant.artifact.height,
                format=variant.format,
                bytes=variant.artifact.bytes,
                frames=variant.artifact.frames,
            )
            for variant in variants
        )

    def _copy(self, name: str, artifact: ArtifactRef) -> str:
        """Publish a stored picture under `name` unless an object of its length exists; returns the URI."""
        name = self._under + name
        there = None if self._replace else self._folder.info(name)
        if there is not None and there.bytes == artifact.bytes:
            return self._folder.uri(name)
        return self._folder.write(name, self._store.get(artifact), artifact.media_type)
