"""The contract: planning, validation, and serialization."""

import itertools
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from diffedit import EditOptions
from diffedit.contract.job import Job, JobOptions
from diffedit.contract.request import MAX_REQUEST_BYTES, EditParams, EditRequest
from diffedit.contract.stages import STAGE_OF, Artifact, Stage, plan
from diffedit.contract.validation import explain
from diffedit.errors import InvalidRequest
from tests.support.factories import IMAGE, MASK, a_request

ALL_HAVES = [
    frozenset(have) | {Artifact.IMAGE}
    for size in range(len(Artifact))
    for have in itertools.combinations([artifact for artifact in Artifact if artifact is not Artifact.IMAGE], size)
]


@pytest.mark.parametrize("goal", list(Artifact))
def test_a_plan_leads_to_the_goal_and_has_no_needless_stage(goal: Artifact) -> None:
    for have in ALL_HAVES:
        stages = plan(have, goal)
        # Sound: every stage finds what it needs, in running order.
        filled = set(have)
        for stage in stages:
            assert set(stage.needs) <= filled
            filled |= set(stage.gives)
        assert goal in filled
        # Minimal: without any one of the stages, the goal is not reached.
        for left_out in stages:
            reached = set(have)
            for stage in stages:
                if stage is not left_out and set(stage.needs) <= reached:
                    reached |= set(stage.gives)
            assert goal not in reached


@pytest.mark.parametrize("goal", [Artifact.RESULT, Artifact.MASK])
def test_a_plan_needs_the_picture(goal: Artifact) -> None:
    with pytest.raises(InvalidRequest, match="image is missing"):
        plan(frozenset(), goal)


def test_every_artifact_but_the_picture_is_made_by_one_stage() -> None:
    made = [artifact for stage in Stage for artifact in stage.gives]
    assert sorted(made) == sorted(set(Artifact) - {Artifact.IMAGE})
    assert len(STAGE_OF) == len(made)


CAPTION, PROMPTS, EMBED, MASK_STAGE, INVERT, EDIT = Stage
WAYS_OF_ASKING = {
    "two prompts": ({}, (EMBED, MASK_STAGE, INVERT, EDIT)),
    "two concepts": (
        {"source_concept": "bowl", "target_concept": "basket"},
        (CAPTION, PROMPTS, EMBED, MASK_STAGE, INVERT, EDIT),
    ),
    "two concepts and a caption": (
        {"source_concept": "bowl", "target_concept": "basket", "caption": "a bowl"},
        (PROMPTS, EMBED, MASK_STAGE, INVERT, EDIT),
    ),
    "a target alone": ({"target_prompt": "a basket"}, (CAPTION, PROMPTS, EMBED, MASK_STAGE, INVERT, EDIT)),
    "a target and a caption": (
        {"target_prompt": "a basket", "caption": "a bowl"},
        (EMBED, MASK_STAGE, INVERT, EDIT),
    ),
    "own mask": ({"mask": MASK}, (EMBED, INVERT, EDIT)),
    "mask preview": ({"goal": "mask"}, (EMBED, MASK_STAGE)),
    "mask preview from concepts": (
        {"goal": "mask", "source_concept": "bowl", "target_concept": "basket"},
        (CAPTION, PROMPTS, EMBED, MASK_STAGE),
    ),
}


@pytest.mark.parametrize("way", WAYS_OF_ASKING)
def test_a_provided_artifact_drops_its_stage(way: str) -> None:
    fields, stages = WAYS_OF_ASKING[way]
    assert a_request(**fields).stages == stages


def test_the_source_prompt_is_the_caption_unless_one_is_given() -> None:
    assert a_request().given_caption == "a bowl of fruits"
    assert a_request(caption="fruits").given_caption == "fruits"
    assert a_request(target_prompt="x").given_caption is None


BAD_PARAMS = {
    "num_inference_steps": [0, -1, 501, 1.5, "many", None],
    "strength": [0, -0.1, 1.01, float("nan"), "strong"],
    "guidance_scale": [0.5, 51, float("inf")],
    "guidance_interval": [0, -0.5, 1.01, float("nan"), "half"],
    "inversion_guidance_scale": [0, 51],
    "feature_reuse": [0, -1, 11, 1.5, "often", None],
    "inversion_feature_reuse": [0, 11, 2.5],
    "num_maps_per_mask": [0, 101],
    "mask_encode_strength": [0, 1.1],
    "mask_thresholding_ratio": [0, -3, 101, "auto"],
    "mask_cleanup": ["perhaps", 2],
    "concept_prompts": ["captions", "", None],
    "num_prompts": [0, 65],
    "seed": [-1, 2**32, "lucky"],
    "scheduler": ["euler", ""],
    "profile": ["", "../etc", "A", "x" * 33, "a b", None, ["tiny"]],
    "num_images": [1],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in BAD_PARAMS.items() for value in values])
def test_bad_parameters_are_refused_by_name(name: str, value: object) -> None:
    with pytest.raises(ValidationError) as caught:
        EditParams(**{"profile": "tiny", name: value})
    assert name in explain(caught.value)


BAD_REQUESTS = {
    "nothing to change": ({"source_prompt": None, "target_prompt": None}, "target_prompt"),
    "source only": ({"source_prompt": "a", "target_prompt": None}, "target_prompt"),
    "prompts and concepts": ({"source_concept": "a", "target_concept": "b", "target_prompt": "c"}, "not both"),
    "half a concept pair": ({"source_concept": "a"}, "pairs"),
    "same prompts": ({"source_prompt": "A bowl", "target_prompt": "a  bowl"}, "nothing to change"),
    "same as the caption": ({"target_prompt": "a bowl", "caption": "a bowl"}, "nothing to change"),
    "empty": ({"source_prompt": "a", "target_prompt": "  "}, "empty"),
    "too long": ({"source_prompt": "a", "target_prompt": "b" * 1001}, "1000"),
    "too long together": ({"source_prompt": "\N{PEAR}" * 300, "target_prompt": "b"}, "too long together"),
    "escape sequence": ({"source_prompt": "a\x1b[2J", "target_prompt": "b"}, "control"),
    "mask and preview": ({"mask": MASK, "goal": "mask"}, "nothing to compute"),
    "other goal": ({"goal": "caption"}, "goal"),
    "unknown field": ({"prompt": "a"}, "prompt"),
    "key outside the bucket's folders": ({"image": "../secrets/passwd.png"}, "image"),
    "key of a pickle": ({"image": f"inputs/ab/{'ab' * 32}.pkl"}, "image"),
    "url instead of a key": ({"image": "http://169.254.169.254/x.png"}, "image"),
    "too few steps": ({"params": {"num_inference_steps": 1, "strength": 0.5}}, "below one step"),
}


@pytest.mark.parametrize("case", BAD_REQUESTS)
def test_bad_requests_are_refused_with_the_reason(case: str) -> None:
    fields, reason = BAD_REQUESTS[case]
    with pytest.raises(ValidationError) as caught:
        a_request(**fields)
    assert reason in explain(caught.value)


def test_white_space_in_texts_is_folded() -> None:
    assert a_request(target_prompt=" a\n bowl\t of  pears ").target_prompt == "a bowl of pears"


def test_given_parameters_have_priority_over_the_profiles_defaults_and_those_over_the_guides() -> None:
    defaults = {"mask_thresholding_ratio": "otsu", "mask_cleanup": True, "num_inference_steps": 20}
    params = EditParams.resolve("mine", defaults, {"num_inference_steps": 30, "seed": 1})
    guide = EditParams(profile="mine", seed=1)
    changed = {name: value for name, value in params.model_dump().items() if getattr(guide, name) != value}
    assert changed == {"mask_thresholding_ratio": "otsu", "mask_cleanup": True, "num_inference_steps": 30}
    own = {name: getattr(guide, name) for name in defaults}
    assert EditParams.resolve("mine", defaults, {"seed": 1, **own}) == guide


def test_a_default_that_this_version_does_not_know_is_ignored() -> None:
    assert EditParams.resolve("mine", {"new_in_the_next_version": 3}, {"seed": 1}) == EditParams(profile="mine", seed=1)


def test_no_profile_has_defaults_by_its_name_alone() -> None:
    guide = EditParams(profile="sd21", seed=1).model_dump()
    assert EditParams(profile="tiny", seed=1).model_dump() == {**guide, "profile": "tiny"}


@pytest.mark.parametrize(
    ("name", "suggestion"),
    [
        ("num_inference_step", "; did you mean num_inference_steps?"),
        ("guidance-scale", "; did you mean guidance_scale?"),
        ("sorce_prompt", "; did you mean source_prompt?"),
        ("start_timeot", "; did you mean start_timeout?"),
        ("zzz", ""),
    ],
)
def test_an_unknown_parameter_suggests_the_nearest_name(name: str, suggestion: str) -> None:
    with pytest.raises(ValidationError) as caught:
        EditRequest.model_validate({"image": IMAGE, "target_prompt": "a", "params": {"profile": "tiny", name: 1}})
    assert explain(caught.value, EditOptions.__annotations__) == f"{name}: unknown parameter{suggestion}"
    with pytest.raises(ValidationError) as caught:
        JobOptions.model_validate({name: 1})
    assert explain(caught.value, EditOptions.__annotations__) == f"{name}: unknown parameter{suggestion}"
    assert explain(caught.value) == f"{name}: unknown parameter"


def test_numbers_of_numpy_are_numbers() -> None:
    params = EditParams(
        profile="tiny",
        num_inference_steps=np.int64(7),
        strength=np.float32(0.5),
        guidance_scale=np.int16(3),
        mask_thresholding_ratio=np.float64(2),
        mask_cleanup=np.True_,
        seed=np.uint32(5),
    )
    values = params.model_dump()
    assert (
        values
        == EditParams(
            profile="tiny",
            num_inference_steps=7,
            strength=0.5,
            guidance_scale=3,
            mask_thresholding_ratio=2.0,
            mask_cleanup=True,
            seed=5,
        ).model_dump()
    )
    assert {type(value) for value in values.values()} == {int, float, bool, str}
    options = JobOptions(start_timeout=np.int32(4), deadline=np.float32(2.5))
    assert options.model_dump_json() == JobOptions(start_timeout=4, deadline=2.5).model_dump_json()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("strength", np.True_),
        ("strength", np.float32("nan")),
        ("guidance_scale", np.float64("inf")),
        ("num_inference_steps", np.float32(5)),
        ("num_inference_steps", np.True_),
        ("num_inference_steps", True),
        ("num_inference_steps", "5"),
        ("mask_cleanup", np.int8(1)),
        ("strength", 10**400),
    ],
)
def test_bools_texts_and_infinities_are_no_numbers(name: str, value: object) -> None:
    with pytest.raises(ValidationError) as caught:
        EditParams(**{"profile": "tiny", name: value})
    assert name in explain(caught.value)


@pytest.mark.parametrize("value", [True, np.True_, "5", float("inf"), np.float32("nan"), 0, 10**9])
@pytest.mark.parametrize("name", ["start_timeout", "deadline"])
def test_a_time_limit_is_a_number_of_seconds(name: str, value: object) -> None:
    with pytest.raises(ValidationError) as caught:
        JobOptions(**{name: value})
    assert name in explain(caught.value)


def test_the_seed_is_resolved_when_the_parameters_are_made() -> None:
    assert EditParams(profile="tiny").seed != EditParams(profile="tiny").seed


texts = st.text(st.characters(exclude_categories=("C", "Z")), min_size=1, max_size=60)
all_params = st.builds(
    EditParams,
    profile=st.just("tiny"),
    num_inference_steps=st.integers(10, 500),
    strength=st.floats(0.1, 1),
    guidance_scale=st.floats(1, 50),
    guidance_interval=st.floats(0.01, 1),
    feature_reuse=st.integers(1, 10),
    inversion_feature_reuse=st.integers(1, 10),
    inversion_guidance_scale=st.floats(1, 50),
    num_maps_per_mask=st.integers(1, 100),
    mask_encode_strength=st.floats(0.1, 1),
    mask_thresholding_ratio=st.floats(0.1, 100) | st.just("otsu"),
    concept_prompts=st.sampled_from(["caption", "sentences"]),
    num_prompts=st.integers(1, 64),
    seed=st.integers(0, 2**32 - 1),
)
ways = st.one_of(
    st.fixed_dictionaries(
        {"target_prompt": texts.map("x".__add__)}, optional={"source_prompt": texts.map("y".__add__)}
    ),
    st.fixed_dictionaries({"source_concept": texts.map("y".__add__), "target_concept": texts.map("x".__add__)}),
)


@given(ways, all_params, st.none() | texts.map("y".__add__), st.none() | texts, st.booleans())
def test_a_job_survives_serialization(way, params, caption, negative, own_mask) -> None:
    request = EditRequest(
        image=IMAGE, mask=MASK if own_mask else None, caption=caption, negative_prompt=negative, params=params, **way
    )
    job = Job(id="0" * 32, request=request).with_artifacts({Artifact.CAPTION: f"artifacts/caption/ab/{'ab' * 32}.json"})
    assert Job.model_validate_json(job.model_dump_json()) == job
    assert len(json.dumps(request.model_dump(mode="json"))) <= MAX_REQUEST_BYTES
