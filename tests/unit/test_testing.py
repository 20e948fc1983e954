"""`diffedit.testing`: a program can end its jobs, and their results are like those of workers."""

import doctest
import json
from pathlib import Path

import pytest
from PIL import Image, ImageChops

from diffedit import (
    ArtifactError,
    BadPicture,
    Client,
    InvalidRequest,
    JobCancelled,
    JobFailed,
    Prompts,
    Stage,
    State,
    testing,
)
from tests.support.fake_service import TEXTS
from tests.support.images import gradient, half, same
from tests.support.png_text import read_text

PICTURE = gradient((32, 16))
EDITED = ImageChops.invert(PICTURE)
MASK = half("L", 0, 255)


@pytest.fixture
def client() -> Client:
    return testing.memory_client()


def test_the_example_of_the_module_works() -> None:
    failed, attempted = doctest.testmod(testing)
    assert attempted > 5
    assert failed == 0


def test_an_edit_that_succeeds_has_a_complete_result(client: Client, tmp_path: Path) -> None:
    job = client.edit(PICTURE, source_concept="bowl", target_concept="basket", seed=5)
    prompts = Prompts(source=("a bowl", "the bowl"), target=("a basket",))
    testing.succeed(job, EDITED, mask=MASK, caption="a bowl on a table", prompts=prompts)

    result = job.result(timeout=0)
    assert same(result.original, PICTURE) and same(result.image, EDITED) and same(result.mask, MASK)
    assert (result.caption, result.prompts) == ("a bowl on a table", prompts)
    assert result.manifest["request"] == job.status().request.model_dump(mode="json")
    assert result.manifest["texts"] == {"caption": result.caption, "prompts": prompts.model_dump(mode="json")}
    assert result.url(60).startswith("memory://artifacts/result/")
    for expires in (-5, 0, 10**9):
        with pytest.raises(InvalidRequest, match=r"1 to 604800 seconds \(7 days\)"):
            result.url(expires)
    paths = result.save(tmp_path)
    assert sorted(paths) == ["grid", "manifest", "mask", "result"]
    assert json.loads(read_text(paths["result"].read_bytes())["diffedit"]) == result.manifest
    status = job.status()
    assert (status.progress, status.stages, tuple(status.timings)) == (1.0, tuple(Stage), tuple(Stage))
    assert set(result.manifest) >= {"request", "texts", "artifacts", "models", "stages", "device", "software"}


def test_texts_of_the_request_are_kept(client: Client) -> None:
    job = client.edit(PICTURE, **TEXTS, mask=MASK)
    testing.succeed(job, caption="not used", prompts=Prompts(source=("not",), target=("used",)))
    result = job.result(timeout=0)
    expected = Prompts(source=(TEXTS["source_prompt"],), target=(TEXTS["target_prompt"],))
    assert (result.caption, result.prompts) == (TEXTS["source_prompt"], expected)
    assert result.manifest["texts"]["prompts"] == expected.model_dump(mode="json")
    assert same(result.mask, MASK)


@pytest.mark.parametrize(
    ("options", "prompts"),
    [
        ({"source_concept": "bowl", "target_concept": "basket"}, Prompts(source=("bowl",), target=("basket",))),
        ({"target_prompt": "a basket"}, Prompts(source=("a picture",), target=("a basket",))),
    ],
)
def test_the_defaults_follow_the_request(client: Client, options, prompts: Prompts) -> None:
    job = client.edit(PICTURE, **options)
    testing.succeed(job)
    result = job.result(timeout=0)
    assert same(result.image, PICTURE)
    assert result.mask.getextrema() == (255, 255)
    assert (result.caption, result.prompts) == ("a picture", prompts)


def test_a_mask_preview_has_a_mask_and_no_image(client: Client, tmp_path: Path) -> None:
    job = client.preview_mask(PICTURE, **TEXTS)
    testing.succeed(job, mask=MASK)
    result = job.result(timeout=0)
    assert same(result.mask, MASK)
    assert result.url().startswith("memory://artifacts/mask/")
    assert list(result.save(tmp_path)) == ["mask"]
    with pytest.raises(ArtifactError, match="goal was the mask"):
        result.image  # noqa: B018


def test_a_job_can_fail_in_any_stage(client: Client) -> None:
    first, later = (client.edit(PICTURE, **TEXTS) for _ in range(2))
    testing.fail(first, "out_of_memory", "too large")
    testing.fail(later, "empty_mask", "no difference", stage=Stage.MASK)
    for job, stage, code in ((first, "embed", "out_of_memory"), (later, "mask", "empty_mask")):
        with pytest.raises(JobFailed) as caught:
            job.result(timeout=0)
        assert (caught.value.stage, caught.value.error_code) == (stage, code)
    assert tuple(later.status().timings) == (Stage.EMBED,)


def test_what_cannot_be_is_refused(client: Client) -> None:
    job = client.edit(PICTURE, **TEXTS)
    with pytest.raises(InvalidRequest, match="does not need the stage caption"):
        testing.fail(job, "internal", "message", stage=Stage.CAPTION)
    with pytest.raises(BadPicture, match="selects nothing"):
        testing.succeed(job, mask=Image.new("L", PICTURE.size))
    assert job.status().state is State.QUEUED
    job.cancel()
    for end in (lambda: testing.succeed(job), lambda: testing.fail(job, "internal", "message")):
        with pytest.raises(InvalidRequest, match="ended already; its state is cancelled"):
            end()
    with pytest.raises(JobCancelled):
        job.wait(timeout=0)


def test_the_client_serves_one_profile_without_a_time_limit() -> None:
    client = testing.memory_client("mine")
    assert client.edit(PICTURE, **TEXTS).status().request.params.profile == "mine"
    assert client.health().ok


def test_a_job_of_real_services_cannot_be_ended(client: Client) -> None:
    job = client.edit(PICTURE, **TEXTS)
    job._job_store = object()
    for end in (lambda: testing.succeed(job), lambda: testing.fail(job, "empty_mask", "no difference")):
        with pytest.raises(InvalidRequest, match="only a worker"):
            end()


def test_a_result_has_the_size_of_the_picture(client: Client) -> None:
    job = client.edit(PICTURE, **TEXTS)
    with pytest.raises(BadPicture, match="the same size"):
        testing.succeed(job, Image.new("RGB", (9, 9)))
    with pytest.raises(BadPicture, match="the same size"):
        testing.succeed(job, mask=Image.new("L", (9, 9), 255))
