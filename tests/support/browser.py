"""A real browser on the page of `diffedit serve`: Chromium, driven by Playwright."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

CHROMIUM = "/usr/bin/chromium"
"""The program of Debian's package `chromium`."""
PATIENCE = 90_000
"""Milliseconds to wait for what the page should show: machines that run several tests at once are slow."""
DESK = {"width": 1280, "height": 900}
PHONE = {"width": 360, "height": 740}


@contextmanager
def launched_browser() -> Iterator[Browser]:
    """Run Chromium while the context lasts."""
    expect.set_options(timeout=PATIENCE)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM,
            args=["--no-sandbox"],  # root has none, and the tests open no pages but ours
        )
        yield browser
        browser.close()


class Window:
    """A window of the browser with a storage of its own, and what goes wrong in its pages.

    Attributes:
        context: the window.
        problems: errors of scripts, and what the policy of the page has blocked.
    """

    def __init__(self, browser: Browser, url: str, **options: Any) -> None:
        self.context: BrowserContext = browser.new_context(**{"viewport": DESK, "base_url": url, **options})
        self.context.set_default_timeout(PATIENCE)
        self.problems: list[str] = []

    def open(self, path: str = "/") -> Page:
        """Open a page in a tab of its own."""
        page = self.context.new_page()
        page.on("pageerror", lambda error: self.problems.append(str(error)))
        page.on("console", lambda message: self._note(message.type, message.text))
        page.goto(path)
        return page

    def _note(self, kind: str, text: str) -> None:
        # Chromium itself reports answers with an error status, and a network that is lost: these are tests of them.
        if kind in ("error", "warning") and not text.startswith("Failed to load resource"):
            self.problems.append(text)


@contextmanager
def opened_window(browser: Browser, url: str, **options: Any) -> Iterator[Window]:
    """Open a window while the context lasts. Its pages must have no error at the end."""
    window = Window(browser, url, **options)
    try:
        yield window
    finally:
        window.context.close()
    assert window.problems == []


def pick_sample(page: Page, number: int) -> None:
    """Click one of the bundled pictures, and wait for the form."""
    page.locator(".sample").nth(number).click()
    expect(page.get_by_role("button", name="Edit the picture")).to_be_visible()


def set_steps(page: Page, steps: int) -> None:
    """Fill in the number of steps: few for a quick edit, many for one that lasts."""
    page.get_by_text("Options", exact=True).click()
    page.get_by_label("Steps").fill(str(steps))


def submit(page: Page) -> str:
    """Submit the form, wait until the edit is shown, and return its id."""
    before = page.url
    page.get_by_role("button", name="Edit the picture").click()
    page.wait_for_function("before => location.href !== before && location.hash.startsWith('#edit/')", arg=before)
    return page.url.rpartition("/")[2]


def heading(page: Page) -> Any:
    """Return the heading of the details: what the edit does now, or how it ended."""
    return page.locator("#details h1")
