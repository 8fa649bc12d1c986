"""Signing in, the headers of pages, the tokens of forms, and what other keys see."""

import hashlib
from collections.abc import Callable

import httpx
import pytest
from playwright.sync_api import Page, expect

from service.gateway.sessions import SESSION_COOKIE
from service.studio.callers import local_path
from service.studio.rendering import FOLDER
from tests.service.studio.conftest import KEY, KEYS, Open, enhance, sign_in

Visit = Callable[..., Page]


def test_a_page_leads_to_the_login_and_back(studio: Open, visit: Visit) -> None:
    client = studio(api_keys=KEYS)
    page = visit(client)
    page.goto("/results?text=nothing")
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    page.get_by_label("API key").fill(KEY)
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_text("No page matches")).to_be_visible()
    (cookie,) = page.context.cookies()
    assert (cookie["name"], cookie["httpOnly"], cookie["sameSite"]) == (SESSION_COOKIE, True, "Strict")
    assert KEY not in cookie["value"]
    page.get_by_role("button", name="Sign out").click()
    page.goto("/")
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()


def test_an_unknown_key_is_refused(studio: Open) -> None:
    client = studio(api_keys=KEYS)
    form = _login_form(client, "wrong")
    answer = client.post("/login", data=form)
    assert answer.status_code == 401
    assert "There is no such key." in answer.text


def test_attempts_to_sign_in_are_counted(studio: Open) -> None:
    client = studio(api_keys=KEYS, rate_limit="5/minute")
    form = _login_form(client, "wrong")
    statuses = [client.post("/login", data=form).status_code for _ in range(7)]
    assert statuses[-1] == 429


def test_every_page_forbids_foreign_content(studio: Open) -> None:
    client = studio()
    for path in ("/", "/results", "/system", "/studio/parts"):
        headers = client.get(path).headers
        policy = headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy and "unsafe" not in policy, path
        assert headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize("token", [None, "", "0" * 64])
def test_a_form_without_its_token_changes_nothing(token: str | None, studio: Open) -> None:
    client = studio(api_keys=KEYS)
    client.post("/login", data=_login_form(client, KEY))
    fields = {"other": "x"} if token is None else {"form_token": token}
    for path in ("/studio/add", "/studio/jobs/x/cancel", "/studio/jobs/x/retry", "/logout"):
        assert client.post(path, data=fields).status_code == 403, path
    assert client.get("/results").status_code == 200, "the session remains"


def test_a_key_sees_only_its_own_pages(studio: Open) -> None:
    client = studio(api_keys=KEYS)
    enhance(client)
    (row,) = client.get("/api/results", headers={"X-API-Key": KEY}).json()["results"]
    client.post("/login", data=_login_form(client, "pw_of-a-reader"))
    assert "No page was processed yet" in client.get("/results").text
    assert client.get(f"/pages/{row['job_id']}").status_code == 404
    assert client.get(f"/pages/{row['job_id']}?owner=editor").status_code == 404
    assert client.get(f"/api/results/{row['job_id']}/thumbnail?owner=editor").status_code == 404


@pytest.mark.parametrize(
    "wanted", ["https://evil.example", "//evil.example", "/\\evil.example", "javascript:x", "", "/a\nb"]
)
def test_the_login_leads_to_no_other_site(wanted: str) -> None:
    assert local_path(wanted) == "/"


@pytest.mark.parametrize(
    "path", ["/pages/%2e%2e%2f%2e%2e%2fetc", "/pages/x'\"><script>", "/studio/static/../app.py"]
)
def test_a_path_of_an_attacker_finds_nothing(path: str, studio: Open) -> None:
    answer = studio().get(path)
    assert answer.status_code == 404
    assert "<script>" not in answer.text.replace('<script src="/studio', "")


def test_a_session_is_not_accepted_under_another_key(studio: Open, visit: Visit) -> None:
    client = studio(api_keys=KEYS)
    page = visit(client)
    sign_in(page)
    expect(page.get_by_role("heading", name="Queue")).to_be_visible()
    other = studio(api_keys=(KEYS[1],))
    session = page.context.cookies()[0]["value"]
    answer = other.get("/results", headers={"Cookie": f"{SESSION_COOKIE}={session}"})
    assert answer.status_code == 303


def _login_form(client: httpx.Client, key: str) -> dict[str, str]:
    """The fields of the login form, with the token of this client's session."""
    text = client.get("/login").text
    return {"key": key, "next": "/", "form_token": text.split('name="form_token" value="')[1].split('"')[0]}


def test_vendored_files_are_those_of_their_packages() -> None:
    """Each file in the folder is in the table, with its hash; licences accompany them."""
    folder = FOLDER / "static" / "vendor"
    table = (folder / "README.md").read_text()
    scripts = sorted(folder.glob("*.js"))
    assert scripts
    for script in scripts:
        digest = hashlib.sha256(script.read_bytes()).hexdigest()
        assert f"| {script.name} |" in table and digest in table, script.name
    assert {path.stem for path in folder.glob("*.LICENSE")} == {"htmx", "img-comparison-slider"}
