"""The page of `diffedit serve` keeps what its user has begun, and takes no edit for another one."""

from collections.abc import Callable
from pathlib import Path

import httpx
from PIL import Image
from playwright.sync_api import Page, Request, Route, expect

from diffedit import Client
from tests.support.browser import Window, heading, pick_sample, set_steps, submit
from tests.support.factories import PEAR, PICTURE
from tests.support.waiting import until

LONG = 500
QUICK = 4
OWNER = "everybody"
"""Whose edits those of a server without keys are."""


def posts(page: Page, path: str) -> list[str]:
    """Return the list of requests that submit to a path which ends so, as it grows."""
    seen: list[str] = []

    def note(request: Request) -> None:
        if request.method == "POST" and request.url.endswith(path):
            seen.append(request.url)

    page.on("request", note)
    return seen


def hold(page: Page) -> Callable[[], None]:
    """Keep back what is submitted from now on. Returns a function that lets the first one go."""
    held: list[Route] = []
    page.route("**/v1/edits", lambda route: held.append(route) if route.request.method == "POST" else route.continue_())

    def let_go() -> None:
        while not held:
            page.wait_for_timeout(20)
        held[0].continue_()

    return let_go


def press_submit(page: Page) -> None:
    page.get_by_role("button", name="Edit the picture").click()
    expect(page.locator("#form")).to_have_attribute("aria-busy", "true")


def test_an_edit_is_compared_with_the_picture_that_was_sent(page: Page, tmp_path: Path) -> None:
    pick_sample(page, 6)
    set_steps(page, QUICK)
    let_go = hold(page)
    press_submit(page)
    Image.new("RGB", (120, 80), "red").save(tmp_path / "other.png")
    page.get_by_label("Choose a picture").set_input_files(tmp_path / "other.png")
    width = "image => image.naturalWidth"
    page.wait_for_function("() => document.querySelector('.before').naturalWidth === 120")
    let_go()
    expect(page.locator(".toast")).to_contain_text("Your edit is submitted")
    assert page.locator(".before").evaluate(width) == 120, "the form stays with who works in it"
    page.locator(".past-item").first.click()
    expect(heading(page)).to_have_text("Done")
    assert page.locator(".before").evaluate(width) == 64


def test_one_wish_is_one_edit(page: Page) -> None:
    pick_sample(page, 6)
    set_steps(page, LONG)
    edits, retries = posts(page, "/v1/edits"), posts(page, "/retry")
    for _ in range(3):
        page.get_by_label("What it should show").press("Control+Enter")
    page.get_by_role("button", name="Cancel").click()
    expect(heading(page)).to_have_text("Cancelled")
    assert len(edits) == 1
    before = page.url
    page.get_by_role("button", name="Try it again").dblclick()
    page.wait_for_function("before => location.href !== before", arg=before)
    expect(page.get_by_role("button", name="Cancel")).to_be_visible()
    assert len(retries) == 1


def test_a_new_edit_is_not_disturbed_by_the_one_that_is_sent(window: Window, page: Page) -> None:
    pick_sample(page, 6)
    set_steps(page, QUICK)
    window.context.set_offline(True)
    press_submit(page)
    page.get_by_role("link", name="New edit").click()
    expect(page.get_by_text("Drop a picture here")).to_be_visible()
    page.get_by_label("Choose a picture").set_input_files(PICTURE)
    target = page.get_by_label("What it should show")
    target.fill("something else")
    window.context.set_offline(False)
    expect(page.locator(".toast")).to_contain_text("Your edit is submitted")
    expect(target).to_have_value("something else")
    expect(page.get_by_role("button", name="Edit the picture")).to_be_enabled()


def test_a_mask_that_was_looked_at_is_deleted_once_it_is_used(page: Page, http: httpx.Client) -> None:
    pick_sample(page, 6)
    page.get_by_role("button", name="Find it now").click()
    expect(page.locator("#mask-state")).to_contain_text("has found the striped part")
    search = page.url.rpartition("/")[2]
    assert page.title() == "DiffEdit"
    set_steps(page, QUICK)
    edit = submit(page)
    until(lambda: http.get(f"/v1/edits/{search}").status_code == 404, "the deletion of the search")
    expect(heading(page)).to_have_text("Done")
    for slot in ("original", "mask", "result"):
        assert http.get(f"/v1/edits/{edit}/{slot}?inline=1").status_code == 200, slot
    page.go_back()
    expect(page.get_by_alt_text("The picture to edit")).to_be_visible()
    expect(page.get_by_role("button", name="Remove the mask")).to_be_visible()


def test_edit_again_takes_the_options_of_that_edit(window: Window, client: Client) -> None:
    concepts = {"source_concept": "pear", "target_concept": "cherries"}
    job = client.for_owner(OWNER).edit(PICTURE, **concepts, seed=5, strength=0.5, num_inference_steps=LONG)
    job.cancel()
    page = window.open()
    pick_sample(page, 2)
    set_steps(page, 7)
    page.evaluate("id => { location.hash = `edit/${id}` }", job.id)
    page.get_by_role("button", name="Edit again").click()
    expect(page.get_by_label("What the picture shows")).to_have_value("pear")
    expect(page.get_by_label("What it should show")).to_have_value("cherries")
    for name, value in (("Seed", "5"), ("Strength", "0.5"), ("Steps", str(LONG))):
        expect(page.get_by_label(name)).to_have_value(value)


def test_edits_behind_many_masks_are_listed(window: Window, client: Client) -> None:
    client.delete_owner(OWNER)
    mine = client.for_owner(OWNER)
    mine.edit(PICTURE, **PEAR).cancel()
    for _ in range(24):
        mine.preview_mask(PICTURE, **PEAR).cancel()
    page = window.open()
    expect(page.locator(".past-item")).to_have_count(1)
    expect(page.get_by_role("button", name="Your edits")).to_be_visible()


def test_the_history_shows_how_an_edit_goes_on(window: Window, client: Client) -> None:
    job = client.for_owner(OWNER).edit(PICTURE, **PEAR, num_inference_steps=LONG)
    page = window.open()
    state = page.locator(f'a[href="#edit/{job.id}"] .past-state')
    expect(state).to_have_text("at work")
    job.cancel()
    expect(state).to_have_text("cancelled")


def test_what_is_shown_between_takes_nothing_from_the_form(page: Page) -> None:
    pick_sample(page, 6)
    target = page.get_by_label("What it should show")
    target.fill("a melon")
    page.get_by_role("button", name="Paint").click()
    page.locator(".overlay").click()
    page.evaluate("() => { location.hash = `edit/${'0'.repeat(32)}` }")
    expect(heading(page)).to_have_text("There is nothing to show")
    expect(page.locator(".before")).to_be_hidden()
    assert page.title() == "DiffEdit"
    page.go_back()
    expect(target).to_have_value("a melon")
    expect(page.get_by_alt_text("The picture to edit")).to_be_visible()
    expect(page.locator("#mask-state")).to_contain_text("The striped part may change")
    expect(page.locator(".overlay")).to_be_visible()
