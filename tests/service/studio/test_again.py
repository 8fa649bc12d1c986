"""Processing a page again: the form of the options, the preview, and the choice between two results."""

from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from panelworks.domain.options import EnhanceOptions
from service.gateway import result_index
from service.studio.forms import option_fields
from tests.service.studio.conftest import KEY, Open, enhance, press

Visit = Callable[..., Page]


@pytest.fixture(autouse=True)
def fresh_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lists read the ledger at each request."""
    monkeypatch.setattr(result_index, "REFRESH_SECONDS", 0.0)


def newest_job(client: httpx.Client) -> str:
    return str(client.get("/api/results", headers={"X-API-Key": KEY}).json()["results"][0]["job_id"])


def test_the_form_has_every_option_with_its_description() -> None:
    fields = {
        field.name: field for field in option_fields(EnhanceOptions(scale=2, face=True), without=("review",))
    }
    assert set(fields) == set(EnhanceOptions.model_fields) - {"review"}
    for name, field in fields.items():
        assert field.description == EnhanceOptions.model_fields[name].description
    kinds = {name: field.kind for name, field in fields.items()}
    assert kinds["preset"] == kinds["model"] == kinds["fix_artifacts"] == "choice"
    assert (kinds["face"], kinds["denoise"], kinds["scale"], kinds["rules"]) == (
        "switch",
        "number",
        "text",
        "json",
    )
    assert (fields["denoise"].minimum, fields["denoise"].maximum, fields["denoise"].step) == (0, 1, 0.05)
    assert (fields["scale"].value, fields["face"].value) == (2, True)


def test_a_part_is_previewed_with_other_options(studio: Open, visit: Visit) -> None:
    client = studio()
    enhance(client)
    page = visit(client)
    page.goto(f"/pages/{newest_job(client)}")
    page.keyboard.press("e")
    page.get_by_label("Scale", exact=True).fill("2")
    page.get_by_label("Network").select_option("lanczos")
    page.get_by_role("button", name="Preview").click()
    pictures = page.locator("#preview img")
    expect(pictures).to_have_count(2)
    expect(page.locator("#preview")).to_contain_text("lanczos: resize. 192 × 256 px")
    for picture in pictures.all():
        expect(picture).to_have_js_property("complete", True)
        assert picture.evaluate("image => image.naturalWidth") > 0
    expect(page.get_by_role("button", name="Preview")).to_be_enabled()
    page.locator("[data-pick]").click(position={"x": 5, "y": 5})
    expect(page.get_by_label("Left of the part")).to_have_value("0")


def test_an_option_that_cannot_be_used_is_explained(studio: Open, visit: Visit) -> None:
    client = studio()
    enhance(client)
    page = visit(client, ignore_problems=True)
    page.goto(f"/pages/{newest_job(client)}/again")
    page.get_by_label("Scale", exact=True).fill("9")
    page.get_by_role("button", name="Preview").click()
    expect(page.get_by_role("alert")).to_contain_text("it must be 'auto' or a number from 1 to 4")
    page.get_by_role("button", name="Process the whole page").click()
    expect(page.get_by_role("alert")).to_contain_text("it must be 'auto' or a number from 1 to 4")
    expect(page.get_by_label("Scale", exact=True)).to_have_value("9")


@pytest.mark.parametrize("keep", ["new", "earlier"])
def test_both_results_are_compared_and_one_is_kept(
    keep: str, studio: Open, visit: Visit, tmp_path: Path
) -> None:
    """The new result is computed in this process: there is no worker."""
    client = studio()
    enhance(client, name="same.png")
    first = newest_job(client)
    enhance(client, name="same.png", model="lanczos", scale="2", review="always")
    second = newest_job(client)
    page = visit(client)
    page.goto(f"/pages/{first}/against?other={second}")
    for layer in ("first", "second"):
        picture = page.locator(f"[data-layer={layer}] img").first
        expect(picture).to_have_js_property("complete", True)
        assert picture.evaluate("image => image.naturalWidth") > 0
    press(page, "a" if keep == "new" else "r")
    found = "same.png approved and published." if keep == "new" else "The new result was discarded"
    expect(page.get_by_text(found)).to_be_visible()
    masters = {path.name for path in (tmp_path / "out").glob("upscaled/*.png")}
    assert len(masters) == (2 if keep == "new" else 1)


def test_a_new_result_that_is_being_computed_is_followed(studio: Open, visit: Visit) -> None:
    """Prefect is unavailable: the job was accepted and waits."""
    client = studio()
    enhance(client)
    page = visit(client)
    page.goto(f"/pages/{newest_job(client)}/again")
    page.get_by_label("Network").select_option("lanczos")
    page.get_by_role("button", name="Process the whole page").click()
    expect(page.get_by_text("The page is being processed with the new options.")).to_be_visible()
    expect(page.locator(".state")).to_contain_text("queued")


def test_pages_of_the_choice_are_accessible_on_a_phone(studio: Open, visit: Visit) -> None:
    client = studio(review="always")
    enhance(client, name="same.png")
    first = newest_job(client)
    enhance(client, name="same.png", model="lanczos")
    second = newest_job(client)
    for scheme in ("light", "dark"):
        page = visit(client, color_scheme=scheme, viewport={"width": 380, "height": 800})
        for path in (
            f"/pages/{first}",
            f"/pages/{first}/again",
            f"/pages/{first}/against?other={second}",
            "/results?review=pending",
        ):
            page.goto(path)
            page.wait_for_load_state("load")
            violations = Axe().run(page).response["violations"]
            assert [(one["id"], [node["html"] for node in one["nodes"]]) for one in violations] == [], path
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), path


@pytest.mark.parametrize("path", ["/pages/unknown/again", "/pages/unknown/against?other=x"])
def test_unknown_pages_are_explained(path: str, studio: Open, visit: Visit) -> None:
    page = visit(studio())
    page.goto(path)
    expect(page.get_by_role("alert")).to_have_text("There is no such job.")
