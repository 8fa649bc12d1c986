"""Comparing settings on one page: the form, the panes with linked zoom, and the choice of one result."""

from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from service.gateway import result_index
from tests.service.studio.conftest import KEY, Open, enhance, press

Visit = Callable[..., Page]


@pytest.fixture(autouse=True)
def fresh_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lists read the ledger at each request."""
    monkeypatch.setattr(result_index, "REFRESH_SECONDS", 0.0)


def known_results(client: httpx.Client, **form: str) -> str:
    """Compute a page with two networks, as there is no worker; returns the job of a third result of the page.

    `form` are further fields of the third.
    """
    for model in ("panelworks-2x", "lanczos"):
        enhance(client, name="same.png", model=model, scale="2", review="always")
    enhance(client, 1, "same.png", scale="1.5", **form)
    return str(client.get("/api/results", headers={"X-API-Key": KEY}).json()["results"][0]["job_id"])


def compare(page: Page, job_id: str) -> None:
    page.goto(f"/pages/{job_id}")
    page.keyboard.press("c")
    for number, model in enumerate(("panelworks-2x", "lanczos")):
        page.get_by_label("Network").nth(number).select_option(model)
        page.get_by_label("Scale").nth(number).select_option("2")
    page.get_by_role("button", name="Compare").click()
    expect(page.locator("[data-layer] img")).to_have_count(2)


def test_two_networks_are_compared_and_one_is_published(studio: Open, visit: Visit, tmp_path: Path) -> None:
    client = studio()
    job_id = known_results(client)
    published = set((tmp_path / "out").glob("upscaled/*"))
    page = visit(client)
    compare(page, job_id)
    page.get_by_role("button", name="400 %").click()
    pane = page.locator("[data-layer='2']")
    pane.hover(position={"x": 50, "y": 60})
    page.mouse.wheel(0, 300)
    places = [
        page.locator(f"[data-layer='{number}'] img").first.evaluate("image => image.style.cssText")
        for number in (1, 2)
    ]
    assert places[0] == places[1], "zoom and position are linked"
    page.mouse.down()
    page.mouse.move(700, 400, steps=3)
    page.mouse.up()
    assert page.locator("[data-layer='1'] img").first.evaluate("image => image.style.cssText") != places[0]
    compared = page.url
    press(page, "2")
    expect(page.get_by_text("same.png approved and published.")).to_be_visible()
    assert len(set((tmp_path / "out").glob("upscaled/*")) - published) == 1
    states = {
        row["model"]: row["review"]
        for row in client.get("/api/results").json()["results"]
        if row["job_id"] != job_id
    }
    assert states == {"lanczos": "approved", "panelworks-2x": "rejected"}
    page.goto(compared)
    expect(page.get_by_text("rejected", exact=True)).to_be_visible()
    expect(page.get_by_role("button", name="Use this result")).to_have_count(0)


@pytest.mark.parametrize("count", [0, 1])
def test_too_few_settings_are_refused(count: int, studio: Open, visit: Visit) -> None:
    client = studio()
    enhance(client)
    job_id = client.get("/api/results").json()["results"][0]["job_id"]
    page = visit(client, ignore_problems=True)
    page.goto(f"/pages/{job_id}/compare")
    for number in range(count, 4):
        page.get_by_label("Network").nth(number).select_option("")
    page.get_by_role("button", name="Compare").click()
    expect(page.get_by_role("alert")).to_contain_text("Choose 2 to 4 different settings.")


def test_a_result_that_is_not_there_yet_shows_its_state(studio: Open, visit: Visit) -> None:
    """Prefect is unavailable: the jobs were accepted and wait."""
    client = studio()
    enhance(client)
    job_id = client.get("/api/results").json()["results"][0]["job_id"]
    page = visit(client)
    page.goto(f"/pages/{job_id}/compare")
    page.get_by_label("Network").nth(0).select_option("panelworks-2x")
    page.get_by_label("Network").nth(1).select_option("lanczos")
    page.get_by_role("button", name="Compare").click()
    expect(page.get_by_text("The results are being computed.")).to_be_visible()
    expect(page.get_by_role("heading", name="2: lanczos")).to_be_visible()


@pytest.mark.parametrize("width", [1280, 380])
def test_the_comparison_is_accessible(width: int, studio: Open, visit: Visit) -> None:
    client = studio()
    job_id = known_results(client)
    for scheme in ("light", "dark"):
        page = visit(client, color_scheme=scheme, viewport={"width": width, "height": 800})
        compare(page, job_id)
        for path in (page.url, f"/pages/{job_id}/compare"):
            page.goto(path)
            page.wait_for_load_state("load")
            violations = Axe().run(page).response["violations"]
            assert [(one["id"], [node["html"] for node in one["nodes"]]) for one in violations] == [], path
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), path
