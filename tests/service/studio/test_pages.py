"""The pages of the studio in a browser: results, the viewer, the queue; on a phone, by keyboard, without scripts."""

import io
import re
import uuid
import zipfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from PIL import Image
from playwright.sync_api import Locator, Page, expect

from orchestration.events import PREVIEWED
from panelworks.page.engine import Engine
from panelworks.page.placeholders import make_early_view
from panelworks.page.views import TILE_PIXELS
from panelworks.settings import Settings
from tests.books import page_file
from tests.networks import random_compact
from tests.pages import drawn, file_of
from tests.panelworks.quality.test_regions import as_jpeg, painted_page
from tests.servers import request_api
from tests.service.gateway.conftest import deploy
from tests.service.studio.conftest import Open, enhance, opener

Visit = Callable[..., Page]
HOSTILE = "<img src=x onerror=alert(1)>'\"&.png"
PREFECT_MILLISECONDS = 90_000
"""For a busy Prefect server to create a run."""
PHONE = {"viewport": {"width": 380, "height": 800}, "has_touch": True}


@pytest.fixture
def studio_with_prefect(settings: Settings, tmp_path: Path, prefect_server: None) -> Iterator[Open]:
    """A studio with a Prefect server and no worker: jobs stay queued."""
    deploy()
    with ExitStack() as stack:
        yield opener(stack, settings, tmp_path)


def open_first_result(page: Page) -> Locator:
    """Open the newest result, and wait for the tiles of both layers."""
    page.goto("/results")
    page.get_by_role("listitem").first.get_by_role("link").click()
    viewer = page.locator("[data-viewer]")
    for layer in ("first", "second"):
        picture = viewer.locator(f"[data-layer={layer}] img").first
        expect(picture).to_have_js_property("complete", True)
        assert picture.evaluate("image => image.naturalWidth") > 0
    return viewer


def test_the_viewer_zooms_flips_and_moves_both_layers(studio: Open, visit: Visit) -> None:
    client = studio()
    enhance(client)
    page = visit(client)
    viewer = open_first_result(page)
    page.get_by_role("button", name="400 %").click()
    expect(page.locator("[data-scale]")).to_have_text("400 %")
    boxes = [
        viewer.locator(f"[data-layer={layer}] img").first.bounding_box() for layer in ("first", "second")
    ]
    assert boxes[0] == boxes[1], "both layers show the same place"
    viewer.hover(position={"x": 60, "y": 60})
    page.mouse.wheel(0, 300)
    expect(page.locator("[data-scale]")).not_to_have_text("400 %")
    before = viewer.locator("[data-layer=second] img").first.bounding_box()
    page.mouse.down()
    page.mouse.move(300, 300, steps=4)
    page.mouse.up()
    assert viewer.locator("[data-layer=second] img").first.bounding_box() != before
    page.keyboard.press("Space")
    expect(viewer.locator("img-comparison-slider")).to_have_js_property("value", 0)
    page.keyboard.press("Space")
    expect(viewer.locator("img-comparison-slider")).to_have_js_property("value", 100)


def test_arrows_lead_to_the_neighbours(studio: Open, visit: Visit) -> None:
    client = studio()
    for number in (1, 2):
        enhance(client, number, f"page-{number}.png")
    page = visit(client)
    open_first_result(page)
    expect(page.get_by_role("heading", level=1)).to_have_text("page-2.png")
    page.keyboard.press("ArrowRight")
    expect(page.get_by_role("heading", level=1)).to_have_text("page-1.png")
    page.keyboard.press("ArrowLeft")
    expect(page.get_by_role("heading", level=1)).to_have_text("page-2.png")


def test_a_hostile_file_name_is_text(studio: Open, visit: Visit) -> None:
    client = studio()
    enhance(client, name=HOSTILE)
    page = visit(client)
    open_first_result(page)
    expect(page.get_by_role("heading", level=1)).to_contain_text("onerror=alert(1)")
    assert page.locator("img[src=x]").count() == 0


def test_results_are_filtered_without_scripts(studio: Open, visit: Visit) -> None:
    client = studio()
    enhance(client, 1, "first.png", comic_id="comic-a")
    enhance(client, 2, "second.png", comic_id="comic-b")
    page = visit(client, java_script_enabled=False)
    page.goto("/results")
    expect(page.get_by_role("listitem")).to_have_count(2)
    page.get_by_label("Comic").select_option("comic-b")
    page.get_by_role("button", name="Filter").click()
    expect(page.get_by_role("listitem")).to_have_count(1)
    expect(page.get_by_role("listitem")).to_contain_text("second.png")
    page.get_by_label("Search").fill("first")
    page.get_by_role("button", name="Filter").click()
    expect(page.get_by_text("No page matches")).to_be_visible()


def test_a_file_is_added_followed_and_cancelled(
    studio_with_prefect: Open, visit: Visit, tmp_path: Path
) -> None:
    files = [tmp_path / name for name in ("one.png", "two.png")]
    for seed, file in enumerate(files, start=21):
        file.write_bytes(page_file(seed))
    client = studio_with_prefect()
    page = visit(client)
    page.goto("/")
    page.get_by_label("Pages").set_input_files(files)
    page.get_by_role("button", name="Add pages").click()
    expect(page.get_by_text("2 pages added.")).to_be_visible(timeout=PREFECT_MILLISECONDS)
    expect(page.get_by_label("Pages")).to_have_value("")
    rows = page.locator("#queue .row")
    expect(rows).to_have_count(2, timeout=PREFECT_MILLISECONDS)
    page.get_by_role("button", name="Cancel one").click()
    expect(rows).to_have_count(1, timeout=PREFECT_MILLISECONDS)
    expect(rows).to_contain_text("two")


def test_a_page_shows_its_preview_before_it_is_enhanced(
    studio_with_prefect: Open, visit: Visit, settings: Settings
) -> None:
    client = studio_with_prefect()
    page = visit(client)
    page.goto("/")
    job_id = client.post("/api/enhancement/process", files={"file": ("one.png", page_file(23))}).json()[
        "job_id"
    ]
    expect(page.locator("#queue .row")).to_have_count(1, timeout=PREFECT_MILLISECONDS)
    expect(page.locator("#queue .thumb img")).to_have_count(0)
    view = make_early_view(drawn())
    stored = Engine(settings).store.put(view.preview, "image/webp", view.size)
    event = {
        "id": str(uuid.uuid4()),
        "occurred": datetime.now(UTC).isoformat(),
        "event": PREVIEWED,
        "resource": {"prefect.resource.id": f"comic.job.{job_id}"},
        "payload": {
            "job_id": job_id,
            "owner": None,
            "flow_run_id": str(uuid.uuid4()),
            "width": 160,
            "height": 200,
            "placeholder": view.placeholder.model_dump(),
            "preview": stored.model_dump(mode="json"),
        },
    }
    request_api("POST", "/events", [event])
    shown = page.locator("#queue .thumb img")
    expect(shown).to_have_js_property("naturalWidth", view.size[0], timeout=PREFECT_MILLISECONDS)
    status = client.get(f"/api/enhancement/status/{job_id}").json()
    assert status["placeholder"] == view.placeholder.model_dump()
    assert client.get(status["preview_url"]).content == view.preview


def test_an_archive_is_added_as_a_batch(studio: Open) -> None:
    client = studio()
    token = re.search(r'name="form_token" value="([^"]*)"', client.get("/").text)
    fields = {"form_token": token[1] if token else "", "source": "", "preset": "comic-page", "scale": ""}
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("a.png", page_file(23))
        file.writestr("<b>.png", b"text")
    files = {"files": ("pages.zip", archive.getvalue())}
    added = client.post("/studio/add", data=fields, files=files, headers={"hx-request": "true"}).text
    assert "1 page added." in added and "&lt;b&gt;.png: " in added
    (batch,) = client.get("/api/batches").json()["batches"]
    assert batch["counts"]["total"] == 2


def test_a_form_without_a_page_explains_itself(studio: Open, visit: Visit) -> None:
    page = visit(studio(), java_script_enabled=False)
    page.goto("/")
    page.get_by_role("button", name="Add pages").click()
    expect(page.get_by_role("alert").first).to_contain_text("Choose at least one file")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("phone", [False, True], ids=["desktop", "phone"])
def test_pages_are_accessible_and_fit_the_screen(
    scheme: str, phone: bool, studio: Open, visit: Visit
) -> None:
    client = studio()
    enhance(client, name="a-very-long-file-name-of-a-page-that-somebody-scanned-in-1946-part-1.png")
    page = visit(client, color_scheme=scheme, **(PHONE if phone else {}))
    viewer = open_first_result(page)
    assert viewer.is_visible()
    paths = [page.url, "/", "/results", "/results?text=nothing", "/system", "/pages/unknown"]
    for path in paths:
        page.goto(path)
        page.wait_for_load_state("load")
        violations = Axe().run(page).response["violations"]
        assert [(one["id"], [node["html"] for node in one["nodes"]]) for one in violations] == [], path
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), (
            f"{path} is wider than the screen"
        )


def test_a_check_that_failed_is_listed_and_its_region_marked(
    studio: Open, visit: Visit, tmp_path: Path
) -> None:
    garbage = random_compact(tmp_path / "garbage.safetensors", strength=3.0, seed=5)
    client = studio(model_path=(garbage,))
    enhance(client)
    page = visit(client)
    viewer = open_first_result(page)
    expect(page.get_by_role("heading", name="Checks of the first result")).to_be_visible()
    expect(page.get_by_role("row").filter(has_text="(marked)").first).to_be_visible()
    mark, picture = viewer.locator(".region").first.bounding_box(), viewer.bounding_box()
    assert mark and picture
    assert picture["x"] <= mark["x"] and mark["x"] + mark["width"] <= picture["x"] + picture["width"] + 1


def test_artifacts_are_listed_and_marked(studio: Open, visit: Visit) -> None:
    client = studio()
    picture = file_of(Image.fromarray(as_jpeg(painted_page(), 10)))
    answer = client.post(
        "/api/pages", files={"image": ("page.png", picture)}, data={"options": '{"detect": "report"}'}
    )
    assert answer.is_success, answer.text
    page = visit(client)
    viewer = open_first_result(page)
    expect(page.get_by_role("list", name="Artifacts in parts of the page")).to_contain_text("JPEG blocks, ")
    mark = viewer.locator(".region.artifact").first
    expect(mark).to_be_visible()
    page.get_by_label("Mark them on the picture").uncheck()
    expect(mark).to_be_hidden()
    assert Axe().run(page).response["violations"] == []


def test_the_system_shows_pages_and_cost_of_the_day(studio: Open, visit: Visit) -> None:
    client = studio(gpu_price_per_hour=3600.0, budget_per_day=50.0)
    enhance(client)
    page = visit(client)
    page.goto("/system")
    day = page.locator("section", has=page.get_by_role("heading", name="Today"))
    expect(day).to_contain_text("1 page")
    expect(day).to_contain_text("50.00 US dollars")
    (row,) = client.get("/api/results").json()["results"]
    expect(day).to_contain_text(f"{row['cost']:.4f} US dollars")


@pytest.mark.parametrize("zoom", ["Fit", "100 %", "400 %"])
def test_of_a_large_page_only_what_is_visible_is_loaded(zoom: str, studio: Open, visit: Visit) -> None:
    """A page of 184 megapixels would fill the memory of the browser."""
    client = studio()
    data = file_of(Image.new("RGB", (3000, 4200), "white"))
    form = {"scale": "1", "quality_threshold": "0", "technical_threshold": "0"}
    answer = client.post("/api/pages", files={"image": ("large.png", data)}, data=form)
    assert answer.is_success, answer.text
    page = visit(client, viewport={"width": 1280, "height": 800})
    viewer = open_first_result(page)
    page.get_by_role("button", name=zoom, exact=True).click()
    box = viewer.bounding_box()
    assert box is not None
    visible = (box["width"] // TILE_PIXELS + 2) * (box["height"] // TILE_PIXELS + 2)
    assert 0 < viewer.locator("[data-layer=second] img").count() <= visible
    for _ in range(12):  # the picture cannot be dragged out of view
        viewer.hover(position={"x": box["width"] - 20, "y": box["height"] - 20})
        page.mouse.down()
        page.mouse.move(box["x"] + 10, box["y"] + 10)
        page.mouse.up()
    assert 0 < viewer.locator("[data-layer=second] img").count() <= visible
