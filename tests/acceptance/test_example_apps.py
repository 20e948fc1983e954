"""The examples of web applications that use the client: Django with pages, Flask with tokens and webhooks.

The example of FastAPI is tested in `test_web_api.py`, that of Node in `tests/system/`, the receiver of webhooks in
`tests/integration/test_webhook_delivery.py`.
"""

import io
import os
import re
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from PIL import Image

from diffedit_worker.local.programs import diffedit_command
from diffedit_worker.local.stack import LocalServices
from tests.support.factories import PEAR, PICTURE
from tests.support.processes import unused_port
from tests.support.waiting import until
from tests.support.web_server import served_program

EXAMPLES = Path(__file__).parents[2] / "examples"
ASKED = {"source": PEAR["source_prompt"], "target": PEAR["target_prompt"]}
FILES = {"image": ("pear.png", PICTURE.read_bytes(), "image/png")}


def of_size(data: bytes) -> tuple[int, int]:
    with Image.open(io.BytesIO(data)) as image:
        return image.size


@pytest.fixture
def django(stack: LocalServices, tmp_path: Path) -> list[str]:
    """The command of the example, with a database in which there are two users."""
    command = [sys.executable, str(EXAMPLES / "django_app.py")]
    environment = {**os.environ, **stack.environment, "DJANGO_SUPERUSER_PASSWORD": "secret"}
    users = [["createsuperuser", "--noinput", "--username", name, "--email", ""] for name in ("ada", "grace")]
    for words in [["migrate"], *users]:
        done = subprocess.run([*command, *words], cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    return command


def logged_in(url: str, name: str, password: str) -> httpx.Client:
    http = httpx.Client(base_url=url, timeout=60, follow_redirects=True)
    token = token_of(http.get("/").text)
    http.post("/accounts/login/?next=/", data={"username": name, "password": password, "csrfmiddlewaretoken": token})
    return http


def token_of(page: str) -> str:
    found = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', page)
    assert found, page
    return found[1]


def test_users_of_the_django_application_edit_pictures_and_see_their_own_only(
    django: list[str], stack: LocalServices, tmp_path: Path
) -> None:
    command = [*django, "runserver", "--noreload", f"127.0.0.1:{unused_port()}"]
    with served_program(command, {**stack.environment, "PYTHONUNBUFFERED": "1"}, tmp_path, cwd=tmp_path) as server:
        ada, grace, stranger = (
            logged_in(server.url, *who) for who in (("ada", "secret"), ("grace", "secret"), ("ada", "x"))
        )
        assert stranger.get("/").url.path == "/accounts/login/"
        token = token_of(ada.get("/").text)
        page = ada.post("/", data={**ASKED, "csrfmiddlewaretoken": token}, files=FILES)
        assert page.url.path.startswith("/edits/"), page.text
        until(lambda: "succeeded" in ada.get(page.url).text, "the edit")
        link = re.search(r'src="([^"]+)"', ada.get(page.url).text)
        assert of_size(httpx.get(link[1].replace("&amp;", "&"), timeout=60).content) == (64, 64)
        assert grace.get(page.url.path).status_code == 404
        assert ada.get("/edits/no-id/").status_code == 404
        assert stranger.get(page.url.path).url.path == "/accounts/login/"
        assert ada.post("/", data=ASKED, files=FILES).status_code == 403  # without the token of the form
        broken = {"image": ("pear.png", b"no picture", "image/png")}
        refused = ada.post("/", data={**ASKED, "csrfmiddlewaretoken": token}, files=broken)
        assert refused.status_code == 400 and "role=alert" in refused.text


def test_the_flask_application_gets_its_results_by_webhook(stack: LocalServices, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "flask", "--app", str(EXAMPLES / "flask_app.py"), "run", "--port", "0"]
    environment = {**os.environ, **stack.environment}
    sender = subprocess.Popen(diffedit_command("webhooks"), env=environment, stderr=subprocess.DEVNULL)
    try:
        with served_program(command, stack.environment, tmp_path, cwd=tmp_path) as server:
            ada, grace = (
                httpx.Client(base_url=server.url, headers={"Authorization": f"Bearer {name}-token"}, timeout=60)
                for name in ("ada", "grace")
            )
            response = ada.post("/edits", data=ASKED, files=FILES)
            assert response.status_code == 202, response.text
            edit = response.json()
            until(lambda: ada.get(edit["picture"]).status_code == 200, "the picture that the webhook brings")
            assert of_size(ada.get(edit["picture"]).content) == (64, 64)
            assert ada.get(edit["status"]).json() == {"state": "succeeded", "progress": 1.0, "error": None}
            assert {path.name for path in (tmp_path / "results").iterdir()} == {edit["id"]}
            for path in (edit["status"], edit["picture"]):
                assert grace.get(path).status_code == 404
                assert httpx.get(server.url + path, timeout=60).status_code == 401
            forged = {"type": "edit.succeeded", "data": {"id": edit["id"]}}
            assert httpx.post(f"{server.url}/hooks/ada", json=forged, timeout=60).status_code == 401
            broken = ada.post("/edits", data=ASKED, files={"image": ("pear.png", b"no picture", "image/png")})
            assert (broken.status_code, broken.json()["error"]) == (400, "bad_picture")
    finally:
        sender.terminate()
        sender.wait(timeout=30)
