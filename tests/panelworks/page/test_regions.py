"""Artifacts in parts of a page, from the option to the result."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from panelworks.domain.options import EnhanceOptions
from panelworks.domain.plan import content_key
from panelworks.domain.quality import QualityReport
from panelworks.domain.regions import MAX_INPAINTED_SHARE, ArtifactRegion, inpaintable_regions
from panelworks.domain.request import JobKey, PageRequest
from panelworks.domain.result import PageResult, Verdict
from panelworks.errors import UnknownName
from panelworks.page.direct import enhance_directly
from panelworks.page.engine import get_engine
from panelworks.page.fallbacks import NAMES, alternatives
from panelworks.page.planning import chosen, plan_for
from panelworks.page.preview import Previews
from panelworks.page.rules import check_plan
from panelworks.settings import Settings
from panelworks.steps import take_inventory
from panelworks.storage.location import Location
from tests.detectors import install_detector
from tests.pages import file_of
from tests.panelworks.quality.test_regions import WIDTH, as_jpeg, painted_page

SQUARE = (slice(100, 130), slice(200, 240))
GOOD: dict[str, Any] = {"scale": 1, "quality_threshold": 0, "technical_threshold": 0}
"""The page keeps its size, and only the steps that the request names run."""
FOUND = ArtifactRegion(kind="jpeg_blocks", left=64, top=0, width=128, height=64, strength=0.7)


def half_compressed(path: Path, *, square: bool = False) -> Path:
    page = painted_page()
    page[:, WIDTH // 2 :] = as_jpeg(np.ascontiguousarray(page[:, WIDTH // 2 :]), 15)
    if square:
        page[SQUARE] = (255, 0, 255)
    path.write_bytes(file_of(Image.fromarray(page)))
    return path


def enhance(source: Path, **options: Any) -> PageResult:
    request = PageRequest(
        source=str(source), out=str(source.parent / "out"), options=EnhanceOptions(**options), job_id="job"
    )
    result = enhance_directly(request)
    assert result.error is None, result.error
    return result


def master_of(result: PageResult) -> np.ndarray[Any, np.dtype[np.uint8]]:
    assert result.master is not None
    with Image.open(Location.parse(result.master.uri).path) as image:
        return np.asarray(image.convert("RGB"))


def report(*regions: ArtifactRegion, jpeg_quality: int | None = None) -> QualityReport:
    return QualityReport(
        resolution=0.2, technical=0.9, components={}, overall=0.5, regions=regions, jpeg_quality=jpeg_quality
    )


def test_only_the_affected_part_is_treated(tmp_path: Path) -> None:
    source = half_compressed(tmp_path / "page.png")
    result = enhance(source, fix_artifacts="regions", **GOOD)
    assert [step.action for step in result.steps] == ["fix_artifacts"]
    assert "jpeg_blocks" in {one.kind for one in result.regions}
    assert all(one.left >= WIDTH // 2 - 64 for one in result.regions)
    before, after = np.asarray(Image.open(source)), master_of(result)
    assert (before[:, : WIDTH // 2 - 128] == after[:, : WIDTH // 2 - 128]).all()
    assert (before[:, WIDTH // 2 + 64 :] != after[:, WIDTH // 2 + 64 :]).any()
    assert any("JPEG blocks treated" in note for note in result.notes)
    again = enhance(source, fix_artifacts="regions", **GOOD)
    assert again.cached
    assert again.regions == result.regions


def test_regions_are_reported_once_and_only_if_they_were_looked_for(tmp_path: Path) -> None:
    source = half_compressed(tmp_path / "page.png")
    reported = enhance(source, detect="report", **GOOD).model_dump(mode="json")
    assert reported["regions"][0]["kind"] == "jpeg_blocks"
    assert reported["steps"] == []
    assert "regions" not in reported["quality"]["before"]
    assert "regions" not in reported["quality"]["after"]
    assert "regions" not in enhance(source, **GOOD).model_dump(mode="json")


@pytest.mark.parametrize("detect", ["report", "inpaint"])
def test_what_a_detector_finds_is_reported_and_on_request_inpainted(
    detect: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install_detector(tmp_path, monkeypatch)
    source = half_compressed(tmp_path / "page.png", square=True)
    result = enhance(source, detect=detect, **GOOD)
    (found,) = [one for one in result.regions if one.detector == "squares"]
    assert (found.kind, found.left, found.top, found.width, found.height) == (
        "extra_finger",
        200,
        100,
        40,
        30,
    )
    assert [step.action for step in result.steps] == (["inpaint"] if detect == "inpaint" else [])
    before, after = np.asarray(Image.open(source)), master_of(result)
    magenta = (after[SQUARE] == (255, 0, 255)).all(axis=2)
    assert magenta.all() == (detect == "report")
    assert not magenta.any() or detect == "report"
    outside = np.ones(before.shape[:2], dtype=bool)
    outside[SQUARE] = False
    assert (before[outside] == after[outside]).all()


def test_a_preview_shows_the_treated_part(tmp_path: Path) -> None:
    enhance(half_compressed(tmp_path / "page.png"), **GOOD)
    record = get_engine().jobs.job(JobKey(None, "job"))
    assert record is not None
    made = Previews(get_engine()).make(record, EnhanceOptions(fix_artifacts="regions", **GOOD), 300, 50)
    assert made.steps == ("fix_artifacts",)


def test_inpainting_needs_a_detector(settings: Settings) -> None:
    with pytest.raises(UnknownName, match="needs a detector, and none is installed"):
        check_plan(EnhanceOptions(detect="inpaint"), settings)
    check_plan(EnhanceOptions(detect="report"), settings)


def test_another_version_of_a_detector_is_other_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = half_compressed(tmp_path / "page.png")
    without = enhance(source, detect="report", **GOOD)
    install_detector(tmp_path, monkeypatch)
    assert enhance(source, detect="report", **GOOD).content_key != without.content_key


@pytest.mark.parametrize("good", [True, False])
@pytest.mark.parametrize(
    ("regions", "expected"),
    [
        ((), []),
        ((FOUND,), [FOUND]),
        ((FOUND.model_copy(update={"kind": "halftone"}),), []),
        ((FOUND.model_copy(update={"detector": "hands"}),), []),
    ],
)
def test_the_step_runs_where_there_is_something_to_treat(
    regions: tuple[ArtifactRegion, ...], expected: list[ArtifactRegion], good: bool, settings: Settings
) -> None:
    options = EnhanceOptions(fix_artifacts="regions").resolve(settings)
    plan = plan_for((640, 480), options, take_inventory(settings))
    done = chosen(plan, report(*regions, jpeg_quality=10), good=good, size=(640, 480))
    steps = [step for step in done.steps if step.action == "fix_artifacts"] if done else []
    assert [step.config["regions"] for step in steps] == (
        [[one.model_dump() for one in expected]] if expected else []
    )


def test_the_fallback_leaves_the_rest_of_the_page_as_it_is(settings: Settings) -> None:
    inventory = take_inventory(settings)
    options = EnhanceOptions(fix_artifacts="regions").resolve(settings)
    before = report(FOUND, jpeg_quality=10)
    plan = chosen(plan_for((640, 480), options, inventory), before, good=False, size=(640, 480))
    assert plan is not None
    failed = Verdict(passed=False, reason="it failed")
    found = dict(alternatives(plan, before, ("lanczos",), inventory, failed))
    (fix,) = [step for step in found[NAMES["lanczos"]].steps if step.action == "fix_artifacts"]
    assert fix.config["regions"] == [FOUND.model_dump()]


def test_a_detector_cannot_have_most_of_the_page_inpainted() -> None:
    size = (100, 100)
    sure, large, small = (
        FOUND.model_copy(update={"detector": "hands", "width": width, "height": 20, "strength": strength})
        for width, strength in ((100, 0.9), (100, 0.8), (10, 0.3))
    )
    taken = inpaintable_regions((FOUND, small, large, sure), size)
    assert taken == (sure, small)
    assert sum(one.area for one in taken) <= MAX_INPAINTED_SHARE * 100 * 100


@pytest.mark.parametrize("options", [{}, {"fix_artifacts": "on"}, {"fix_artifacts": "auto", "scale": 2.0}])
def test_requests_without_the_options_have_the_records_of_earlier_releases(
    options: dict[str, Any], settings: Settings
) -> None:
    resolved = EnhanceOptions.model_validate(options).resolve(settings)
    assert not {"detect", "detectors"} & resolved.model_dump().keys()
    assert "detect" not in EnhanceOptions.model_validate(options).model_dump()
    plan = plan_for((640, 480), resolved, take_inventory(settings))
    assert all("found" not in step.config for step in plan.steps)
    assert content_key("f" * 64, [(None, resolved, plan)])
