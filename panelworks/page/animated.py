"""The stages of a page that is an animation: frame by frame, with the same plan for all frames.

One frame is in memory at a time, with what the next one needs: tiles that may be unchanged, and the results of the last
frames. A frame that returns later is read from a temporary file. The results are lossless animated WebP.
"""

import logging
import os
import tempfile
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

from PIL import Image

from panelworks.domain.fields import digest_of
from panelworks.domain.formats import FORMAT_SIDE_LIMITS, VariantSpec, format_that_holds
from panelworks.domain.plan import Plan
from panelworks.domain.quality import QualityReport
from panelworks.domain.result import Verdict
from panelworks.errors import ResourceExhausted
from panelworks.models.tile_cache import TileCache
from panelworks.page.delivery import make_variants
from panelworks.page.execution import NoteTaker, run_plan
from panelworks.page.variants import (
    Materials,
    Variant,
    compose,
    quality_of,
    too_many_bytes,
    variant_size,
)
from panelworks.pictures import resize
from panelworks.pictures.animation import Animation, digest_of_pixels
from panelworks.pictures.animation_files import ANIMATED_FORMATS, WebpWriter, write_animation
from panelworks.pictures.picture import Picture, from_image, to_image
from panelworks.progress import Progress, part_progress
from panelworks.settings import Settings
from panelworks.steps.base import FrameMemory

logger = logging.getLogger(__name__)

RECENT_FRAMES: Final = 2
"""Results that stay in memory."""
POSTER: Final = "poster"
"""Name of the still variant of an animation if its preset has none."""
_POSTER_QUALITY: Final = 85
MASTER: Final = "master"
_KEY_VERSION: Final = 1
"""Part of the content keys of animations."""


def without_limits(settings: Settings) -> Settings:
    """Settings for reading what was accepted before."""
    limits = ("max_pixels", "max_source_bytes", "max_frames", "max_animation_pixels", "max_animation_seconds")
    return settings.model_copy(update=dict.fromkeys(limits, 2**62))


def animation_key(still: str) -> str:
    """The content key of an animation whose first frame alone has the key `still`. Releases before processed that alone."""
    return digest_of({"still": still, "animation": _KEY_VERSION})


@dataclass
class TileCount:
    """What was computed for an animation."""

    frames: int = 0
    """Different frames."""
    computed: int = 0
    """Tiles that ran through a network."""
    reused: int = 0
    """Tiles that were equal to those of an earlier frame."""


@dataclass(frozen=True)
class EnhancedAnimation:
    """The results of a plan on all frames."""

    files: Mapping[str, bytes]
    """Lossless animated WebP by name: `MASTER`, and `reference` and `faithful` as in `Attempt`."""
    count: TileCount = field(default_factory=TileCount)


def refusal_of_sides(plan: Plan) -> str | None:
    """The reason why the frames of a plan do not fit into a file; None if they do."""
    longest, limit = max(plan.width, plan.height), FORMAT_SIDE_LIMITS["webp"]
    if longest <= limit:
        return None
    return f"The frames would have a side of {longest} pixels; animations have at most {limit}."


def _write_together(results: Iterable[Mapping[str, Picture]], animation: Animation) -> dict[str, bytes]:
    """Write each result of all frames as a lossless file, by its name."""
    writers: dict[str, WebpWriter] = {}
    for found, delay in zip(results, animation.delays, strict=True):
        for name, picture in found.items():
            writers.setdefault(name, WebpWriter(animation.plays)).add(picture, delay)
    return {name: writer.finish() for name, writer in writers.items()}


def enhance_animation(
    animation: Animation, plan: Plan, settings: Settings, note: NoteTaker, progress: Progress
) -> EnhancedAnimation:
    """Run a plan on each frame. Identical frames are computed once.

    Raises:
        ResourceExhausted: `too_large`; or as the providers.
        Invalid: a network returned values that are not a picture.
    """
    refusal = refusal_of_sides(plan)
    if refusal is not None:
        raise ResourceExhausted("too_large", refusal)
    memories = [
        FrameMemory(TileCache(settings.animation_tile_bytes // max(1, len(plan.steps)))) for _ in plan.steps
    ]
    count = TileCount()
    digests = [digest_of_pixels(picture) for picture in animation.pictures()]

    def compute(index: int, picture: Picture) -> dict[str, Picture]:
        for memory in memories:
            memory.tiles.begin_frame()
        kept: dict[str, Picture] = {}
        share = part_progress(progress, index, len(animation))
        master = run_plan(picture, plan, settings, kept.__setitem__, note, share, memories)
        return {**kept, MASTER: master}

    def results() -> Iterator[dict[str, Picture]]:
        with FrameResults(digests) as known:
            for index, picture in enumerate(animation.pictures()):
                found = known.find(digests[index])
                if found is None:
                    found = compute(index, picture)
                    count.frames += 1
                known.add(digests[index], found)
                yield found
                progress((index + 1) / len(animation))

    files = _write_together(results(), animation)
    count.computed = sum(memory.tiles.computed for memory in memories)
    count.reused = sum(memory.tiles.reused for memory in memories)
    logger.info(
        "animation enhanced: frames=%d different=%d tiles computed=%d reused=%d",
        len(animation), count.frames, count.computed, count.reused,
    )  # fmt: skip
    return EnhancedAnimation(files, count)


class FrameResults:
    """The results of frames that are needed again: the last ones in memory, others in temporary files until they return."""

    def __init__(self, digests: Iterable[bytes]) -> None:
        """`digests` identify all frames, in order."""
        self._remaining = Counter(digests)
        self._recent: OrderedDict[bytes, dict[str, Picture]] = OrderedDict()
        self._files: dict[bytes, dict[str, Path]] = {}
        self._stack = ExitStack()
        self._folder: Path | None = None

    def __enter__(self) -> "FrameResults":
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def find(self, digest: bytes) -> dict[str, Picture] | None:
        """The results of an identical frame; None if there was none."""
        if digest in self._recent:
            return self._recent[digest]
        files = self._files.get(digest)
        return None if files is None else {name: _read_raw(path) for name, path in files.items()}

    def add(self, digest: bytes, results: dict[str, Picture]) -> None:
        """Keep the results of the next frame if an identical one follows, or may follow soon."""
        self._remaining[digest] -= 1
        self._recent[digest] = results
        self._recent.move_to_end(digest)
        while len(self._recent) > RECENT_FRAMES:
            oldest, pictures = self._recent.popitem(last=False)
            if self._remaining[oldest] > 0 and oldest not in self._files:
                self._files[oldest] = {name: self._write(picture) for name, picture in pictures.items()}
        if not self._remaining[digest]:
            for path in self._files.pop(digest, {}).values():
                path.unlink()

    def _write(self, picture: Picture) -> Path:
        if self._folder is None:
            self._folder = Path(
                self._stack.enter_context(tempfile.TemporaryDirectory(prefix="panelworks-frames-"))
            )
        handle, name = tempfile.mkstemp(".png", dir=self._folder)
        with os.fdopen(handle, "wb") as file:
            to_image(picture).save(file, "PNG", compress_level=1)
        return Path(name)


def _read_raw(path: Path) -> Picture:
    """A picture exactly as it was written: also gray in three channels."""
    with Image.open(path, formats=("PNG",)) as image:
        image.load()
        return from_image(image)


ValidateFrame = Callable[[Mapping[str, Picture], QualityReport | None], Verdict]
"""Validates the pictures of one frame: `source`, `MASTER` and the others. The report is that of its source, if it is known."""
SOURCE: Final = "source"


def validate_animation(
    streams: Mapping[str, Animation], before: QualityReport, validate: ValidateFrame
) -> Verdict:
    """Validate all frames. The first one that is not deliverable decides, otherwise the one with the lowest score.

    Args:
        streams: The source under `SOURCE`, and the results by name.
        before: The report on the first frame of the source.
        validate: Validates one frame.
    """
    seen: set[tuple[bytes, ...]] = set()
    worst: tuple[int, Verdict] | None = None
    for index, pictures in enumerate(zip(*(one.pictures() for one in streams.values()), strict=True)):
        identity = tuple(digest_of_pixels(picture) for picture in pictures)
        if identity in seen:
            continue
        seen.add(identity)
        verdict = validate(dict(zip(streams, pictures, strict=True)), before if index == 0 else None)
        if not verdict.deliverable:
            return _name_frame(verdict, index)
        if worst is None or _rank(verdict) < _rank(worst[1]):
            worst = index, verdict
    if worst is None:
        raise ValueError("an animation has at least one frame")
    return worst[1] if worst[1].passed else _name_frame(worst[1], worst[0])


def _rank(verdict: Verdict) -> tuple[bool, float]:
    return verdict.passed, verdict.after.overall if verdict.after is not None else 0.0


def _name_frame(verdict: Verdict, index: int) -> Verdict:
    return verdict.model_copy(update={"reason": f"frame {index + 1}: {verdict.reason}"})


def make_animated_variants(
    animation: Animation, specs: tuple[VariantSpec, ...], materials: Materials
) -> Iterator[Variant]:
    """The variants of an animation: WebP, AVIF and GIF are animated, others are its first frame.

    If no variant is still, a JPEG of its smallest size is added: `POSTER`. All frames are cropped at the same place. Animations
    carry no metadata.
    """
    moving: list[tuple[VariantSpec, tuple[int, int]]] = []
    still: list[VariantSpec] = []
    for spec in specs:
        size = variant_size(animation.size, spec)
        if format_that_holds(*size, spec.format) in ANIMATED_FORMATS:
            moving.append((spec, size))
        else:
            still.append(spec)
    if moving and not still:
        smallest = min(moving, key=lambda one: one[1])[0]
        poster = {"name": POSTER, "format": "jpeg", "quality": _POSTER_QUALITY}
        still.append(smallest.model_copy(update=poster))
    yield from make_variants(animation.first(), tuple(still), materials)
    for spec, size in sorted(moving, key=lambda one: one[1]):
        yield _make_animated_variant(animation, spec, size, materials)


def _make_animated_variant(
    animation: Animation, spec: VariantSpec, size: tuple[int, int], materials: Materials
) -> Variant:
    format = next(one for one in ANIMATED_FORMATS if one == spec.format)

    def composed(picture: Picture) -> Picture:
        return compose(picture, partial(resize, picture), size, spec, materials)

    def frames() -> Iterator[tuple[Picture, int]]:
        return ((composed(picture), delay) for picture, delay in animation.frames())

    quality = 100 if format == "gif" else quality_of(composed(animation.first()), format, spec)
    data = write_animation(frames, format, animation.plays, quality)
    limit, note = spec.bytes_at_most, None
    if limit is not None and len(data) > limit:
        note = too_many_bytes(spec, len(data), "the quality of animations is not lowered")
    return Variant(spec, format, size, data, note=note, frames=len(animation))
