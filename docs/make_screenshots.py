"""Take the screenshots of the page in docs/images: real edits of the bundled model, in Chromium.

    python docs/make_screenshots.py      # a minute; needs Debian's packages chromium and fonts-inter

It starts the services, a worker and the server, and stops them.
"""

import io
import sys
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, Page, expect

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from diffedit_worker.local.stack import LocalServices  # noqa: E402
from tests.support.browser import DESK, PHONE, heading, launched_browser, opened_window, pick_sample, submit  # noqa: E402
from tests.support.services import client_of  # noqa: E402
from tests.support.waiting import until  # noqa: E402
from tests.support.web_server import served_process  # noqa: E402

IMAGES = ROOT / "docs" / "images"
SHARP = {"device_scale_factor": 1.5}
OTHERS = (2, 0, 1, 5)
"""Samples that are edited first, so that there is a history."""
MAIN = 8
"""The sample in the pictures: a bowl of fruits becomes a bowl of pears."""


def main() -> None:
    folder = Path(tempfile.mkdtemp())
    with LocalServices(folder / "stack") as stack:
        stack.start_worker()
        client = client_of(stack)
        until(lambda: client.health().ok, "a ready worker", timeout=240)
        with served_process(stack.environment, folder, "--open") as server, launched_browser() as browser:
            take(browser, server.url)


def take(browser: Browser, url: str) -> None:
    with opened_window(browser, url, viewport=DESK, **SHARP) as window:
        page = window.open()
        expect(page.locator(".sample").first).to_be_visible()
        for number in (*OTHERS, MAIN):
            page.get_by_role("link", name="New edit").click()
            edited = edit(page, number)
        shoot(page, "page.png")
        page.get_by_role("link", name="New edit").click()
        pick_sample(page, MAIN)
        set_seed(page)
        page.get_by_role("button", name="Find it now").click()
        expect(page.locator("#mask-state")).to_contain_text("has found the striped part")
        shoot(page, "page-mask.webp")
    with opened_window(browser, url, viewport=DESK, color_scheme="dark", **SHARP) as window:
        page = window.open(f"/#edit/{edited}")
        expect(page.get_by_label("Slide between before and after")).to_be_visible()
        shoot(page, "page-dark.webp")
    phone = {"viewport": PHONE, "is_mobile": True, "has_touch": True, **SHARP}
    with opened_window(browser, url, **phone) as window:
        page = window.open(f"/#edit/{edited}")
        expect(page.get_by_label("Slide between before and after")).to_be_visible()
        shoot(page, "page-phone.webp", whole=False)


def edit(page: Page, sample: int) -> str:
    pick_sample(page, sample)
    set_seed(page)
    edited = submit(page)
    expect(heading(page)).to_have_text("Done")
    expect(page.get_by_label("Slide between before and after")).to_be_visible()
    return edited


def set_seed(page: Page) -> None:
    """Choose the seed, so that the pictures can be made again."""
    page.get_by_text("Options", exact=True).click()
    page.get_by_label("Seed").fill("0")
    page.get_by_text("Options", exact=True).click()


def shoot(page: Page, name: str, whole: bool = True) -> None:
    page.wait_for_load_state("networkidle")
    page.evaluate("document.activeElement.blur()")
    page.wait_for_timeout(800)  # transitions
    picture = Image.open(io.BytesIO(page.screenshot(full_page=whole)))
    picture.convert("RGB").save(IMAGES / name, optimize=True, quality=92)


if __name__ == "__main__":
    main()
