"""The report of a batch, opened from the disk in Chromium: many rows, hostile texts, mouse and keyboard."""

from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, expect

from diffedit.batch.report import report_row, write_pages, write_report
from diffedit.batch.state import BatchState, Entry, Pictures
from tests.support.browser import PHONE, Window, opened_window

ROWS, FAILED = 500, 20
NASTY = "</script><img src=x onerror=alert(1)> & \"x\" '梨' \u2028"


def small(colour: tuple[int, int, int], size: tuple[int, int] = (320, 240)) -> bytes:
    buffer = BytesIO()
    Image.new("RGB", size, colour).save(buffer, "WEBP")
    return buffer.getvalue()


def entry(number: int) -> Entry:
    texts = {"texts": {"source_prompt": "a bowl of fruits", "target_prompt": f"wish {number} {NASTY}"}}
    scores = {"scores": {"mask": number / 1000, "change": 0.1}, "seconds": 1.5, "found": []}
    failed = number <= FAILED
    return Entry(
        digest="d",
        occurrence=1,
        position=number,
        name=f"shoes/{number:03}{NASTY if number == 30 else ''}.png",
        state="failed" if failed else "done",
        attempt=0,
        job=None,
        code="empty_mask" if failed else None,
        message=NASTY if failed else None,
        summary=texts if failed else texts | scores,
    )


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    def rows() -> Iterator[dict[str, object]]:
        for number in range(1, ROWS + 1):
            made = number > FAILED
            colours = [(200, number % 256, 60), (255, 255, 255), (60, number % 256, 200)]
            yield report_row(entry(number), Pictures(*map(small, colours)) if made else Pictures(), link=None)

    path = tmp_path_factory.mktemp("report") / "report.html"
    write_report(path, f"rows.csv {NASTY}", "500 rows", rows())
    return path


@pytest.fixture(params=["light", "dark"])
def window(browser: Browser, report: Path, request: pytest.FixtureRequest) -> Iterator[Window]:
    with opened_window(browser, report.as_uri(), color_scheme=request.param) as window:
        yield window


def opened(window: Window, report: Path) -> Page:
    page = window.open(report.as_uri())
    expect(page.locator("article").first).to_be_visible()
    return page


def test_rows_are_shown_filtered_sorted_and_compared(window: Window, report: Path) -> None:
    page = opened(window, report)
    articles, shown = page.locator("article"), page.locator("#shown")
    expect(articles).to_have_count(ROWS)
    expect(page.get_by_role("heading", level=1)).to_have_text(f"rows.csv {NASTY}".replace("\u2028", "\ufffd"))
    page.get_by_role("button", name=f"Failed {FAILED}").click()
    expect(shown).to_have_text(f"{FAILED} of {ROWS}")
    expect(articles.first.locator(".error")).to_contain_text("empty_mask: </script><img")
    page.get_by_role("button", name=f"Done {ROWS - FAILED}").click()
    page.get_by_label("Sort").select_option("Mask")
    page.get_by_role("button", name="Other way round").click()
    expect(articles.first.locator(".number")).to_have_text(str(ROWS))
    page.get_by_placeholder("Find").fill("wish 77 shoes/077")
    expect(shown).to_have_text(f"1 of {ROWS}")
    expect(articles.first.locator("img").first).to_have_js_property("naturalWidth", 320)
    articles.first.get_by_role("button").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_be_visible()
    dialog.get_by_role("slider").fill("20")
    before = dialog.locator(".before")
    assert before.evaluate("image => getComputedStyle(image).clipPath") == "inset(0px 80% 0px 0px)"
    dialog.get_by_label("Show the mask").check()
    expect(dialog.locator(".mask")).to_be_visible()


def test_it_is_used_with_the_keyboard_alone(window: Window, report: Path) -> None:
    page = opened(window, report)
    page.keyboard.press("/")
    page.keyboard.type("wish 10")
    expect(page.locator("#shown")).to_have_text(f"15 of {ROWS}")  # 10, 100 to 109, 110, 210, ...
    page.keyboard.press("Escape")
    for _ in range(3):
        page.keyboard.press("j")
    page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog")
    expect(dialog.locator("h2")).to_contain_text("shoes/101")
    page.keyboard.press("ArrowLeft")
    expect(dialog.get_by_role("slider")).to_have_value("49")
    page.keyboard.press("k")
    expect(dialog.locator("h2")).to_contain_text("shoes/100")
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    expect(page.locator("article:focus .number")).to_have_text("100")


def test_it_fits_a_phone(browser: Browser, report: Path) -> None:
    with opened_window(browser, report.as_uri(), viewport=PHONE) as window:
        page = opened(window, report)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_the_pages_of_many_rows_lead_to_each_other(browser: Browser, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    with BatchState(tmp_path / "batch.sqlite") as state:
        state.register((str(number), number, f"{number}.png") for number in range(1, 3011))
        for each in state.entries(first=2999):
            state.failed(each, None, "empty_mask", "the mask is empty", {})
        write_pages(path, "rows.csv", "3,010 rows", state, None)
    with opened_window(browser, path.as_uri(), viewport=PHONE) as window:
        page = opened(window, path)
        expect(page.locator("article")).to_have_count(1000)
        pages = page.get_by_role("navigation", name="Rows of the manifest").get_by_role("link")
        expect(pages).to_have_count(4)
        pages.filter(has_text="10 failed").click()
        expect(page.locator("article .number").first).to_have_text("3001")
        expect(page.locator("nav [aria-current]")).to_contain_text("3,001–3,010")
        expect(page.locator("nav [aria-current]")).to_be_in_viewport()
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        pages.first.click()
        expect(page.locator("article .number").first).to_have_text("1")
