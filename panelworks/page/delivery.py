"""Making variants of a master, and delivering pictures under their object names."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Final

from panelworks.domain.formats import EXTENSIONS, PictureFormat, VariantSpec, format_that_holds
from panelworks.domain.request import PageRequest
from panelworks.domain.result import (
    ArtifactRef,
    DeliveredVariant,
    IngestedPage,
    Outcome,
    PageResult,
    Quality,
    VariantArtifact,
)
from panelworks.pictures import Picture, encode, fit_size, resize
from panelworks.pictures.resample import shrinker
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
) -> PageResult:
    """Copy the master and the variants into `folder` and return the result.

    Object names contain the content key: an existing object of that name is equal. A forced page replaces it.
    """
    place = _Place(store, folder, replace=request.force)
    variants = tuple(_deliver_variant(place, page, variant) for variant in outcome.variants)
    extension = EXTENSIONS[outcome.master.media_type]
    master = f"{outcome.route}/{page.stem}-{page.content_key[:12]}.{extension}"
    uri = place.copy(master, outcome.master)
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
        fallback=outcome.fallback,
        master=outcome.master.model_copy(update={"uri": uri}),
        variants=variants,
        compression_ratio=round(page.source.bytes / smallest, 3) if smallest else None,
        notes=_notes(page, outcome, cached=cached),
        gpu=None if cached else outcome.gpu,
    )


def _notes(page: IngestedPage, outcome: Outcome, *, cached: bool) -> tuple[str, ...]:
    """What a person should know of the page; each note once."""
    downloads = (*page.downloads, *(() if cached else outcome.downloads))
    return tuple(
        dict.fromkeys((*(page.notes or outcome.source_notes), outcome.decision, *outcome.notes, *downloads))
    )


def _deliver_variant(place: "_Place", page: IngestedPage, variant: VariantArtifact) -> DeliveredVariant:
    artifact = variant.artifact
    name = f"variants/{page.content_key}/{variant.name}.{EXTENSIONS[artifact.media_type]}"
    return DeliveredVariant(
        name=variant.name,
        uri=place.copy(name, artifact),
        width=artifact.width,
        height=artifact.height,
        format=variant.format,
        bytes=artifact.bytes,
    )


class _Place:
    """The folder of the delivery."""

    def __init__(self, store: ContentStore, folder: ObjectFolder, *, replace: bool) -> None:
        self._store = store
        self._folder = folder
        self._replace = replace

    def copy(self, name: str, artifact: ArtifactRef) -> str:
        """Publish a stored picture under `name` unless an object of its length exists; returns the URI."""
        there = None if self._replace else self._folder.info(name)
        if there is not None and there.bytes == artifact.bytes:
            return self._folder.uri(name)
        return self._folder.write(name, self._store.get(artifact), artifact.media_type)
