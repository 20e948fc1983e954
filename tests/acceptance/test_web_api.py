"""The whole system over HTTP: `diffedit serve`, a real worker, OpenAI's own client, and the example of FastAPI."""

import base64
import io
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import openai
import pytest
from PIL import Image

from diffedit import Client
from diffedit_worker.local.stack import LocalServices
from tests.support.factories import PEAR, PICTURE, QUICK, SAMPLES
from tests.support.web_server import Served, served_process, served_program

ROOT = Path(__file__).parents[2]
PROMPTS = {name: PEAR[name] for name in ("source_prompt", "target_prompt")}


@pytest.fixture(scope="module")
def key(client: Client) -> str:
    return client.add_api_key("u17")[0]


@pytest.fixture(scope="module")
def server(stack: LocalServices, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served_process(stack.environment, tmp_path_factory.mktemp("web")) as server:
        yield server


@pytest.fixture
def http(server: Served, key: str) -> Iterator[httpx.Client]:
    headers = {"Authorization": f"Bearer {key}"}
    with httpx.Client(base_url=server.url, headers=headers, timeout=60) as http:
        yield http


def pixels(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"), dtype=np.int16)


def test_an_edit_over_http_is_that_of_the_client(client: Client, http: httpx.Client) -> None:
    asked = {**PROMPTS, **{name: str(value) for name, value in QUICK.items()}, "seed": "11"}
    files = {"image": PICTURE.read_bytes()}
    response = http.post("/v1/edits", files=files, data=asked, headers={"Prefer": "wait=60"})
    assert response.status_code == 200, response.text
    edit = response.json()
    assert edit["state"] == "succeeded"
    assert set(edit["timings"]) == set(edit["stages"])
    linked = http.get(edit["links"]["result"], follow_redirects=True)  # with the key: httpx leaves it out for S3
    inline = http.get(edit["links"]["result"] + "?inline")
    assert linked.content == inline.content
    expected = client.edit(PICTURE, **PROMPTS, **QUICK, seed=11).result(timeout=60)
    assert (pixels(inline.content) == np.asarray(expected.image.convert("RGB"))).all()
    assert Image.open(io.BytesIO(http.get(edit["links"]["thumbnail"] + "?inline").content)).format == "WEBP"
    events = http.get(edit["links"]["events"]).text
    assert events.count("event: status") == 1


def test_openais_client_edits_a_picture(server: Served, key: str) -> None:
    with openai.OpenAI(api_key=key, base_url=f"{server.url}/v1") as client:
        assert [model.id for model in client.models.list()] == ["tiny"]
        original = Image.open(PICTURE).convert("RGBA")
        mask = original.copy()
        mask.paste((0, 0, 0, 0), (32, 0, 64, 64))
        buffer = io.BytesIO()
        mask.save(buffer, "PNG")
        answer = client.images.edit(
            image=PICTURE.open("rb"),
            mask=("mask.png", buffer.getvalue(), "image/png"),
            prompt=PROMPTS["target_prompt"],
            model="tiny",
            n=2,
            size="128x128",
            response_format="b64_json",
            output_format="png",
            extra_body={"source_prompt": PROMPTS["source_prompt"], "seed": 3, **QUICK},
        )
        files = [base64.b64decode(image.b64_json) for image in answer.data]
        assert [Image.open(io.BytesIO(file)).size for file in files] == [(128, 128)] * 2
        own = client.images.edit(
            image=PICTURE.open("rb"),
            mask=("mask.png", buffer.getvalue(), "image/png"),
            prompt=PROMPTS["target_prompt"],
            extra_body={"source_prompt": PROMPTS["source_prompt"], "seed": 3, **QUICK},
        )
        edited = pixels(base64.b64decode(own.data[0].b64_json))
        changed = (edited != np.asarray(original.convert("RGB"))).any(axis=2)
        assert changed[:, 40:].any()
        assert not changed[:, :28].any()
        link = client.images.edit(
            image=PICTURE.open("rb"),
            prompt=PROMPTS["target_prompt"],
            response_format="url",
            extra_body={"source_prompt": PROMPTS["source_prompt"], **QUICK},
        )
        assert Image.open(io.BytesIO(httpx.get(link.data[0].url, timeout=60).content)).size == original.size
        with pytest.raises(openai.BadRequestError) as caught:
            client.images.edit(image=PICTURE.open("rb"), prompt="x", extra_body={"strength": 7})
        assert caught.value.param == "strength"


def test_the_example_of_fastapi_keeps_users_apart(stack: LocalServices, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "uvicorn", "--app-dir", str(ROOT / "examples"), "--port", "0", "fastapi_app:app"]
    with served_program(command, stack.environment, tmp_path) as server:
        ada, grace = (
            httpx.Client(base_url=server.url, auth=login, timeout=60)
            for login in (("ada", "secret"), ("grace", "hopper"))
        )
        data = {**PROMPTS, **{name: str(value) for name, value in QUICK.items()}}
        files = {"image": (SAMPLES / "02.png").read_bytes()}
        response = ada.post("/api/v1/edits", files=files, data=data, headers={"Prefer": "wait=60"})
        assert response.status_code == 200, response.text
        edit = response.json()
        assert edit["links"]["self"].startswith("/api/v1/edits/")
        assert ada.get(edit["links"]["result"] + "?inline").headers["content-type"] == "image/png"
        assert grace.get(edit["links"]["self"]).status_code == 404
        assert httpx.get(server.url + edit["links"]["self"], auth=("ada", "wrong"), timeout=60).status_code == 401
    assert len((ROOT / "examples/fastapi_app.py").read_text().splitlines()) < 40
