"""What a result tells of the request that it was made for: the request of the job that asks, never another job's."""

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from diffedit import EditRequest, JobHandle
from diffedit.contract.object_keys import manifest_key
from diffedit.contract.request import EditParams
from diffedit.contract.stages import Artifact
from diffedit.errors import ArtifactError
from diffedit.pictures import PROVENANCE, encode_png, read_result
from diffedit.provenance import with_manifest
from diffedit_worker.models.loading import Models
from diffedit_worker.models.profiles import load_profiles
from diffedit_worker.pipeline import effective_request
from tests.support.factories import a_request
from tests.support.icc_profiles import SRGB
from tests.support.images import gradient
from tests.support.inline_worker import TEXTS, InlineWorker, tiny
from tests.support.png_text import read_text

DRAWN = Image.new("L", (64, 64), 255)
OTHER: dict[str, Any] = {
    "num_inference_steps": 4,
    "strength": 0.9,
    "guidance_scale": 3.0,
    "guidance_interval": 0.5,
    "inversion_guidance_scale": 2.0,
    "feature_reuse": 2,
    "inversion_feature_reuse": 3,
    "num_maps_per_mask": 2,
    "mask_encode_strength": 0.6,
    "mask_thresholding_ratio": 2.5,
    "mask_cleanup": True,
    "concept_prompts": "caption",
    "num_prompts": 3,
    "seed": 4_242_424_242,
    "scheduler": "dpmsolver++",
}
"""Another value of each parameter than `InlineWorker.edit` has."""
CONCEPTS: dict[str, Any] = {
    **dict.fromkeys(TEXTS),
    "source_concept": "pear",
    "target_concept": "cherries",
    "num_prompts": 2,
    "mask": DRAWN,
}
ASKED: dict[str, dict[str, Any]] = {
    "two prompts": {},
    "a drawn mask": {"mask": DRAWN},
    "a caption for both": {"source_prompt": None, "caption": TEXTS["source_prompt"], "mask": DRAWN},
    "a target": {"source_prompt": None, "mask": DRAWN},
    "two concepts, by sentences": {**CONCEPTS, "concept_prompts": "sentences"},
    "two concepts, by the caption": {**CONCEPTS, "concept_prompts": "caption"},
}


@pytest.fixture
def worker() -> InlineWorker:
    return InlineWorker()


def stored(worker: InlineWorker, job: JobHandle) -> tuple[str, bytes, bytes]:
    """Return the key of a result, its file, and the manifest beside it."""
    key = job.status().artifact_keys[Artifact.RESULT]
    return key, worker.object_store.get(key), worker.object_store.get(manifest_key(key))


def test_there_is_another_value_of_each_parameter() -> None:
    assert set(OTHER) == set(EditParams.model_fields) - {"profile"}


@cache
def first_of(asked: str) -> tuple[str, bytes, bytes]:
    """Return what the first of two jobs stores."""
    worker = InlineWorker()
    return stored(worker, worker.edit(**ASKED[asked]))


@pytest.mark.parametrize("asked", ASKED)
@pytest.mark.parametrize("name", OTHER)
def test_jobs_with_one_result_would_store_the_same_bytes(worker: InlineWorker, asked: str, name: str) -> None:
    first = first_of(asked)
    second = stored(worker, worker.edit(**{**ASKED[asked], name: OTHER[name]}))
    assert (first[0] == second[0]) == (first == second)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"source_prompt": "a pear"}, {"caption": "a pear"}),
        ({"source_prompt": "a pear"}, {"source_prompt": "a  pear ", "caption": "a pear"}),
    ],
)
def test_however_a_text_was_given_the_same_bytes_are_stored(first: dict[str, str], second: dict[str, str]) -> None:
    workers = InlineWorker(), InlineWorker()
    results = [
        stored(each, each.edit(**{"source_prompt": None, **given}))
        for each, given in zip(workers, (first, second), strict=True)
    ]
    assert results[0] == results[1]


def test_a_caption_beside_another_source_is_kept(worker: InlineWorker) -> None:
    request = a_request(caption="a bowl on a table")
    assert effective_request(request) == request.model_copy(update={"params": effective_request(request).params})


@pytest.mark.parametrize("asked", ASKED)
def test_the_effective_request_has_the_same_result(worker: InlineWorker, asked: str) -> None:
    job = worker.edit(**{**ASKED[asked], "seed": 5})
    effective = json.loads(stored(worker, job)[2])["request"]
    request = EditRequest.model_validate(effective)
    assert request == effective_request(request)
    assert request.provided == job.status().request.provided
    texts = {name: getattr(request, name) for name in (*TEXTS, "source_concept", "target_concept", "caption")}
    again = worker.edit(mask=ASKED[asked].get("mask"), **texts, **request.params.model_dump()).status()
    assert again.cache_hits == again.stages
    assert again.artifact_keys == job.status().artifact_keys


def test_a_found_result_tells_the_request_of_the_job_that_asks(worker: InlineWorker, tmp_path: Path) -> None:
    first = worker.edit(mask=DRAWN, seed=1_111_111_111, num_maps_per_mask=9, caption=TEXTS["source_prompt"])
    second = worker.edit(mask=DRAWN, seed=2_222_222_222)
    assert second.status().cache_hits == second.status().stages
    for job, other in ((first, second), (second, first)):
        result, request = job.result(timeout=1), job.status().request.model_dump(mode="json")
        assert result.manifest["request"] == request
        paths = result.save(tmp_path / job.id)
        assert json.loads(paths["manifest"].read_text()) == result.manifest
        assert json.loads(read_text(paths["result"].read_bytes())[PROVENANCE]) == result.manifest
        assert Image.open(paths["result"]).tobytes() == result.image.tobytes()
        for data in (*stored(worker, job)[1:], *(path.read_bytes() for path in paths.values())):
            assert str(other.status().request.params.seed).encode() not in data


@pytest.mark.filterwarnings("ignore::diffedit.NoWorkerWarning")
def test_a_profile_with_the_same_models_finds_the_result(worker: InlineWorker) -> None:
    twin = Models(load_profiles()["tiny"], device="cpu")
    worker.models_of = lambda profile: twin if profile == "twin" else tiny(profile)
    worker.restart()
    first = worker.edit()
    second = worker.edit(**{**first.status().request.params.model_dump(), "profile": "twin"})
    assert second.status().cache_hits == second.status().stages
    assert second.result(timeout=1).manifest["request"]["params"]["profile"] == "twin"
    assert first.result(timeout=1).manifest["request"]["params"]["profile"] == "tiny"


def test_a_file_of_0_2_0_with_the_whole_request_of_another_job_shows_nothing_of_it(
    worker: InlineWorker, tmp_path: Path
) -> None:
    job = worker.edit(mask=DRAWN, seed=7)
    key, png, beside = stored(worker, job)
    manifest = json.loads(beside)
    manifest["request"]["params"]["seed"] = 1_111_111_111
    worker.object_store.put(key, with_manifest(png, manifest))
    worker.job_store._state.contents.clear()
    record = worker.job_store._state.records[job.id]
    del record["content:result"]
    result = job.result(timeout=1)
    assert result.manifest["request"]["params"]["seed"] == 7
    for path in result.save(tmp_path).values():
        assert b"1111111111" not in path.read_bytes()


@pytest.mark.parametrize("text", [{}, {PROVENANCE: ""}, {PROVENANCE: "{"}, {PROVENANCE: "[1]"}, {PROVENANCE: '"x"'}])
def test_a_result_without_a_readable_manifest_is_damaged(worker: InlineWorker, text: dict[str, str]) -> None:
    job = worker.edit()
    key, png, _ = stored(worker, job)
    worker.object_store.put(key, encode_png(read_result(png).image, text=text))
    worker.job_store._state.contents.clear()
    del worker.job_store._state.records[job.id]["content:result"]
    with pytest.raises(ArtifactError, match="retry"):
        _ = job.result(timeout=1).manifest


@pytest.mark.parametrize("made", [lambda image: image, lambda image: image.convert("RGBA"), Image.Image.copy])
def test_a_manifest_is_exchanged_and_the_picture_stays(made: Callable[[Image.Image], Image.Image]) -> None:
    image = made(gradient((40, 30)))
    png = encode_png(image, icc_profile=SRGB, text={PROVENANCE: '{"old": 1}', "Software": "other"})
    changed = with_manifest(png + b"after the end", {"new": "Äpfel, 梨"})
    result = read_result(changed)
    assert {name: json.loads(text) for name, text in result.text.items()} == {PROVENANCE: {"new": "Äpfel, 梨"}}
    before = read_result(png)
    assert (result.image.tobytes(), result.icc_profile) == (before.image.tobytes(), before.icc_profile)
    assert b"other" not in changed and b"after" not in changed


@pytest.mark.parametrize("length", [0, 8, 20, 100])
def test_a_file_that_ends_early_is_refused(length: int) -> None:
    with pytest.raises(ValueError):
        with_manifest(encode_png(gradient((40, 30)))[:length], {})
