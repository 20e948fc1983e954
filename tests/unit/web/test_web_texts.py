"""The texts of an edit over HTTP: those that were given, and those that models have found."""

import json

import pytest

from diffedit import Prompts, Stage, testing
from diffedit.contract.stages import Artifact
from tests.support.web_api import WebApi, png

pytestmark = pytest.mark.anyio
FILES = {"image": ("green.png", png(), "image/png")}
NOTHING = {"caption": None, "source_prompt": None, "target_prompt": None, "source_prompts": [], "target_prompts": []}


async def submit(api: WebApi, **texts: str) -> dict[str, object]:
    return dict((await api("POST", "/v1/edits", 202, files=FILES, data=texts)).json())


async def texts_of(api: WebApi, edit: dict[str, object]) -> dict[str, object]:
    return dict((await api("GET", f"/v1/edits/{edit['id']}/texts", 200)).json())


async def test_texts_that_were_given_are_there_at_once(api: WebApi) -> None:
    edit = await submit(api, source_prompt="a bowl of fruits", target_prompt="a bowl of pears", caption="a photo")
    assert await texts_of(api, edit) == {
        "caption": "a photo",
        "source_prompt": "a bowl of fruits",
        "target_prompt": "a bowl of pears",
        "source_prompts": ["a bowl of fruits"],
        "target_prompts": ["a bowl of pears"],
    }


async def test_a_caption_is_there_when_it_is_found(api: WebApi) -> None:
    edit = await submit(api, target_prompt="a bowl of pears")
    before = {**NOTHING, "target_prompt": "a bowl of pears", "target_prompts": ["a bowl of pears"]}
    assert await texts_of(api, edit) == before
    job = api.job(edit)._blocking
    testing._start(job, Stage.CAPTION)
    testing._complete(job, Stage.CAPTION, {Artifact.CAPTION: json.dumps("fruits in a bowl").encode()})
    assert await texts_of(api, edit) == {**before, "caption": "fruits in a bowl"}
    testing.succeed(job, caption="fruits in a bowl")
    after = {"caption": "fruits in a bowl", "source_prompt": "fruits in a bowl"}
    assert await texts_of(api, edit) == {**before, **after, "source_prompts": ["fruits in a bowl"]}


async def test_prompts_of_two_concepts_are_there_when_they_are_made(api: WebApi) -> None:
    edit = await submit(api, source_concept="fruits", target_concept="pears")
    assert await texts_of(api, edit) == NOTHING
    made = Prompts(source=("some fruits", "two fruits"), target=("some pears", "two pears"))
    testing.succeed(api.job(edit), prompts=made)
    found = await texts_of(api, edit)
    assert (found["source_prompt"], found["source_prompts"]) == ("some fruits", list(made.source))
    assert (found["target_prompt"], found["target_prompts"]) == ("some pears", list(made.target))


async def test_texts_that_were_deleted_are_an_error(api: WebApi) -> None:
    edit = await submit(api, target_prompt="a bowl of pears")
    testing.succeed(api.job(edit))
    status = await api.job(edit).status()
    api.client._blocking._object_store.delete(status.artifact_keys[Artifact.CAPTION])
    assert await api.problem("GET", f"/v1/edits/{edit['id']}/texts", 500) == "artifact_missing"
