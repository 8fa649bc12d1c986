"""Reviewing in a browser: by keyboard, several at once, without scripts, and errors where a person reads them."""

from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from service.gateway import result_index
from service.studio.rendering import FOLDER
from tests.service.studio.conftest import KEYS, Open, enhance, press, sign_in

Visit = Callable[..., Page]


@pytest.fixture(autouse=True)
def fresh_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lists read the ledger at each request."""
    monkeypatch.setattr(result_index, "REFRESH_SECONDS", 0.0)


def published(folder: Path) -> set[str]:
    """The folders of masters that were published."""
    return {path.parent.name for path in (folder / "out").glob("*/*-*.png")} - {"review"}


def test_pages_are_reviewed_by_keyboard_until_none_is_left(
    studio: Open, visit: Visit, tmp_path: Path
) -> None:
    client = studio(review="always")
    for number in (1, 2):
        enhance(client, number, f"page-{number}.png")
    page = visit(client)
    page.goto("/results")
    page.get_by_role("link", name="Review 2 waiting").click()
    page.get_by_role("link", name="page-2.png").click()
    expect(page.get_by_role("heading", name="Needs review")).to_be_visible()
    press(page, "a")
    expect(page.get_by_text("page-2.png approved and published.")).to_be_visible()
    expect(page.get_by_role("heading", level=1)).to_have_text("page-1.png")
    page.get_by_label("Comment").fill("arrows r a")
    page.keyboard.press("Tab")
    press(page, "r")
    expect(page.get_by_text("page-1.png rejected; the original is published.")).to_be_visible()
    expect(page.get_by_role("heading", name="Rejected")).to_be_visible()
    expect(page.get_by_text("arrows r a")).to_be_visible()
    expect(page.get_by_role("link", name="Review", exact=True)).to_be_visible()
    assert published(tmp_path) == {"upscaled", "couldn't_upscale"}


def test_keys_in_a_field_decide_nothing(studio: Open, visit: Visit, tmp_path: Path) -> None:
    client = studio(review="always")
    enhance(client)
    page = visit(client)
    page.goto("/results?review=pending")
    page.get_by_role("link", name="page.png").click()
    page.get_by_label("Comment").press_sequentially("a real artist drew this")
    expect(page.get_by_role("heading", name="Needs review")).to_be_visible()
    assert published(tmp_path) == set()


def test_several_pages_are_approved_at_once_without_scripts(
    studio: Open, visit: Visit, tmp_path: Path
) -> None:
    client = studio(review="always")
    for number in (1, 2, 3):
        enhance(client, number, f"page-{number}.png")
    page = visit(client, java_script_enabled=False)
    page.goto("/results?review=pending")
    page.get_by_label("select page-1.png").check()
    page.get_by_label("select page-3.png").check()
    page.get_by_role("button", name="Approve selected").click()
    expect(page.get_by_text("2 pages approved and published.")).to_be_visible()
    expect(page.get_by_role("listitem")).to_have_count(1)
    expect(page.get_by_role("listitem")).to_contain_text("page-2.png")
    assert published(tmp_path) == {"upscaled"}
    page.get_by_role("button", name="Approve selected").click()
    expect(page.get_by_role("alert")).to_have_text("Select at least one page.")


def test_arrows_stay_among_the_pages_that_wait(studio: Open, visit: Visit) -> None:
    client = studio()
    for number, review in ((1, "always"), (2, "never"), (3, "always")):
        enhance(client, number, f"page-{number}.png", review=review)
    page = visit(client)
    page.goto("/results?review=pending")
    page.get_by_role("link", name="page-3.png").click()
    press(page, "ArrowRight")
    expect(page.get_by_role("heading", level=1)).to_have_text("page-1.png")


def test_a_page_that_somebody_else_decided_says_so(studio: Open, visit: Visit) -> None:
    client = studio(review="always")
    enhance(client)
    first, second = visit(client), visit(client, ignore_problems=True)
    for page in (first, second):
        page.goto("/results?review=pending")
        page.get_by_role("link", name="page.png").click()
    first.get_by_role("button", name="Approve (A)").click()
    expect(first.get_by_text("approved and published")).to_be_visible()
    with second.expect_response("**/decide?**") as answer:
        second.get_by_role("button", name="Reject").click()
    assert answer.value.status == 409
    expect(second.get_by_role("alert")).to_contain_text("approved this page on")


def test_a_key_reviews_only_its_own_pages(studio: Open, visit: Visit) -> None:
    client = studio(api_keys=KEYS, review="always")
    enhance(client)
    job_id = client.get("/api/results", headers={"X-API-Key": "pw_of-the-editor"}).json()["results"][0][
        "job_id"
    ]
    page = visit(client)
    sign_in(page, "pw_of-a-reader")
    page.goto("/results?review=pending")
    expect(page.get_by_text("No page waits for review.")).to_be_visible()
    page.goto(f"/pages/{job_id}")
    expect(page.get_by_role("alert")).to_have_text("There is no such job.")
    token = page.evaluate("document.body.dataset.token")
    answer = page.request.post(
        f"/studio/pages/{job_id}/decide", form={"verdict": "approve", "form_token": token}
    )
    assert answer.status == 404


@pytest.mark.parametrize(
    "path",
    ["/results?min_score=5", f"/results?text={'x' * 5000}", "/results?route=a&limit=0", "/pages/a?limit=x"],
)
def test_a_wrong_address_is_answered_with_a_page(path: str, studio: Open, visit: Visit) -> None:
    """Before, a wrong number gave the JSON of the API."""
    page = visit(studio())
    page.goto(path)
    expect(page.get_by_role("heading", name="This did not work")).to_be_visible()


def test_a_refused_button_says_why(studio: Open, visit: Visit) -> None:
    """Before, the answer of a refused Cancel or Retry was dropped."""
    page = visit(studio(), ignore_problems=True)
    page.goto("/")
    page.evaluate(
        "htmx.ajax('POST', '/studio/jobs/unknown/retry', {source: '#added', target: '#added', swap: 'none'})"
    )
    expect(page.get_by_role("alert").filter(has_text="There is no such job.")).to_be_visible()


def test_a_line_break_in_a_comment_decides_nothing(studio: Open, visit: Visit, tmp_path: Path) -> None:
    """Before, Enter in the comment approved the page."""
    client = studio(review="always")
    enhance(client)
    page = visit(client)
    page.goto("/results?review=pending")
    page.get_by_label("Comment").fill("bad lines")
    page.get_by_label("Comment").press("Enter")
    page.get_by_role("link", name="page.png").click()
    page.get_by_label("Comment").fill("bad lines")
    page.get_by_label("Comment").press("Enter")
    expect(page.get_by_role("heading", name="Needs review")).to_be_visible()
    assert published(tmp_path) == set()


def test_of_several_pages_those_that_were_decided_before_are_named(studio: Open, visit: Visit) -> None:
    client = studio(review="always")
    for number in (1, 2):
        enhance(client, number, f"page-{number}.png")
    first, second = visit(client), visit(client, ignore_problems=True)
    for page in (first, second):
        page.goto("/results?review=pending")
    first.get_by_label("select page-1.png").check()
    first.get_by_role("button", name="Reject selected").click()
    expect(first.get_by_text("1 page rejected; the original is published.")).to_be_visible()
    second.get_by_label("select all on this page").check()
    second.get_by_role("button", name="Approve selected").click()
    problem = second.get_by_role("alert")
    expect(problem).to_contain_text("1 of 2 pages were approved. page-1.png:")
    expect(problem).to_contain_text("rejected this page on")


@pytest.mark.parametrize("path", ["/nothing", "/studio/add", "/pages/a/b/c"])
def test_a_browser_gets_a_page_for_an_address_that_does_not_exist(
    path: str, studio: Open, visit: Visit
) -> None:
    """Before, it got the JSON of the API."""
    client = studio()
    page = visit(client)
    page.goto(path)
    expect(page.get_by_role("alert")).to_have_text("There is no such page.")
    assert client.get(path).json()["error"]["code"] in ("not_found", "method_not_allowed")


def test_a_long_comment_stays_in_its_place(studio: Open, visit: Visit) -> None:
    client = studio(review="always")
    enhance(client)
    page = visit(client, viewport={"width": 380, "height": 800})
    page.goto("/results?review=pending")
    page.get_by_role("link", name="page.png").click()
    page.get_by_label("Comment").fill("x" * 340)
    page.get_by_role("button", name="Approve (A)").click()
    expect(page.get_by_role("heading", name="Approved")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_every_template_is_used() -> None:
    """A template that no module names is clutter."""
    sources = "".join(
        path.read_text() for pattern in ("*.py", "templates/*.html") for path in FOLDER.glob(pattern)
    )
    unused = [path.name for path in (FOLDER / "templates").glob("*.html") if f'"{path.name}"' not in sources]
    assert unused == []
