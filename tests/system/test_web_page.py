"""The page of `diffedit serve` in a real browser, over real services and a real worker."""

import io
from pathlib import Path

import httpx
import numpy as np
from PIL import Image
from playwright.sync_api import Browser, Page, expect

from diffedit import Client
from diffedit_worker.models.profiles import SAMPLES
from tests.support.browser import Window, heading, opened_window, pick_sample, set_steps, submit
from tests.support.factories import PEAR, PICTURE
from tests.support.web_server import Served

LONG = 500
"""Steps of an edit that lasts until a test has looked at it."""
QUICK = 4


def picture_of(http: httpx.Client, edit: str, slot: str) -> Image.Image:
    return Image.open(io.BytesIO(http.get(f"/v1/edits/{edit}/{slot}?inline").content))


def test_a_picture_becomes_another_one(page: Page, http: httpx.Client, tmp_path: Path) -> None:
    expect(page.locator("#model")).to_contain_text("pineapple")
    page.get_by_label("Choose a picture").set_input_files(PICTURE)
    expect(page.get_by_label("What the picture shows")).to_be_focused()
    page.get_by_label("What the picture shows").fill(PEAR["source_prompt"])
    page.get_by_label("What it should show").fill(PEAR["target_prompt"])
    set_steps(page, QUICK)
    edit = submit(page)
    expect(heading(page)).to_have_text("Done")
    expect(page.get_by_alt_text(PEAR["target_prompt"])).to_be_visible()
    expect(page.locator("#details")).to_contain_text(PEAR["source_prompt"])
    with page.expect_download() as download:
        page.get_by_role("button", name="Download").click()
    download.value.save_as(tmp_path / "result.png")
    assert (tmp_path / "result.png").read_bytes() == http.get(f"/v1/edits/{edit}/result?inline").content
    assert picture_of(http, edit, "original").tobytes() == Image.open(PICTURE).tobytes()
    assert page.title() == "Done · DiffEdit"


def test_the_line_between_before_and_after_moves_with_keys(page: Page) -> None:
    pick_sample(page, 6)
    set_steps(page, QUICK)
    submit(page)
    slider = page.get_by_label("Slide between before and after")
    expect(slider).to_be_visible()
    slider.press("Home")
    after = page.locator(".after")
    before = page.locator(".before")
    shown = "image => getComputedStyle(image).clipPath"
    assert after.evaluate(shown) == "inset(0px 0px 0px 0%)"
    slider.press("ArrowRight")
    assert after.evaluate(shown) == "inset(0px 0px 0px 1%)"
    assert before.evaluate(shown) == "inset(0px 99% 0px 0px)", "it would show through a transparent result"
    assert slider.get_attribute("aria-valuetext") == "1 % before, 99 % after"
    slider.press("End")
    assert after.evaluate(shown) == "inset(0px 0px 0px 100%)"


def test_the_captioner_describes_the_picture(page: Page, http: httpx.Client) -> None:
    pick_sample(page, 6)
    page.get_by_label("What the picture shows").fill("")
    set_steps(page, QUICK)
    edit = submit(page)
    expect(heading(page)).to_have_text("Done")
    assert http.get(f"/v1/edits/{edit}").json()["stages"][0] == "caption"


def test_pictures_are_dropped_and_pasted(page: Page) -> None:
    data = list((SAMPLES / "03.png").read_bytes())
    for kind, name in (("drop", "dataTransfer"), ("paste", "clipboardData")):
        page.evaluate(
            """([data, kind, name]) => {
                const transfer = new DataTransfer();
                transfer.items.add(new File([new Uint8Array(data)], "a.png", { type: "image/png" }));
                const make = kind === "drop" ? DragEvent : ClipboardEvent;
                document.body.dispatchEvent(new make(kind, { bubbles: true, cancelable: true, [name]: transfer }));
            }""",
            [data, kind, name],
        )
        expect(page.get_by_alt_text("The picture to edit")).to_be_visible()
        page.get_by_role("link", name="New edit").click()
        expect(page.get_by_text("Drop a picture here")).to_be_visible()


def test_an_edit_is_cancelled_and_tried_again(page: Page, http: httpx.Client) -> None:
    pick_sample(page, 6)
    set_steps(page, LONG)
    edit = submit(page)
    expect(page.locator(".stages .here")).to_be_visible()
    expect(page.locator("#details .hint")).to_contain_text("Step")
    page.get_by_role("button", name="Cancel").click()
    expect(heading(page)).to_have_text("Cancelled")
    assert http.get(f"/v1/edits/{edit}").json()["state"] == "cancelled"
    page.get_by_role("button", name="Try it again").click()
    page.wait_for_function("edit => !location.hash.endsWith(edit)", arg=edit)
    expect(page.get_by_role("button", name="Cancel")).to_be_visible()


def test_a_preview_forms_where_the_picture_may_change(page: Page) -> None:
    pick_sample(page, 6)
    set_steps(page, LONG)
    submit(page)
    forming = page.get_by_role("img", name="The picture as it forms")
    expect(forming).to_be_visible()
    alpha = forming.evaluate(
        """canvas => {
            const { width, height } = canvas;
            const context = canvas.getContext("2d");
            const at = (x, y) => context.getImageData(Math.round(x * width), Math.round(y * height), 1, 1).data[3];
            return [at(0.62, 0.7), at(0.05, 0.05)];
        }"""
    )
    assert alpha[0] > 200, "the pear"
    assert alpha[1] < 30, "the table"


def test_a_reload_in_mid_edit_goes_on(page: Page) -> None:
    pick_sample(page, 2)
    set_steps(page, LONG)
    submit(page)
    expect(page.locator("#details .hint")).to_contain_text("Step")
    page.reload()
    expect(page.get_by_role("button", name="Cancel")).to_be_visible()
    expect(heading(page)).to_have_text("Done")
    expect(page.get_by_label("Slide between before and after")).to_be_visible()


def test_two_tabs_show_the_same_edit(window: Window, page: Page) -> None:
    pick_sample(page, 6)
    set_steps(page, LONG)
    edit = submit(page)
    other = window.open(f"/#edit/{edit}")
    expect(other.locator(".stages .here")).to_be_visible()
    other.get_by_role("button", name="Cancel").click()
    for each in (page, other):
        expect(heading(each)).to_have_text("Cancelled")


def test_an_edit_goes_on_after_the_network_was_lost(window: Window, page: Page) -> None:
    pick_sample(page, 6)
    set_steps(page, LONG)
    submit(page)
    expect(page.locator("#details .hint")).to_contain_text("Step")
    window.context.set_offline(True)
    expect(page.locator("#network")).to_contain_text("goes on by itself")
    window.context.set_offline(False)
    expect(page.locator("#network")).to_be_hidden()
    expect(heading(page)).to_have_text("Done")
    expect(page.get_by_label("Slide between before and after")).to_be_visible()


def test_what_is_submitted_without_a_network_is_sent_once_when_it_is_back(
    window: Window, page: Page, client: Client
) -> None:
    before = len(client.jobs(limit=1000))
    pick_sample(page, 6)
    set_steps(page, QUICK)
    window.context.set_offline(True)
    page.get_by_role("button", name="Edit the picture").click()
    expect(page.locator("#network")).to_be_visible()
    window.context.set_offline(False)
    expect(heading(page)).to_have_text("Done")
    assert len(client.jobs(limit=1000)) == before + 1


def test_the_mask_is_found_corrected_and_used(page: Page, http: httpx.Client) -> None:
    pick_sample(page, 6)
    page.get_by_role("button", name="Find it now").click()
    expect(page.locator("#mask-state")).to_contain_text("has found the striped part")
    found = selected(page)
    assert found > 0.02
    page.reload()
    expect(page.locator("#mask-state")).to_contain_text("has found the striped part")
    expect(page.get_by_label("What it should show")).to_have_value(PEAR["target_prompt"])
    assert selected(page) == found
    page.get_by_role("button", name="Clear").click()
    assert selected(page) == 0
    drag(page, (0.25, 0.5), (0.25, 0.75))
    painted = selected(page)
    assert painted > 0.02
    drag(page, (0.75, 0.2), (0.75, 0.8))
    page.get_by_role("button", name="Undo").click()
    assert selected(page) == painted
    page.get_by_text("Erase", exact=True).click()
    drag(page, (0.25, 0.5), (0.25, 0.55))
    assert 0 < selected(page) < painted
    set_steps(page, QUICK)
    edit = submit(page)
    expect(heading(page)).to_have_text("Done")
    mask = np.asarray(picture_of(http, edit, "mask").convert("L")) > 127
    assert mask[42:46, 15:17].all() and not mask[:28].any() and not mask[:, 26:].any()
    original, result = (np.asarray(picture_of(http, edit, slot).convert("RGB")) for slot in ("original", "result"))
    assert (original == result)[:, 40:].all(), "the pear, which is outside the mask"
    page.get_by_text("Show where it changed").click()
    assert selected(page) > 0


def test_the_mask_is_painted_with_keys(page: Page) -> None:
    pick_sample(page, 6)
    page.get_by_role("button", name="Paint").press("Enter")
    canvas = page.get_by_role("application")
    canvas.focus()
    page.keyboard.press("Shift+ArrowLeft")
    assert selected(page) == 0
    page.keyboard.down(" ")
    page.keyboard.press("ArrowUp")
    page.keyboard.press("ArrowUp")
    page.keyboard.up(" ")
    painted = selected(page)
    assert painted > 0
    page.keyboard.press("ArrowUp")
    assert selected(page) == painted
    page.keyboard.press("Control+z")
    assert selected(page) == 0


def test_the_mask_is_painted_with_a_finger(browser: Browser, server: Served) -> None:
    with opened_window(browser, server.url, has_touch=True, is_mobile=True) as window:
        page = window.open()
        pick_sample(page, 6)
        page.get_by_role("button", name="Paint").tap()
        page.locator(".overlay").tap(position={"x": 60, "y": 60})
        assert selected(page) > 0


def selected(page: Page) -> float:
    """Return how much of the picture the mask covers that is shown, 0 to 1."""
    return float(
        page.locator(".overlay").evaluate(
            """canvas => {
                const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
                let count = 0;
                for (let index = 3; index < data.length; index += 4) count += data[index] > 127;
                return count / (data.length / 4);
            }"""
        )
    )


def drag(page: Page, start: tuple[float, float], end: tuple[float, float]) -> None:
    """Draw a line over the picture with the mouse, in units of its sides."""
    box = page.locator(".overlay").bounding_box()
    assert box
    (from_x, from_y), (to_x, to_y) = (
        (box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in (start, end)
    )
    page.mouse.move(from_x, from_y)
    page.mouse.down()
    page.mouse.move(to_x, to_y, steps=5)
    page.mouse.up()
