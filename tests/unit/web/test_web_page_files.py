"""The files of the page: what is served, with which headers, and what may not be in them."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from diffedit_web.server import LOOPBACK_NAMES
from diffedit_web.static_page import FILES, HEADERS
from diffedit_worker.models.profiles import SAMPLES
from tests.support.factories import a_worker
from tests.support.web_api import WebApi, web_api

pytestmark = pytest.mark.anyio
MODULES = sorted(FILES.glob("*.js"))
KINDS = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml", ".html": "text/html"}
MARKUP_FROM_TEXT = re.compile(
    r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|createContextualFragment|DOMParser|\beval\(|new Function"
)


class Elements(HTMLParser):
    """The elements of a page, each with its attributes, and the texts of scripts and styles."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.inline: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.found and self.found[-1][0] in ("script", "style") and data.strip():
            self.inline.append(data)


@pytest.fixture
def index() -> Elements:
    return Elements((FILES / "index.html").read_text())


async def test_the_page_is_served_without_a_key_and_with_a_strict_policy(api: WebApi) -> None:
    response = await api.http.get("/")
    assert response.status_code == 200
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    assert {name: response.headers[name] for name in HEADERS} == dict(HEADERS)
    policy = dict(each.split(" ", 1) for each in response.headers["content-security-policy"].split("; "))
    assert policy == {
        "default-src": "'none'",
        "script-src": "'self'",
        "style-src": "'self'",
        "img-src": "'self' data: blob:",
        "connect-src": "'self'",
        "form-action": "'none'",
        "base-uri": "'none'",
        "frame-ancestors": "'none'",
        "require-trusted-types-for": "'script'",
        "trusted-types": "'none'",
    }
    assert (await api.http.head("/")).status_code == 200


async def test_each_file_is_served_with_its_type_and_the_same_headers(api: WebApi) -> None:
    files = [path for path in FILES.iterdir() if path.name != "index.html"]
    assert len(files) > 15
    for path in files:
        response = await api.http.get(f"/page/{path.name}")
        assert response.status_code == 200, path
        assert response.headers["content-type"].partition(";")[0] == KINDS[path.suffix]
        assert {name: response.headers[name] for name in HEADERS} == dict(HEADERS)
        again = await api.http.get(f"/page/{path.name}", headers={"If-None-Match": response.headers["etag"]})
        assert again.status_code == 304


async def test_nothing_but_the_page_is_served(api: WebApi) -> None:
    for path in ("none.js", "", "..%2fapp.py", "%2e%2e/app.py", "samples/..%2f..%2fapp.py"):
        assert await api.problem("GET", f"/page/{path}", 404) == "not_found"
    assert await api.problem("POST", "/", 405) == "method_not_allowed"


async def test_a_name_that_was_pointed_at_this_machine_gets_no_page() -> None:
    async with web_api(open_to_all=True, hosts=LOOPBACK_NAMES) as api:
        for path in ("/", "/page/main.js"):
            assert (await api.http.get(path, headers={"Host": "evil.example"})).status_code == 400
            assert (await api.http.get(path, headers={"Host": "localhost:8000"})).status_code == 200


async def test_the_samples_are_those_of_the_bundled_model(api: WebApi) -> None:
    assert (await api.http.get("/page/samples/scenes.json")).json() == []
    async with web_api(samples=SAMPLES) as api:
        response = await api.http.get("/page/samples/scenes.json")
        assert response.json() == json.loads((SAMPLES / "scenes.json").read_text())
        for scene in response.json():
            assert {"source_prompt", "target_prompt", "source_concept", "target_concept"} <= scene.keys()
            picture = await api.http.get(f"/page/samples/{scene['picture']}")
            assert picture.headers["content-type"] == "image/png"
            assert picture.headers["x-content-type-options"] == "nosniff"


async def test_the_page_is_no_part_of_the_description() -> None:
    async with web_api() as api:
        assert not [path for path in api.app.openapi()["paths"] if not path.startswith("/v1/")]


def test_the_page_has_no_script_or_style_of_its_own(index: Elements) -> None:
    assert index.inline == []
    names = {name for _, attributes in index.found for name in attributes}
    assert "style" not in names and not [name for name in names if name.startswith("on")]


def test_what_the_page_names_exists(index: Elements) -> None:
    named = [value for _, each in index.found for name, value in each.items() if name in ("src", "href")]
    assert len(named) > 5
    for path in set(named) - {"#"}:
        # Relative, so that the page works below the path of a proxy.
        assert path and path.startswith("page/") and (FILES / path.removeprefix("page/")).is_file(), path
    ids = [each["id"] for _, each in index.found if "id" in each]
    assert len(set(ids)) == len(ids)
    labels = {value for _, each in index.found for name, value in each.items() if name in ("for", "aria-labelledby")}
    assert labels <= set(ids)


@pytest.mark.parametrize("module", MODULES, ids=lambda path: path.name)
def test_a_module_is_small_and_makes_no_markup(module: Path, index: Elements) -> None:
    text = module.read_text()
    assert len(text.splitlines()) < 300
    assert not MARKUP_FROM_TEXT.search(text)
    imported = re.findall(r'from "(.+?)"', text)
    assert all((FILES / path).is_file() for path in imported)
    ids = {each["id"] for _, each in index.found if "id" in each}
    assert set(re.findall(r'byId\("([\w-]+)"\)', text)) <= ids | {"show-mask"}


def test_no_file_names_another_server() -> None:
    for path in FILES.iterdir():
        assert set(re.findall(r"https?://[\w.]+", path.read_text())) <= {"http://www.w3.org"}, path


async def test_the_models_say_what_they_know(api: WebApi) -> None:
    about = "Pears on a table."
    api.client._blocking._backend.worker_registry.send_heartbeat(a_worker(profile="pears", profile_about=about))
    served = {model["id"]: model["about"] for model in (await api("GET", "/v1/models", 200)).json()["data"]}
    assert served == {"pears": about, "tiny": ""}
