"""The options of an edit: their names, the defaults of a profile, and where the warning about workers points."""

import ast
import inspect
import warnings
from itertools import pairwise
from typing import get_args, get_type_hints

import pytest

from diffedit import (
    Client,
    EditOptions,
    EditParams,
    EditRequest,
    InvalidRequest,
    JobOptions,
    Lane,
    NoWorkerWarning,
    submission,
)
from diffedit.contract.versions import needed_contract
from diffedit.testing import memory_client
from tests.support.fake_service import TEXTS, FakeService, png


def test_every_option_has_one_place_in_the_request() -> None:
    own = {"mask", "idempotency_key"}
    places = [set(submission.TEXTS), set(submission.SERVICE), set(EditParams.model_fields), own]
    assert EditOptions.__annotations__.keys() == set().union(*places)
    assert len(EditOptions.__annotations__) == sum(map(len, places))
    # The image is an argument of its own, the method decides the goal, and the parameters are one field.
    assert set(EditRequest.model_fields) == {*submission.TEXTS, "mask", "image", "goal", "params"}
    assert set(JobOptions.model_fields) == set(submission.SERVICE)


def test_the_text_of_an_option_is_the_one_of_the_field() -> None:
    (definition,) = ast.parse(inspect.getsource(EditOptions)).body
    assert isinstance(definition, ast.ClassDef)
    texts = {
        field.target.id: text.value.value
        for field, text in pairwise(definition.body)
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)
        if isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant)
    }
    assert texts.keys() == EditOptions.__annotations__.keys()
    fields = EditRequest.model_fields | EditParams.model_fields | JobOptions.model_fields
    for name in texts.keys() - {"mask", "idempotency_key"}:
        assert inspect.cleandoc(texts[name]) == fields[name].description, name


def test_the_type_of_an_option_is_the_one_that_the_request_checks() -> None:
    types = get_type_hints(EditOptions)
    for name in ("num_inference_steps", "strength", "guidance_scale", "mask_cleanup", "seed", "scheduler"):
        assert types[name] == EditParams.model_fields[name].annotation, name
    for name in ("start_timeout", "deadline"):
        assert types[name] == JobOptions.model_fields[name].annotation, name
    assert {value for part in get_args(types["lane"]) for value in get_args(part)} == {lane.value for lane in Lane}


@pytest.mark.filterwarnings("ignore::diffedit.NoWorkerWarning")
def test_the_defaults_of_a_profile_are_those_of_its_live_worker() -> None:
    service = FakeService(profile="mine")
    service.serve("mine", profile_params={"num_inference_steps": 20, "mask_cleanup": True, "strength": 0.6})
    params = service.client.edit(png(), **TEXTS, strength=0.7).status().request.params
    assert (params.profile, params.num_inference_steps, params.mask_cleanup) == ("mine", 20, True)
    assert params.strength == 0.7  # what the user gives comes before the profile's default
    assert service.client.edit(png(), **TEXTS, profile="other").status().request.params.num_inference_steps == 50


def test_an_edit_with_prompts_has_no_default_that_only_concepts_use() -> None:
    service = FakeService(profile="mine")
    service.serve("mine", profile_params={"concept_prompts": "caption"})
    concepts = {"source_concept": "bowl", "target_concept": "basket"}
    assert service.client.edit(png(), **concepts).status().request.params.concept_prompts == "caption"
    for texts in (TEXTS, {"target_prompt": "a bowl"}, {**TEXTS, "source_concept": None}):
        assert needed_contract(service.client.edit(png(), **texts).status().request) == 1


@pytest.mark.filterwarnings("ignore::diffedit.NoWorkerWarning")
def test_the_defaults_of_a_profile_remain_when_its_workers_have_gone() -> None:
    service = FakeService(profile="mine")
    service.serve("mine", profile_params={"num_inference_steps": 20})
    service.worker_registry.unregister("mine")
    assert service.client.edit(png(), **TEXTS).status().request.params.num_inference_steps == 20


def test_a_profile_without_a_valid_name_is_refused_and_not_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    service = FakeService()
    monkeypatch.setattr(service.worker_registry, "profile_params", lambda profile: pytest.fail("looked up"))
    for name in ("../x", "", "\ud800", ["tiny"], None):
        with pytest.raises(InvalidRequest, match="profile"):
            service.client.edit(png(), **TEXTS, profile=name)


def warned_lines(client: Client) -> list[tuple[str, int]]:
    """Call each public method that queues edits, and return where its warnings point."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        client.edit(png(), **TEXTS)
        client.edit_many(png(), ["a bowl of pears", {"target_prompt": "a bowl of lemons"}])
        client.preview_mask(png(), **TEXTS)
    assert {warning.category for warning in caught} == {NoWorkerWarning}
    return [(warning.filename, warning.lineno) for warning in caught]


def test_the_warning_points_at_the_line_of_the_user() -> None:
    service = FakeService()
    service.worker_registry.unregister("tiny")
    first = warned_lines.__code__.co_firstlineno
    assert warned_lines(service.client) == [(__file__, first + line) for line in (4, 5, 6)]


def test_edits_that_wait_for_different_queues_give_a_warning_each() -> None:
    service = FakeService()
    with pytest.warns(NoWorkerWarning) as caught:
        service.client.edit_many(png(), [{"profile": name} for name in ("a", "a", "b")], **TEXTS)
    assert [str(warning.message).split(".")[1] for warning in caught] == ["a", "b"]


def test_no_warning_while_a_worker_serves_the_profile(recwarn: pytest.WarningsRecorder) -> None:
    memory_client().edit(png(), **TEXTS)
    assert list(recwarn) == []


def test_an_error_names_the_field_and_all_forms_that_it_takes() -> None:
    with pytest.raises(InvalidRequest) as caught:
        FakeService().client.edit(png(), **TEXTS, mask_thresholding_ratio="Otsu")
    assert str(caught.value).startswith("mask_thresholding_ratio: ")
    assert "valid number or " in str(caught.value) and "'otsu'" in str(caught.value)
