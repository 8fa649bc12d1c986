"""The studio on loopback, and Debian's Chromium. A script's error or a refused resource fails the test."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Page,
    Response,
    expect,
    sync_playwright,
)
from prefect.settings import PREFECT_API_URL, temporary_settings

from panelworks.settings import Settings
from service.gateway.access import hash_of
from service.studio.app import create_studio
from tests.books import page_file
from tests.service.gateway.conftest import serving

expect.set_options(timeout=30_000)  # stacks and workers run beside these tests
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
IN_CONTAINERS = ["--no-sandbox", "--disable-dev-shm-usage"]
"""Root and containers cannot use its sandbox; the pages are ours."""
KEY = "pw_of-the-editor"
KEYS = (f"editor:{hash_of(KEY)}", f"reader:{hash_of('pw_of-a-reader')}")
Open = Callable[..., httpx.Client]


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """Chromium without a window. Its loop runs until the last test of this folder: `asyncio.run` fails meanwhile."""
    path = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    if path is None:
        pytest.fail("Chromium is missing: run 'make servers'")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=IN_CONTAINERS)
        yield chromium
        chromium.close()


@pytest.fixture
def studio(settings: Settings, tmp_path: Path) -> Iterator[Open]:
    """Opens a studio with some settings changed; gives a client of it. Its Prefect server is unavailable."""
    with ExitStack() as stack, temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}):
        yield opener(stack, settings, tmp_path)


def opener(stack: ExitStack, settings: Settings, tmp_path: Path) -> Open:
    def opened(**changes: Any) -> httpx.Client:
        chosen = {**settings.model_dump(), "out": str(tmp_path / "out"), **changes}
        address = stack.enter_context(serving(Settings.model_validate(chosen), create_studio))
        return stack.enter_context(httpx.Client(base_url=address, timeout=60))

    return opened


@pytest.fixture
def visit(browser: Browser) -> Iterator[Callable[..., Page]]:
    """Opens a browser window of its own: `visit(client)`; options are those of Playwright's context.

    `ignore_problems` is for a test of an answer that a script receives and that is an error.
    """
    contexts: list[BrowserContext] = []
    problems: list[str] = []

    def note(message: ConsoleMessage) -> None:
        if message.type == "error" and not message.text.startswith("Failed to load resource"):
            problems.append(message.text)

    def note_missing(response: Response) -> None:
        """A page may be an error that a test is about; what it loads may not."""
        if response.status >= 400 and response.request.resource_type != "document":
            problems.append(f"{response.status} {response.url}")

    def opened(client: httpx.Client, *, ignore_problems: bool = False, **options: Any) -> Page:
        context = browser.new_context(base_url=str(client.base_url), **options)
        contexts.append(context)
        page = context.new_page()
        if ignore_problems:
            return page
        page.on("console", note)
        page.on("response", note_missing)
        page.on("pageerror", lambda error: problems.append(str(error)))
        return page

    yield opened
    for context in contexts:
        context.close()
    assert problems == []


def enhance(client: httpx.Client, seed: int = 1, name: str = "page.png", **form: str) -> None:
    """Have a page enhanced, with the editor's key."""
    files = {"image": (name, page_file(seed))}
    answer = client.post("/api/pages", files=files, data=form, headers={"X-API-Key": KEY})
    assert answer.is_success, answer.text


def sign_in(page: Page, key: str = KEY) -> None:
    """Sign in on the login page."""
    page.goto("/login")
    page.get_by_label("API key").fill(key)
    page.get_by_role("button", name="Sign in").click()


def press(page: Page, key: str) -> None:
    """Press a key that decides: it works once the picture was seen."""
    page.locator("[data-layer] img[data-seen]").first.wait_for(state="attached")
    page.keyboard.press(key)
