"""A page that is an animation: all frames are enhanced alike, validated, and delivered with their timing."""

import tracemalloc
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from panelworks import EnhanceOptions, PageResult
from panelworks.domain.plan import Plan, Step
from panelworks.domain.quality import QualityReport
from panelworks.domain.request import Origin, PageRequest
from panelworks.domain.result import ArtifactRef, Check, Verdict
from panelworks.errors import ResourceExhausted
from panelworks.page import animated, execution
from panelworks.page.animated import SOURCE, FrameResults, enhance_animation, validate_animation
from panelworks.page.direct import enhance_directly
from panelworks.page.engine import Engine
from panelworks.pictures import Picture
from panelworks.pictures.animation import Animation, read_animation
from panelworks.progress import ignore_progress
from panelworks.settings import Settings
from panelworks.sources.fetch import inline
from tests.animations import (
    DELAYS,
    animated_file,
    blink,
    cut_before_frame,
    delays_seen_by_pillow,
    rgba,
    seen_by_pillow,
)
from tests.pages import drawn, file_of, write_page


def request(data: bytes, out: Path, **options: Any) -> PageRequest:
    return PageRequest(
        source=inline(data), out=str(out), options=EnhanceOptions.model_validate(options), job_id="job",
        origin=Origin(tool="test"),
    )  # fmt: skip


def enhanced(engine: Engine, data: bytes, out: Path, **options: Any) -> PageResult:
    result = enhance_directly(request(data, out, **options), engine)
    assert result.error is None, result.error
    return result


def read_file(uri: str) -> bytes:
    return Path(uri.removeprefix("file://")).read_bytes()


def animation_at(artifact: ArtifactRef | None, settings: Settings) -> Animation:
    assert artifact is not None
    return animation_of_file(artifact.uri, settings)


def animation_of_file(uri: str, settings: Settings) -> Animation:
    animation = read_animation(read_file(uri), settings)
    assert animation is not None
    return animation


def animation_of(frames: list[Picture], settings: Settings, format: str = "WEBP") -> Animation:
    animation = read_animation(animated_file(frames, format, DELAYS[: len(frames)]), settings)
    assert animation is not None
    return animation


def differing() -> list[Picture]:
    """A page, the same with a change, and another one."""
    return [*blink(), drawn(160, 200, seed=5)]


@pytest.mark.parametrize("format", ["GIF", "WEBP"])
def test_every_frame_is_that_of_the_frame_enhanced_alone(
    format: str, engine: Engine, tmp_path: Path, settings: Settings
) -> None:
    data = animated_file(differing(), format, DELAYS, loop=2)
    result = enhanced(engine, data, tmp_path)
    assert result.route == "upscaled", result.fallback
    assert result.master is not None
    assert result.source is not None
    assert result.master.frames == result.source.frames == 3
    assert result.notes[0].startswith("animated") is False
    master = animation_at(result.master, settings)
    source = read_animation(data, settings)
    assert source is not None
    assert (master.delays, master.plays) == (source.delays, source.plays)
    for picture, frame in zip(master.pictures(), source.pictures(), strict=True):
        alone = enhanced(engine, file_of(Image.fromarray(rgba(frame))), tmp_path)
        assert alone.master is not None
        with Image.open(alone.master.uri.removeprefix("file://")) as image:
            expected = np.asarray(image.convert("RGBA")).astype(int)
        assert np.abs(rgba(picture) - expected).max() <= 2


def test_variants_are_animated_and_the_jpeg_is_a_poster(engine: Engine, tmp_path: Path) -> None:
    result = enhanced(engine, animated_file(differing(), "GIF", DELAYS), tmp_path, model="lanczos")
    variants = {one.name: one for one in result.variants}
    assert {name: (one.format, one.frames) for name, one in variants.items()} == {
        "normal": ("jpeg", 1),
        "high": ("webp", 3),
    }
    assert delays_seen_by_pillow(read_file(variants["high"].uri)) == list(DELAYS)


@pytest.mark.parametrize("format", ["webp", "avif", "gif"])
def test_a_requested_format_gets_a_poster(format: str, engine: Engine, tmp_path: Path) -> None:
    data = animated_file(differing(), "WEBP", DELAYS, loop=2)
    result = enhanced(engine, data, tmp_path, format=format, model="lanczos")
    variants = {one.name: one for one in result.variants}
    assert set(variants) == {"normal", "high", "poster"}
    assert (variants["poster"].format, variants["poster"].frames) == ("jpeg", 1)
    assert variants["high"].uri.endswith(f".{format}")
    assert delays_seen_by_pillow(read_file(variants["high"].uri)) == list(DELAYS)
    shown = seen_by_pillow(read_file(variants["high"].uri))
    assert len(shown) == 3


def test_variants_of_a_request_are_cropped_and_marked_in_every_frame(
    engine: Engine, tmp_path: Path, settings: Settings
) -> None:
    square = {"name": "square", "width": 24, "height": 24, "fit": "crop", "focus": (0.5, 0.5)}
    marked = square | {"name": "marked", "watermark": {"text": "TEST", "opacity": 1.0, "size": 1.0}}
    small = square | {"name": "small", "quality": "auto", "bytes_at_most": 100}
    given = [one | {"format": "webp"} for one in (square, marked, small)]
    data = animated_file(differing(), "WEBP", DELAYS)
    result = enhanced(engine, data, tmp_path, model="lanczos", variants=given)
    variants = {one.name: one for one in result.variants}
    assert {name: (one.width, one.height, one.frames) for name, one in variants.items()} == {
        "square": (24, 24, 3), "marked": (24, 24, 3), "small": (24, 24, 3), "poster": (24, 24, 1),
    }  # fmt: skip
    plain, others = (
        [rgba(frame) for frame in animation_of_file(variants[name].uri, settings).pictures()]
        for name in ("square", "marked")
    )
    assert all(np.abs(one - other).max() > 60 for one, other in zip(plain, others, strict=True))
    assert any(note.startswith("variant small has") for note in result.notes)


@pytest.mark.parametrize("format", ["jpeg", "png"])
def test_a_requested_still_format_is_the_first_frame(format: str, engine: Engine, tmp_path: Path) -> None:
    result = enhanced(engine, animated_file(blink(), "WEBP"), tmp_path, format=format, model="lanczos")
    assert [(one.format, one.frames) for one in result.variants] == [(format, 1)] * 2


def test_a_good_animation_is_delivered_as_it_is(engine: Engine, tmp_path: Path) -> None:
    data = animated_file(blink(), "GIF", 120)
    result = enhanced(engine, data, tmp_path, quality_threshold=0, technical_threshold=0)
    assert result.route == "good_quality"
    assert result.master is not None
    assert read_file(result.master.uri) == data
    assert {one.frames for one in result.variants} == {1, 2}


def test_the_second_request_is_answered_from_the_cache(engine: Engine, tmp_path: Path) -> None:
    data = animated_file(blink(), "GIF")
    first, second = (enhanced(engine, data, tmp_path, model="lanczos") for _ in range(2))
    assert (first.cached, second.cached) == (False, True)
    assert second.master == first.master
    assert second.variants == first.variants


def test_an_animation_has_another_key_than_its_first_frame_alone(engine: Engine, tmp_path: Path) -> None:
    """Earlier releases enhanced only the first frame, and those results are cached under the key of `page_of`."""
    data = animated_file(blink(), "GIF")
    wanted = request(data, tmp_path)
    page, known = engine.ingest(wanted), engine.identify(wanted)
    assert page.content_key == known.content_key
    assert page.original.frames == known.original.frames == 2
    still = engine.ingest(request(write_page(tmp_path / "page.png").read_bytes(), tmp_path))
    assert "frames" not in still.model_dump()["original"]
    assert "frames" not in still.model_dump()["source"]


def test_stages_in_other_processes_see_the_first_frame(
    engine: Engine, tmp_path: Path, settings: Settings
) -> None:
    page = engine.ingest(request(animated_file(differing(), "WEBP"), tmp_path))
    again = Engine(settings)
    assert np.array_equal(again.picture(page.original).pixels, differing()[0].pixels)


def test_an_animation_that_ends_early_is_delivered_with_a_note(engine: Engine, tmp_path: Path) -> None:
    data = cut_before_frame(animated_file(blink(count=5), "GIF"), 3)
    result = enhanced(engine, data, tmp_path, model="lanczos")
    assert result.master is not None
    assert result.master.frames == 3
    assert any("ends early" in note for note in result.notes)


def test_a_setting_rejects_an_animation_that_ends_early(tmp_path: Path, settings: Settings) -> None:
    engine = Engine(settings.model_copy(update={"truncated_animations": "reject"}))
    data = cut_before_frame(animated_file(blink(count=5), "GIF"), 3)
    result = enhance_directly(request(data, tmp_path), engine)
    assert result.error is not None
    assert result.error.code == "truncated"


def test_a_blink_costs_little_more_than_one_frame(engine: Engine, tmp_path: Path, settings: Settings) -> None:
    def count(frames: list[Picture]) -> animated.TileCount:
        data = animated_file(frames)
        page = engine.ingest(request(data, tmp_path))
        animation = read_animation(data, settings)
        assert animation is not None
        steps = tuple(step.model_copy(update={"tile": 48}) for step in page.plan.steps)
        plan = page.plan.model_copy(update={"steps": steps})
        return enhance_animation(animation, plan, settings, print, ignore_progress).count

    one, two = blink(460, 400)
    same = Picture(one.pixels.copy())
    same.pixels[0, 0] ^= 1  # another picture in one tile
    blinking = count([one, two, one, two, one, two])
    still = count([same, one])
    assert blinking.frames == 2
    tiles_of_a_page = (still.computed + still.reused) / 2
    assert blinking.computed <= 1.2 * tiles_of_a_page
    assert blinking.reused >= 0.8 * tiles_of_a_page


def plan_of(*steps: Step, size: tuple[int, int]) -> Plan:
    return Plan(steps=steps, width=size[0], height=size[1])


def test_tones_are_measured_once_for_all_frames(settings: Settings) -> None:
    """The second frame alone has darker paper: it would be corrected more."""
    page = drawn(160, 200, "screentone").pixels.astype(int)
    frames = [Picture((page * share // 100).astype(np.uint8)) for share in (85, 80)]
    step = Step(action="levels", provider="tone", model="paper-and-ink", config={"strength": 1.0})
    animation = animation_of(frames, settings)
    done = enhance_animation(animation, plan_of(step, size=(160, 200)), settings, print, ignore_progress)
    result = read_animation(done.files["master"], settings)
    assert result is not None
    first, second = (picture.pixels.max() for picture in result.pictures())
    assert first == 255
    assert second < 250


def test_frames_of_gray_and_colour_share_their_tones(settings: Settings) -> None:
    gray, colour = drawn(160, 200, "screentone"), drawn(160, 200)
    step = Step(action="colour", provider="tone", model="levels", config={"strength": 1.0})
    for frames in ([gray, colour], [colour, gray]):
        done = enhance_animation(
            animation_of(frames, settings), plan_of(step, size=(160, 200)), settings, print, ignore_progress
        )
        assert read_animation(done.files["master"], settings) is not None


def test_frames_that_return_are_read_from_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    pictures = {bytes([number]): drawn(20, 30, seed=number) for number in range(5)}
    order = [*pictures, *pictures, bytes([1])]
    with FrameResults(order) as results:
        computed = 0
        for digest in order:
            found = results.find(digest)
            if found is None:
                found = {"master": pictures[digest]}
                computed += 1
            assert np.array_equal(found["master"].pixels, pictures[digest].pixels)
            results.add(digest, found)
        assert computed == 5


def peak_memory(count: int, settings: Settings) -> int:
    """Bytes at the peak while `count` different frames are enhanced and validated."""
    page = drawn(240, 200)
    frames = []
    for number in range(count):
        pixels = page.pixels.copy()
        pixels[20:26, number : number + 6] = (number, 255, 0)
        frames.append(Picture(pixels))
    data = animated_file(frames)
    del frames
    settings = settings.model_copy(update={"max_frames": count})
    animation = read_animation(data, settings)
    assert animation is not None
    step = Step(action="resize", provider="resample", model="lanczos")
    tracemalloc.start()
    try:
        done = enhance_animation(animation, plan_of(step, size=(480, 400)), settings, print, ignore_progress)
        master = read_animation(done.files["master"], settings)
        assert master is not None
        assert sum(1 for _ in zip(animation.pictures(), master.pictures(), strict=True)) == count
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_memory_does_not_grow_with_the_number_of_frames(settings: Settings) -> None:
    peak_memory(3, settings)  # what is loaded once
    assert peak_memory(40, settings) <= 1.3 * peak_memory(3, settings)


def verdict(passed: bool, score: float, check: str = "lines") -> Verdict:
    report = QualityReport(overall=score, resolution=1, technical=score, components={})
    failed = () if passed else (Check(name=check, passed=False, value=1, limit=0, message="it is worse"),)
    return Verdict.model_construct(passed=passed, reason="it is worse", checks=failed, after=report)


@pytest.mark.parametrize(
    ("verdicts", "passed", "reason"),
    [
        ([verdict(True, 0.9), verdict(True, 0.8)], True, "it is worse"),
        ([verdict(True, 0.9), verdict(False, 0.8)], False, "frame 2: it is worse"),
        ([verdict(False, 0.9, "target"), verdict(False, 0.5, "target")], False, "frame 2: it is worse"),
        ([verdict(False, 0.9, "target"), verdict(True, 0.5)], False, "frame 1: it is worse"),
    ],
)
def test_one_failing_frame_decides(
    verdicts: list[Verdict], passed: bool, reason: str, settings: Settings
) -> None:
    animation = animation_of(blink(40, 30 + 40), settings)
    given = iter(verdicts)
    reports: list[QualityReport | None] = []

    def check(pictures: Mapping[str, Picture], before: QualityReport | None) -> Verdict:
        assert set(pictures) == {SOURCE, "master"}
        reports.append(before)
        return next(given)

    before = QualityReport(overall=0.5, resolution=1, technical=0.5, components={})
    found = validate_animation({SOURCE: animation, "master": animation}, before, check)
    assert (found.passed, found.reason) == (passed, reason)
    assert reports == [before, None]


def test_one_failing_frame_starts_the_fallback_for_all(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The network ruins the second frame of the first attempt."""
    honest = execution.run_plan
    calls = []

    def ruin(picture: Picture, plan: Plan, *rest: Any) -> Picture:
        calls.append(plan)
        result = honest(picture, plan, *rest)
        return Picture(255 - result.pixels) if len(calls) == 2 else result

    monkeypatch.setattr(animated, "run_plan", ruin)
    result = enhanced(engine, animated_file(differing(), "WEBP", DELAYS), tmp_path)
    assert result.route == "upscaled"
    assert result.fallback is not None
    assert result.fallback.reason.startswith("frame 2: ")
    assert result.master is not None
    assert result.master.frames == 3
    assert len(calls) >= 6


def test_frames_that_fit_into_no_file_are_refused(settings: Settings) -> None:
    plan = plan_of(Step(action="resize", provider="resample", model="lanczos"), size=(16_384, 10))
    with pytest.raises(ResourceExhausted):
        enhance_animation(animation_of(blink(), settings), plan, settings, print, ignore_progress)


def test_progress_ends_at_one(engine: Engine, tmp_path: Path) -> None:
    shares: list[float] = []
    page = engine.ingest(request(animated_file(differing(), "WEBP"), tmp_path))
    engine.enhance(page, page.plan, shares.append)
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
