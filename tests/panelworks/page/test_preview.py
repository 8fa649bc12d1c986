"""Previews: a part looks as it will look in the whole page, wherever it lies, and steps are those of the page."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from panelworks.domain.options import EnhanceOptions, Region
from panelworks.domain.request import JobKey, PageRequest
from panelworks.domain.result import JobRecord
from panelworks.errors import PanelworksError, Rejected
from panelworks.page import preview as preview_module
from panelworks.page.direct import enhance_directly
from panelworks.page.engine import Engine, get_engine
from panelworks.page.preview import PREVIEW_PIXELS, Previews
from panelworks.storage.location import Location
from tests.pages import psnr, write_page

MIN_PSNR_DB = 30
"""Of a part, which is compressed, to the same part of the whole page."""
BORDER_PIXELS = 24
"""At the border of a part, the network does not see its surroundings."""
SIZE = (700, 900)


def process(folder: Path, options: EnhanceOptions) -> JobRecord:
    page = write_page(folder / "page.png", *SIZE)
    out = str(folder / "out")
    enhance_directly(PageRequest(source=str(page), out=out, job_id="job", options=options))
    found = get_engine().jobs.job(JobKey(None, "job"))
    assert found is not None
    return found


@pytest.fixture
def record(tmp_path: Path) -> JobRecord:
    return process(tmp_path, EnhanceOptions(model="lanczos", scale=1))


def decoded(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data)).convert("RGB")


def test_a_part_looks_as_in_the_whole_page(tmp_path: Path) -> None:
    record = process(tmp_path, EnhanceOptions(scale=2))
    assert record.result.master is not None
    made = Previews(get_engine()).make(record, EnhanceOptions(scale=2), 100, 150)
    assert made.region == Region(left=100, top=150, width=PREVIEW_PIXELS, height=PREVIEW_PIXELS)
    assert (made.width, made.height) == (2 * PREVIEW_PIXELS, 2 * PREVIEW_PIXELS)
    assert made.model == record.result.model
    with Image.open(Location.parse(record.result.master.uri).path) as master:
        whole = master.convert("RGB").crop((200, 300, 200 + made.width, 300 + made.height))
    inner = (slice(BORDER_PIXELS, -BORDER_PIXELS),) * 2
    assert psnr(np.asarray(decoded(made.result))[inner], np.asarray(whole)[inner]) > MIN_PSNR_DB
    assert decoded(made.source).size == decoded(made.result).size


def test_the_scale_is_that_of_the_whole_page(record: JobRecord) -> None:
    """With `auto` it depends on the size of the page, not on that of the part."""
    previews = Previews(get_engine())
    assert record.result.source is not None
    automatic = EnhanceOptions(model="lanczos")
    page = enhance_directly(record.request.model_copy(update={"options": automatic, "job_id": "auto"}))
    assert page.master is not None
    made = previews.make(record, automatic, 0, 0)
    assert made.width / made.region.width == pytest.approx(page.master.width / SIZE[0], abs=0.01)


@pytest.mark.parametrize("corner", [(0, 0), (10_000, 10_000), (188, 388)])
def test_a_part_is_moved_into_the_page(corner: tuple[int, int], record: JobRecord) -> None:
    region = Previews(get_engine()).make(record, EnhanceOptions(model="lanczos"), *corner).region
    assert (region.left, region.top) == (min(corner[0], 188), min(corner[1], 388))
    assert region.left + region.width <= SIZE[0]
    assert region.top + region.height <= SIZE[1]


def test_a_page_that_stays_as_it_is_has_no_network(record: JobRecord) -> None:
    good = EnhanceOptions(scale=1, quality_threshold=0, technical_threshold=0)
    made = Previews(get_engine()).make(record, good, 0, 0)
    assert (made.model, made.steps) == (None, ())
    assert psnr(np.asarray(decoded(made.source)), np.asarray(decoded(made.result))) > MIN_PSNR_DB


def test_regions_of_the_page_are_moved_into_the_part(record: JobRecord) -> None:
    hole = Region(left=300, top=320, width=60, height=40)
    previews = Previews(get_engine())
    plain = previews.make(record, EnhanceOptions(scale=1, technical_threshold=1), 100, 150)
    made = previews.make(record, EnhanceOptions(scale=1, technical_threshold=1, inpaint=(hole,)), 100, 150)
    changed = np.abs(
        np.asarray(decoded(made.result)).astype(int) - np.asarray(decoded(plain.result)).astype(int)
    ).max(axis=2)
    rows, columns = np.nonzero(changed > 40)
    assert rows.size
    assert rows.min() >= 165 and rows.max() < 170 + 40 + 5
    assert columns.min() >= 195 and columns.max() < 200 + 60 + 5


def test_the_same_preview_is_computed_once(record: JobRecord, monkeypatch: pytest.MonkeyPatch) -> None:
    previews = Previews(get_engine())
    first = previews.make(record, EnhanceOptions(model="lanczos"), 0, 0)
    monkeypatch.setattr(Engine, "enhance", None)
    assert previews.make(record, EnhanceOptions(model="lanczos"), 0, 0) is first


def test_few_previews_stay_in_memory(record: JobRecord, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preview_module, "_MAX_PREVIEWS", 2)
    previews = Previews(get_engine())
    first = previews.make(record, EnhanceOptions(model="lanczos"), 0, 0)
    for left in (1, 2):
        previews.make(record, EnhanceOptions(model="lanczos"), left, 0)
    assert previews.make(record, EnhanceOptions(model="lanczos"), 0, 0) is not first


def test_a_preview_may_name_what_a_client_may_name(record: JobRecord) -> None:
    """The page is an operator's; the person in the browser need not be one."""
    with pytest.raises(PanelworksError) as error:
        Previews(get_engine()).make(record, EnhanceOptions(model="/etc/passwd"), 0, 0)
    assert error.value.code == "forbidden_model"


def test_a_page_without_its_original_is_explained(record: JobRecord) -> None:
    assert record.result.source is not None
    engine = Engine(get_engine().settings)
    for path in Path(engine.settings.store_location).rglob(f"*{record.result.source.sha256}*"):
        path.unlink()
    with pytest.raises(Rejected) as error:
        Previews(engine).make(record, EnhanceOptions(), 0, 0)
    assert error.value.code == "not_found"
