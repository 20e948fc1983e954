"""The page of `diffedit serve` for everybody: keys, errors, history, assistive technology, phones, dark rooms."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, expect

from diffedit import Client
from diffedit_worker.local.stack import LocalServices
from tests.support.browser import PHONE, Window, heading, opened_window, pick_sample, set_steps, submit
from tests.support.factories import PEAR, PICTURE
from tests.support.web_server import Served, served_process

QUICK = 4
OWNER = "everybody"
"""Whose edits those of a server without keys are."""
MARKUP = "<img src=x onerror=alert(1)><b>pears</b>"


@pytest.fixture(scope="module")
def server_with_keys(stack: LocalServices, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served_process(stack.environment, tmp_path_factory.mktemp("keys")) as server:
        yield server


@pytest.fixture(scope="module")
def axe(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the source of axe-core, from the registry of npm."""
    folder = tmp_path_factory.mktemp("axe")
    shutil.copy(Path(__file__).parent / "axe" / "package.json", folder)
    command = ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=300)
    return (folder / "node_modules/axe-core/axe.min.js").read_text()


def violations(page: Page, axe: str) -> list[dict[str, Any]]:
    """Return what axe finds: each rule with the elements that break it."""
    # A half of an animation has no contrast.
    page.evaluate("() => Promise.allSettled(document.getAnimations().map(each => each.finished.catch(() => {})))")
    page.evaluate(axe)
    found = page.evaluate("async () => (await axe.run()).violations")
    return [{each["id"]: [node["html"] for node in each["nodes"]]} for each in found]


def test_a_key_is_asked_for_and_stays_in_the_tab(browser: Browser, server_with_keys: Served, client: Client) -> None:
    key, _ = client.add_api_key("u17")
    with opened_window(browser, server_with_keys.url) as window:
        page = window.open()
        dialog = page.get_by_role("dialog", name="Your API key")
        for text, reason in (("two words", "without spaces"), ("diffedit_wrong", "The server refused this key")):
            dialog.get_by_label("API key").fill(text)
            dialog.get_by_role("button", name="Continue").click()
            expect(dialog.get_by_role("alert")).to_contain_text(reason)
        dialog.get_by_label("API key").fill(key)
        dialog.get_by_label("API key").press("Enter")
        expect(dialog).to_be_hidden()
        pick_sample(page, 6)
        set_steps(page, QUICK)
        edit = submit(page)
        expect(heading(page)).to_have_text("Done")
        assert client.for_owner("u17").job(edit).status().is_terminal
        page.reload()
        expect(heading(page)).to_have_text("Done")
        assert key not in page.url and key not in server_with_keys.log
        stored = page.evaluate("() => [Object.values(sessionStorage), localStorage.length, document.cookie]")
        assert stored == [[key], 0, ""]
        other = window.open()
        expect(other.get_by_role("dialog", name="Your API key")).to_be_visible()
        page.get_by_role("button", name="Forget the key").click()
        expect(dialog).to_be_visible()
        page.keyboard.press("Escape")
        page.get_by_role("button", name="Enter the key").click()
        expect(dialog).to_be_visible()


def test_an_error_stands_beside_what_to_correct(page: Page, tmp_path: Path) -> None:
    expect(page.locator(".sample").first).to_be_visible()
    (tmp_path / "a.txt").write_text("no picture")
    choose = page.get_by_label("Choose a picture")
    choose.set_input_files(tmp_path / "a.txt")
    expect(page.locator("#picture-error")).to_contain_text("no PNG, JPEG or WebP")
    (tmp_path / "b.png").write_bytes(b"\x89PNG no picture")
    choose.set_input_files(tmp_path / "b.png")
    expect(page.locator("#picture-error")).to_contain_text("cannot read this picture")
    (tmp_path / "empty.png").touch()
    choose.set_input_files(tmp_path / "empty.png")
    expect(page.locator("#picture-error")).to_contain_text("is empty")
    Image.new("1", (8000, 5001)).save(tmp_path / "large.png")
    choose.set_input_files(tmp_path / "large.png")
    expect(page.locator("#picture-error")).to_contain_text("more than 40 megapixels")
    Image.new("RGB", (400, 8)).save(tmp_path / "c.png")
    choose.set_input_files(tmp_path / "c.png")
    page.get_by_role("button", name="Edit the picture").click()
    target = page.get_by_label("What it should show")
    expect(target).to_be_focused()
    expect(target).to_have_attribute("aria-invalid", "true")
    expect(page.locator("#target-error")).to_have_text("Say what the picture should show.")
    target.fill("a pear")
    page.get_by_role("button", name="Edit the picture").click()
    expect(page.locator("#form-error")).to_contain_text("pixels")  # the server's own words
    page.get_by_text("Options", exact=True).click()
    page.get_by_label("Strength").fill("7")
    page.get_by_text("Options", exact=True).click()
    page.get_by_role("button", name="Edit the picture").click()
    expect(page.get_by_label("Strength")).to_be_focused()
    expect(page.locator("#strength-error")).to_contain_text("a number above 0, at most 1")
    page.get_by_label("Strength").fill("0,5")
    page.get_by_role("button", name="Edit the picture").click()
    expect(page.locator("#strength-error")).to_be_hidden()
    expect(page.locator("#form-error")).to_contain_text("pixels")
    page.get_by_role("button", name="Paint").click()
    expect(page.locator("#mask-state")).to_have_text("Paint over what may change.")
    page.get_by_role("button", name="Edit the picture").click()
    expect(page.locator("#mask-error")).to_contain_text("selects nothing")


def test_an_edit_that_failed_says_why(window: Window, client: Client) -> None:
    # No difference is so large.
    job = client.for_owner(OWNER).edit(PICTURE, **PEAR, num_inference_steps=QUICK, mask_thresholding_ratio=100.0)
    page = window.open(f"/#edit/{job.id}")
    expect(heading(page)).to_have_text("It failed")
    expect(page.locator("#details .error")).to_contain_text("mask")
    page.get_by_role("button", name="Edit again").click()
    expect(page.get_by_label("What it should show")).to_be_focused()
    expect(page.get_by_label("What the picture shows")).to_have_value(PEAR["source_prompt"])
    expect(page.get_by_alt_text("The picture to edit")).to_be_visible()


def test_an_edit_that_does_not_exist_is_said_to_be_none(window: Window) -> None:
    page = window.open("/#edit/" + "0" * 32)
    expect(page.locator("#details")).to_contain_text("does not exist")
    page.get_by_role("button", name="New edit").click()
    expect(page.get_by_text("Drop a picture here")).to_be_visible()


def test_texts_of_others_are_never_markup(page: Page) -> None:
    pick_sample(page, 6)
    page.get_by_label("What it should show").fill(MARKUP)
    set_steps(page, QUICK)
    submit(page)
    expect(page.locator(".texts")).to_contain_text(MARKUP)
    expect(page.locator(".past-text").first).to_have_text(MARKUP)
    assert page.locator("b").count() == 0


def test_the_history_has_pages_links_and_a_way_to_delete(window: Window, client: Client) -> None:
    client.delete_owner(OWNER)
    mine = client.for_owner(OWNER)
    for number in range(25):
        mine.edit(PICTURE, **{**PEAR, "target_prompt": f"pear {number}"}).cancel()
    page = window.open()
    items = page.locator(".past-item")
    expect(items).to_have_count(24)
    expect(items.first).to_contain_text("pear 24")
    page.get_by_role("button", name="Show more").click()
    expect(items).to_have_count(25)
    expect(page.get_by_role("button", name="Show more")).to_be_hidden()
    items.last.click()
    expect(heading(page)).to_have_text("Cancelled")
    expect(items.last).to_have_attribute("aria-current", "true")
    pick_first = page.url
    page.once("dialog", lambda dialog: dialog.accept())
    page.get_by_role("button", name="Delete").click()
    expect(items).to_have_count(24)
    assert page.url != pick_first and len(mine.jobs(limit=100)) == 24


def test_a_link_leads_to_the_edit(window: Window, page: Page) -> None:
    pick_sample(page, 6)
    set_steps(page, QUICK)
    edit = submit(page)
    expect(heading(page)).to_have_text("Done")
    page.get_by_role("button", name="Copy the link").click()
    expect(page.locator(".toast")).to_contain_text("Copied")
    link = page.evaluate("() => navigator.clipboard.readText()")
    assert link == page.url and link.endswith(f"#edit/{edit}")
    other = window.open(link)
    expect(heading(other)).to_have_text("Done")
    page.go_back()
    expect(page.get_by_alt_text("The picture to edit")).to_be_visible()
    expect(page.get_by_label("What it should show")).to_have_value(PEAR["target_prompt"])


def test_everything_is_done_with_keys(page: Page) -> None:
    expect(page.locator(".sample").first).to_be_visible()

    def tab_to(name: str) -> None:
        for _ in range(60):
            page.keyboard.press("Tab")
            focused = page.evaluate("() => document.activeElement.ariaLabel ?? document.activeElement.innerText")
            if name in focused:
                outline = page.evaluate("() => getComputedStyle(document.activeElement).outlineStyle")
                assert outline == "solid", f"{name} has no visible focus"
                return
        pytest.fail(f"Tab never reaches {name}")

    tab_to("cherries")
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Edit the picture")).to_be_focused()
    page.keyboard.press("Enter")
    expect(heading(page)).to_have_text("Done")
    announced = page.locator("#announcer")
    expect(announced).to_have_text("Done")
    tab_to("Download")


def test_assistive_technology_finds_no_obstacle(
    browser: Browser, server: Served, server_with_keys: Served, axe: str
) -> None:
    for scheme in ("light", "dark"):
        with opened_window(browser, server_with_keys.url, color_scheme=scheme) as window:
            page = window.open()
            expect(page.get_by_role("dialog")).to_be_visible()
            assert violations(page, axe) == [], scheme
        with opened_window(browser, server.url, color_scheme=scheme) as window:
            page = window.open()
            expect(page.locator(".sample").first).to_be_visible()
            assert violations(page, axe) == [], scheme
            pick_sample(page, 6)
            page.get_by_role("button", name="Edit the picture").scroll_into_view_if_needed()
            page.get_by_role("button", name="Paint").click()
            page.get_by_text("Options", exact=True).click()
            page.get_by_label("Steps").fill("x")
            page.locator(".overlay").click()
            page.get_by_role("button", name="Edit the picture").click()
            expect(page.locator("#steps-error")).to_be_visible()
            assert violations(page, axe) == [], scheme
            page.get_by_label("Steps").fill("500")
            submit(page)
            expect(page.locator(".stages .here")).to_be_visible()
            assert violations(page, axe) == [], scheme
            page.get_by_role("button", name="Cancel").click()
            expect(heading(page)).to_have_text("Cancelled")
            page.get_by_role("button", name="Edit again").click()
            page.get_by_label("Steps").fill("4")
            submit(page)
            expect(page.get_by_label("Slide between before and after")).to_be_visible()
            page.get_by_text("Show where it changed").click()
            assert violations(page, axe) == [], scheme


def test_a_phone_shows_all_of_it_without_scrolling_sideways(browser: Browser, server: Served) -> None:
    def width(page: Page) -> int:
        return int(page.evaluate("() => document.documentElement.scrollWidth"))

    with opened_window(browser, server.url, viewport=PHONE, is_mobile=True, has_touch=True) as window:
        page = window.open()
        expect(page.locator(".sample").first).to_be_visible()
        assert width(page) == PHONE["width"]
        pick_sample(page, 8)
        page.get_by_role("button", name="Paint").tap()
        expect(page.get_by_role("button", name="Undo")).to_be_visible()
        assert width(page) == PHONE["width"]
        page.get_by_role("button", name="Remove the mask").tap()
        set_steps(page, QUICK)
        submit(page)
        expect(page.get_by_label("Slide between before and after")).to_be_visible()
        page.get_by_role("button", name="Copy the link").tap()
        expect(page.locator(".toast")).to_be_visible()
        assert width(page) == PHONE["width"]


def test_a_dark_room_gets_a_dark_page(browser: Browser, server: Served) -> None:
    shown = "() => getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)"
    for scheme, low, high in (("dark", 0, 40), ("light", 230, 255)):
        with opened_window(browser, server.url, color_scheme=scheme) as window:
            assert all(low <= each <= high for each in window.open().evaluate(shown))


def test_who_wants_no_motion_gets_none(browser: Browser, server: Served) -> None:
    with opened_window(browser, server.url, reduced_motion="reduce") as window:
        page = window.open()
        pick_sample(page, 6)
        set_steps(page, 500)
        submit(page)
        expect(page.locator(".stages .here")).to_be_visible()
        assert page.evaluate("() => document.getAnimations().length") == 0
        page.get_by_role("button", name="Cancel").click()
        expect(heading(page)).to_have_text("Cancelled")
