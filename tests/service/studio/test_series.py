"""Rules of series in the studio: chosen with a result of a comparison, followed by the next pages, and removed."""

from collections.abc import Callable
from typing import Any

import httpx
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from service.gateway import result_index
from service.gateway.access import hash_of
from tests.service.studio.conftest import KEY, KEYS, Open, enhance, sign_in
from tests.service.studio.test_compare import known_results

Visit = Callable[..., Page]
SERIES = "akira <1> & 'so on'"


@pytest.fixture(autouse=True)
def fresh_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lists read the ledger at each request."""
    monkeypatch.setattr(result_index, "REFRESH_SECONDS", 0.0)


def newest(client: httpx.Client) -> dict[str, Any]:
    row: dict[str, Any] = client.get("/api/results").json()["results"][0]
    return row


def rules(client: httpx.Client, key: str = "") -> list[tuple[str, dict[str, Any]]]:
    found = client.get("/api/series", headers={"X-API-Key": key} if key else {}).json()["rules"]
    return [(rule["series"], rule["treatment"]) for rule in found]


def set_rule(client: httpx.Client, key: str = "", **treatment: Any) -> None:
    headers = {"X-API-Key": key} if key else {}
    assert client.put("/api/series/akira", json=treatment, headers=headers).is_success


def compare(
    page: Page, job_id: str, models: tuple[str, str] = ("panelworks-2x", "lanczos"), owner: str = ""
) -> None:
    page.goto(f"/pages/{job_id}/compare?owner={owner}")
    for number, model in enumerate(models):
        page.get_by_label("Network").nth(number).select_option(model)
        page.get_by_label("Scale").nth(number).select_option("2")
    page.get_by_role("button", name="Compare").click()
    expect(page.get_by_role("button", name="Use this result")).to_have_count(2)


def choose(page: Page, number: int) -> None:
    page.get_by_label("Use these settings for the series").check()
    page.get_by_role("button", name=f"Use this result ({number})").click()
    expect(page.get_by_text("The next pages of its series get the same settings.")).to_be_visible()


@pytest.mark.parametrize("scripts", [True, False], ids=["scripts", "no scripts"])
def test_a_result_is_used_for_its_series_until_the_rule_is_removed(
    scripts: bool, studio: Open, visit: Visit
) -> None:
    client = studio()
    job_id = known_results(client, comic_id=SERIES)
    page = visit(client, java_script_enabled=scripts)
    compare(page, job_id)
    choose(page, 2)
    assert rules(client) == [(SERIES, {"scale": 2.0, "model": "lanczos"})]

    enhance(client, 2, "next.png", comic_id=SERIES.upper())
    follower = newest(client)
    assert follower["model"] == "lanczos"
    page.goto(f"/pages/{follower['job_id']}")
    expect(page.locator(".facts")).to_contain_text("scale 2, model lanczos")
    page.get_by_role("link", name="rules of series").click()
    expect(page.locator(".row")).to_contain_text(SERIES)
    page.get_by_role("link", name="on this page").click()
    expect(page).to_have_url(f"{client.base_url}/pages/{job_id}?owner=")
    page.goto("/system")
    page.get_by_role("link", name="Rules of series").click()
    page.get_by_role("button", name=f"Remove the rule of {SERIES}").click()
    expect(page.get_by_text("The rule was removed")).to_be_visible()
    expect(page.get_by_text("No series has settings of its own.")).to_be_visible()

    enhance(client, 3, "last.png", comic_id=SERIES)
    assert newest(client)["model"] == "panelworks-2x"


def test_a_result_without_the_checkbox_changes_no_rule(studio: Open, visit: Visit) -> None:
    client = studio()
    job_id = known_results(client, comic_id="akira")
    page = visit(client)
    compare(page, job_id)
    page.get_by_role("button", name="Use this result (1)").click()
    expect(page.get_by_text("same.png approved and published.")).to_be_visible()
    assert rules(client) == []


def test_a_page_without_a_series_offers_no_rule(studio: Open, visit: Visit) -> None:
    client = studio()
    page = visit(client)
    compare(page, known_results(client))
    expect(page.get_by_role("button", name="Use this result (1)")).to_be_visible()
    expect(page.get_by_label("Use these settings for the series")).to_have_count(0)


def test_a_setting_of_a_comparison_is_what_its_label_says(studio: Open, visit: Visit) -> None:
    """`auto` is the automatic choice, also where the series has a network; choosing it removes the network of the rule."""
    client = studio()
    job_id = known_results(client, comic_id="akira")
    set_rule(client, model="lanczos", gray="auto")
    for model in ("auto", "lanczos"):
        enhance(client, name="same.png", model=model, scale="2", gray="auto", review="always")
    page = visit(client)
    compare(page, job_id, ("auto", "lanczos"))
    expect(page.get_by_role("heading", name="1: auto, scale 2 (panelworks-2x)")).to_be_visible()
    choose(page, 1)
    assert rules(client) == [("akira", {"scale": 2.0, "gray": "auto"})]


def test_the_form_of_a_page_shows_what_its_series_states(studio: Open, visit: Visit) -> None:
    client = studio()
    job_id = known_results(client, comic_id="akira")
    page = visit(client)
    page.goto(f"/pages/{job_id}/again")
    expect(page.get_by_label("Network")).to_have_value("auto")
    set_rule(client, model="lanczos", scale=3)
    page.reload()
    expect(page.get_by_label("Network")).to_have_value("lanczos")
    expect(page.get_by_label("Scale", exact=True)).to_have_value("1.5")  # its request states it
    expect(page.get_by_label("Ignore series rule")).to_be_checked()
    page.get_by_label("Network").select_option("auto")
    page.get_by_role("button", name="Preview").click()
    expect(page.locator("#preview")).to_contain_text("panelworks-2x")


def test_a_key_sees_and_removes_its_own_rules(studio: Open, visit: Visit) -> None:
    client = studio(api_keys=KEYS)
    set_rule(client, KEY, scale=3)
    set_rule(client, "pw_of-a-reader", scale=2)
    page = visit(client)
    sign_in(page)
    page.goto("/series")
    expect(page.locator(".row")).to_have_count(1)
    expect(page.locator(".row")).to_contain_text("scale 3 · set by editor")
    page.get_by_role("button", name="Remove the rule of akira").click()
    expect(page.get_by_text("No series has settings of its own.")).to_be_visible()
    assert rules(client, "pw_of-a-reader") == [("akira", {"scale": 2.0})]
    refused = page.request.post("/studio/series/remove", form={"series": "akira", "owner": "reader"})
    assert refused.status == 403, "it has no token"


def test_an_admin_key_sets_the_rule_of_the_key_whose_page_it_is(studio: Open, visit: Visit) -> None:
    client = studio(api_keys=(*KEYS, f"root:{hash_of('pw_root')}:admin"))
    job_id = known_results(client, comic_id="akira")
    page = visit(client)
    sign_in(page, "pw_root")
    compare(page, job_id, owner="editor")
    choose(page, 2)
    assert rules(client, KEY) == [("akira", {"scale": 2.0, "model": "lanczos"})]
    page.goto("/series")
    expect(page.locator(".row")).to_contain_text("set by root")
    page.get_by_role("button", name="Remove the rule of akira").click()
    expect(page.get_by_text("No series has settings of its own.")).to_be_visible()
    assert rules(client, KEY) == []


@pytest.mark.parametrize("width", [1280, 380])
def test_the_rules_are_accessible_and_fit_the_screen(width: int, studio: Open, visit: Visit) -> None:
    client = studio()
    job_id = known_results(client, comic_id="akira")
    for scheme in ("light", "dark"):
        client.delete("/api/series/akira")
        page = visit(client, color_scheme=scheme, viewport={"width": width, "height": 800})
        compare(page, job_id)
        check(page)
        page.goto("/series")
        check(page)
        set_rule(client, scale=3, fix_artifacts="on", descreen="auto", denoise=0.5, levels=0.25)
        page.reload()
        expect(page.locator(".row")).to_have_count(1)
        check(page)


def check(page: Page) -> None:
    """The page has no violations of accessibility rules and no horizontal scroll bar."""
    page.wait_for_load_state("load")
    violations = Axe().run(page).response["violations"]
    assert [(one["id"], [node["html"] for node in one["nodes"]]) for one in violations] == [], page.url
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), page.url
