"""Edits through the queue: what the results show, and which artifacts are computed once."""

import json
import secrets
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from diffedit import Artifact, Client, JobFailed, JobHandle, Stage, State
from diffedit_worker.models.loading import Models
from diffedit_worker.models.profiles import load_profiles
from diffedit_worker.stages.caption import caption
from tests.support.factories import PEAR, PICTURE, QUICK, SAMPLES

SCENES = json.loads((SAMPLES / "scenes.json").read_text())


def pixels(image: Image.Image) -> np.ndarray:
    return np.asarray(image.convert("RGB"), dtype=np.int16)


def grown(mask: np.ndarray, width: int) -> np.ndarray:
    """Return the mask, grown by `width` pixels on each side."""
    result = mask.copy()
    for dy in range(-width, width + 1):
        for dx in range(-width, width + 1):
            result |= np.roll(mask, (dy, dx), axis=(0, 1))
    return result


@pytest.fixture(scope="module")
def captioner() -> Models:
    """Return the captioner, which is independent of the models that edit."""
    return Models(load_profiles()["tiny"], device="cpu")


@pytest.fixture(scope="module")
def edited(client: Client) -> list[JobHandle]:
    return [
        client.edit(
            SAMPLES / scene["picture"],
            source_prompt=scene["source_prompt"],
            target_prompt=scene["target_prompt"],
            seed=0,
        )
        for scene in SCENES
    ]


@pytest.mark.parametrize("number", range(len(SCENES)))
def test_the_edited_region_shows_the_target_and_the_rest_is_the_original(
    edited: list[JobHandle], captioner: Models, number: int
) -> None:
    scene, result = SCENES[number], edited[number].result(timeout=120)
    original, image = pixels(result.original), pixels(result.image)
    region = np.asarray(Image.open(SAMPLES / scene["region"]).convert("L")) > 127
    mask = np.asarray(result.mask) > 127

    seen = caption(models=captioner, on_step=lambda *_: None, image=SimpleNamespace(image=result.image))[
        Artifact.CAPTION
    ]
    assert scene["target_concept"] in seen
    assert scene["source_concept"] not in seen
    assert np.abs(image - original)[region].mean() > 20
    # The mask covers the region in which a true result would differ ...
    assert (mask & region).sum() / region.sum() > 0.7
    # ... and outside of its soft edge no pixel differs.
    outside = ~grown(mask, width=3)
    assert outside.mean() > 0.3
    assert (image == original)[outside].all()


def test_concepts_and_a_target_alone_run_the_stages_that_they_need(client: Client) -> None:
    picture = SAMPLES / "02.png"
    seed = secrets.randbelow(2**32)
    common = {**QUICK, "seed": seed}
    asked = {"source_concept": "dog", "target_concept": "apple", "num_prompts": 4}
    concepts = client.edit(picture, **asked, concept_prompts="sentences", **common)
    by_caption = client.edit(picture, **asked, **common)
    alone = client.edit(picture, target_prompt="a photograph of an apple and a ball on a blue table", **common)

    result = concepts.result(timeout=60)
    assert set(result.status.timings) == set(Stage)
    assert "dog" in result.caption
    assert len(result.prompts.source) == len(result.prompts.target) == 4
    assert any("apple" in prompt for prompt in result.prompts.target)

    result = by_caption.result(timeout=60)
    assert result.prompts.source == (result.caption,)
    assert result.prompts.target == (result.caption.replace("a dog", "an apple"),)

    result = alone.result(timeout=60)
    assert result.prompts.source == (result.caption,)
    assert Stage.CAPTION in result.status.cache_hits  # the other job made this caption


def test_a_second_target_on_a_picture_skips_caption_and_inversion(client: Client) -> None:
    picture = (SAMPLES / "03.png").read_bytes() + b"of test_edits"  # else another module's edits may be found
    first = client.edit(picture, target_prompt="a photograph of a dog on a blue table", **QUICK)
    assert first.wait(timeout=60).cache_hits == ()
    second = client.edit(picture, target_prompt="a photograph of a cat on a blue table", **QUICK)
    assert set(second.wait(timeout=60).cache_hits) == {Stage.CAPTION, Stage.INVERT}


def test_edit_many_shares_the_inversion_and_the_seed(client: Client) -> None:
    targets = [f"a photograph of a {thing} on a purple table" for thing in ("pear", "lemon", "ball")]
    jobs = client.edit_many(SAMPLES / "05.png", targets, **QUICK)
    statuses = [job.wait(timeout=60) for job in jobs]
    assert len({status.request.params.seed for status in statuses}) == 1
    assert sum(Stage.INVERT not in status.cache_hits for status in statuses) == 1
    assert len({status.artifact_keys[Artifact.RESULT] for status in statuses}) == 3


def test_a_supplied_caption_skips_the_caption_stage_and_a_supplied_mask_the_mask_stage(client: Client) -> None:
    picture = Image.open(PICTURE)
    mask = Image.new("L", picture.size)
    mask.paste(255, (40, 0, 64, 64))
    job = client.edit(picture, mask=mask, caption="a photograph of a pear", target_prompt="cherries", **QUICK)
    result = job.result(timeout=60)
    assert result.status.stages == (Stage.EMBED, Stage.INVERT, Stage.EDIT)
    assert result.caption == "a photograph of a pear"
    assert result.mask.tobytes() == mask.tobytes()
    changed = (pixels(result.image) != pixels(picture)).any(axis=2)
    assert changed[:, 44:].any()
    assert not changed[:, :36].any()


def test_an_edit_uses_the_mask_of_its_preview(client: Client) -> None:
    asked = {**PEAR, **QUICK, "seed": secrets.randbelow(2**32)}
    preview = client.preview_mask(PICTURE, **asked).result(timeout=60)
    assert preview.status.stages == (Stage.EMBED, Stage.MASK)
    edit = client.edit(PICTURE, **asked).result(timeout=60)
    assert {Stage.EMBED, Stage.MASK} <= set(edit.status.cache_hits)
    assert edit.mask.tobytes() == preview.mask.tobytes()


def test_targets_that_differ_only_after_77_tokens_give_different_pictures(client: Client) -> None:
    scene = "a photograph of a pear on a green table and " * 8
    common = {**QUICK, "seed": secrets.randbelow(2**32), "source_prompt": scene + "a pear"}
    jobs = [client.edit(PICTURE, target_prompt=scene + end, **common) for end in ("some cherries", "a blue ball")]
    first, second = (job.result(timeout=60) for job in jobs)
    assert second.status.cache_hits == (Stage.INVERT,)
    assert (pixels(first.image) != pixels(second.image)).any()
    assert first.mask.tobytes() != second.mask.tobytes()


def test_a_text_that_the_model_does_not_take_fails_its_job_with_the_count(client: Client) -> None:
    job = client.edit(PICTURE, source_prompt="a pear", target_prompt="a pear " + "7" * 601, **QUICK)
    with pytest.raises(JobFailed, match="the target prompt has 603 tokens, and the model takes 600 at most") as caught:
        job.wait(timeout=60)
    assert (caught.value.stage, caught.value.error_code, caught.value.http_status) == ("embed", "text_too_long", 422)
    assert job.status().attempts == {Stage.EMBED: 1}
    assert job.status().refused_by == {}


@pytest.mark.parametrize("size", [(200, 120), (33, 90), (640, 480), (64, 8)])
def test_a_picture_of_any_size_keeps_its_size_and_its_background(client: Client, size: tuple[int, int]) -> None:
    picture = Image.open(PICTURE).convert("RGB").resize(size)
    result = client.edit(picture, **PEAR, **QUICK, seed=1).result(timeout=60)
    assert result.image.size == result.mask.size == size
    mask = np.asarray(result.mask) > 127
    cell = -(-max(size) // 16)
    outside = ~grown(mask, width=min(cell, 40))
    assert (pixels(result.image) == pixels(picture))[outside].all()


def test_another_process_can_save_a_result_and_link_to_it(client: Client, tmp_path) -> None:
    from urllib.request import urlopen

    job = client.edit(PICTURE, **PEAR, **QUICK, seed=2)
    job.wait(timeout=60)
    result = client.job(job.id).result(timeout=1)  # as another process would
    paths = result.save(tmp_path)
    assert json.loads(paths["manifest"].read_text())["request"]["params"]["seed"] == 2
    with urlopen(result.url(expires=60)) as response:
        assert response.read() == paths["result"].read_bytes()
    assert result.grid().width > 3 * 200


def test_the_same_idempotency_key_gives_the_first_job(client: Client) -> None:
    key = secrets.token_hex(8)
    jobs = [client.edit(PICTURE, **PEAR, **QUICK, idempotency_key=key) for _ in range(3)]
    assert len({job.id for job in jobs}) == 1
    assert jobs[0].wait(timeout=60).state is State.SUCCEEDED
    assert jobs[0].status().attempts == dict.fromkeys(jobs[0].status().stages, 1)


def test_a_picture_with_transparent_parts_keeps_its_alpha_outside_the_mask(client: Client) -> None:
    with Image.open(SAMPLES / SCENES[0]["picture"]) as scene:
        picture = scene.convert("RGBA")
    picture.paste((10, 200, 30, 0), (0, 0, 16, picture.height))
    picture.paste((200, 10, 30, 90), (16, 0, 20, picture.height))
    mask = Image.new("L", picture.size)
    mask.paste(255, (32, 32, 48, 48))
    result = client.edit(picture, mask=mask, **PEAR, **QUICK).result(timeout=120)
    assert result.image.mode == "RGBA"
    assert result.original.mode == "RGB"
    outside = ~grown(np.asarray(mask) > 127, 8)
    assert (np.asarray(result.image)[outside] == np.asarray(picture)[outside]).all()
    assert (np.asarray(result.image.getchannel("A"))[np.asarray(mask) > 127] == 255).all()
