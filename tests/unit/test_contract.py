"""The contract: planning, validation, and the way over the wire."""

import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from diffedit.contract.job import Job
from diffedit.contract.request import MAX_REQUEST_BYTES, TUNED, EditParams, EditRequest
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
def test_a_plan_runs_from_what_is_there_to_the_goal_and_does_nothing_else(goal: Artifact) -> None:
    for have in ALL_HAVES:
        stages = plan(have, goal)
        # Sound: every stage finds what it needs, in the order of running.
        filled = set(have)
        for stage in stages:
            assert set(stage.needs) <= filled
            filled |= set(stage.gives)
        assert goal in filled
        # Minimal: leave any stage out, and the goal is out of reach.
        for left_out in stages:
            reached = set(have)
            for stage in stages:
                if stage is not left_out and set(stage.needs) <= reached:
                    reached |= set(stage.gives)
            assert goal not in reached


@pytest.mark.parametrize("goal", [Artifact.RESULT, Artifact.MASK])
def test_without_a_picture_there_is_no_plan(goal: Artifact) -> None:
    with pytest.raises(InvalidRequest, match="image is missing"):
        plan(frozenset(), goal)


def test_every_slot_but_the_picture_has_one_maker() -> None:
    given_slots = [artifact for stage in Stage for artifact in stage.gives]
    assert sorted(given_slots) == sorted(set(Artifact) - {Artifact.IMAGE})
    assert len(STAGE_OF) == len(given_slots)


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
def test_what_is_supplied_drops_its_stage(way: str) -> None:
    fields, stages = WAYS_OF_ASKING[way]
    assert a_request(**fields).stages == stages


def test_the_source_prompt_serves_as_caption_unless_there_is_one() -> None:
    assert a_request().given_caption == "a bowl of fruits"
    assert a_request(caption="fruits").given_caption == "fruits"
    assert a_request(target_prompt="x").given_caption is None


BAD_PARAMS = {
    "num_inference_steps": [0, -1, 501, 1.5, "many", None],
    "strength": [0, -0.1, 1.01, float("nan"), "strong"],
    "guidance_scale": [0.5, 51, float("inf")],
    "inversion_guidance_scale": [0, 51],
    "num_maps_per_mask": [0, 101],
    "mask_encode_strength": [0, 1.1],
    "mask_thresholding_ratio": [0, -3, 101, "auto"],
    "mask_cleanup": ["perhaps", 2],
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
    "nothing asked": ({"source_prompt": None, "target_prompt": None}, "target_prompt"),
    "source only": ({"source_prompt": "a", "target_prompt": None}, "target_prompt"),
    "prompts and concepts": ({"source_concept": "a", "target_concept": "b", "target_prompt": "c"}, "not both"),
    "half a concept pair": ({"source_concept": "a"}, "pairs"),
    "same prompts": ({"source_prompt": "A bowl", "target_prompt": "a  bowl"}, "nothing to change"),
    "same as the caption": ({"target_prompt": "a bowl", "caption": "a bowl"}, "nothing to change"),
    "empty": ({"source_prompt": "a", "target_prompt": "  "}, "empty"),
    "too long": ({"source_prompt": "a", "target_prompt": "b" * 1001}, "1000"),
    "too long together": ({"source_prompt": "\N{PEAR}" * 300, "target_prompt": "b"}, "too long together"),
    "escape sequence": ({"source_prompt": "a\x1b[2J", "target_prompt": "b"}, "control"),
    "mask and preview": ({"mask": MASK, "goal": "mask"}, "leave one out"),
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


def test_a_model_may_have_defaults_of_its_own_and_what_is_asked_wins() -> None:
    guide, tiny = EditParams(profile="sd21", seed=1), EditParams(profile="tiny", seed=1)
    differs = {name: value for name, value in tiny.model_dump().items() if getattr(guide, name) != value}
    assert differs == {"profile": "tiny", **TUNED["tiny"]}
    own = {name: getattr(guide, name) for name in TUNED["tiny"]}
    assert EditParams(profile="tiny", seed=1, **own).model_dump() == {**guide.model_dump(), "profile": "tiny"}


def test_the_seed_is_resolved_when_the_parameters_are_made() -> None:
    assert EditParams(profile="tiny").seed != EditParams(profile="tiny").seed


texts = st.text(st.characters(exclude_categories=("C", "Z")), min_size=1, max_size=60)
all_params = st.builds(
    EditParams,
    profile=st.just("tiny"),
    num_inference_steps=st.integers(10, 500),
    strength=st.floats(0.1, 1),
    guidance_scale=st.floats(1, 50),
    inversion_guidance_scale=st.floats(1, 50),
    num_maps_per_mask=st.integers(1, 100),
    mask_encode_strength=st.floats(0.1, 1),
    mask_thresholding_ratio=st.floats(0.1, 100) | st.just("otsu"),
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
def test_a_job_survives_the_wire(way, params, caption, negative, own_mask) -> None:
    request = EditRequest(
        image=IMAGE, mask=MASK if own_mask else None, caption=caption, negative_prompt=negative, params=params, **way
    )
    job = Job(id="0" * 32, request=request).with_artifacts({Artifact.CAPTION: f"artifacts/caption/ab/{'ab' * 32}.json"})
    assert Job.model_validate_json(job.model_dump_json()) == job
    assert len(json.dumps(request.model_dump(mode="json"))) <= MAX_REQUEST_BYTES
