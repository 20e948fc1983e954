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
    UnknownPreset,
    submission,
)
from diffedit.testing import memory_client
from tests.support.fake_service import TEXTS, FakeService, png


def test_every_option_has_one_place_in_the_request() -> None:
    own = {"mask", "idempotency_key", "preset"}
    places = [set(submission.TEXTS), set(submission.SERVICE), set(EditParams.model_fields), own]
    assert EditOptions.__annotations__.keys() == set().union(*places)
    assert len(EditOptions.__annotations__) == sum(map(len, places))
    # The image is an argument of its own, the method decides the goal, and the parameters are one field.
    assert set(EditRequest.model_fields) == {*submission.TEXTS, "mask", "image", "goal", "params"}
    assert set(JobOptions.model_fields) == {*submission.SERVICE, *submission.SET_BY_CLIENT}


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
    for name in texts.keys() - {"mask", "idempotency_key", "preset"}:
        assert inspect.cleandoc(texts[name]) == fields[name].description, name


def test_the_type_of_an_option_is_the_one_that_the_request_checks() -> None:
    types = get_type_hints(EditOptions)
    for name in EditParams.model_fields.keys() - {"profile", "mask_thresholding_ratio"}:
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


def test_an_edit_by_the_newer_defaults_of_a_profile_can_be_served_by_every_version() -> None:
    service = FakeService(profile="mine")
    service.serve("mine", profile_params={"concept_prompts": "caption", "feature_reuse": 3})
    status = service.client.edit(png(), source_concept="bowl", target_concept="basket").status()
    assert (status.request.params.concept_prompts, status.request.params.feature_reuse) == ("caption", 3)
    assert status.contract == 1


@pytest.mark.filterwarnings("ignore::diffedit.NoWorkerWarning")
def test_the_defaults_of_a_profile_remain_when_its_workers_have_gone() -> None:
    service = FakeService(profile="mine")
    service.serve("mine", profile_params={"num_inference_steps": 20})
    service.worker_registry.unregister("mine")
    assert service.client.edit(png(), **TEXTS).status().request.params.num_inference_steps == 20


PRESETS = {"draft": {"num_inference_steps": 15, "num_maps_per_mask": 5}}


def resolved(service: FakeService, **options: object) -> EditParams:
    return service.client.edit(png(), **TEXTS, **options).status().request.params


def test_a_preset_decides_the_parameters_that_are_not_given() -> None:
    service = FakeService()
    own = {"num_inference_steps": 25, "mask_cleanup": True, "feature_reuse": 3}
    service.serve("tiny", profile_params=own, profile_presets=PRESETS)
    guide = EditParams(profile="tiny", seed=1)
    assert resolved(service, preset="guide", seed=1) == guide
    assert resolved(service, seed=1) == resolved(service, preset="default", seed=1) == guide.model_copy(update=own)
    draft = {**own, **PRESETS["draft"]}
    assert resolved(service, preset="draft", seed=1) == guide.model_copy(update=draft)
    assert resolved(service, preset="draft", seed=1, num_inference_steps=50, strength=0.9) == guide.model_copy(
        update={**draft, "num_inference_steps": 50, "strength": 0.9}
    )


def test_each_edit_of_a_picture_may_have_its_own_preset() -> None:
    service = FakeService()
    service.serve("tiny", profile_presets=PRESETS)
    jobs = service.client.edit_many(png(), [{"preset": "guide"}, {}], **TEXTS, preset="draft")
    assert [job.status().request.params.num_inference_steps for job in jobs] == [50, 15]


@pytest.mark.filterwarnings("ignore::diffedit.NoWorkerWarning")
def test_the_presets_of_a_profile_remain_when_its_workers_have_gone() -> None:
    service = FakeService()
    service.serve("mine", profile_params={"strength": 0.7}, profile_presets=PRESETS)
    service.worker_registry.unregister("mine")
    params = resolved(service, profile="mine", preset="draft")
    assert (params.num_inference_steps, params.strength) == (15, 0.7)
    assert resolved(service, profile="mine", preset="guide").strength == 0.8
    with pytest.raises(UnknownPreset, match=r"profile mine has no preset 'fast'; known: guide, default, draft\."):
        resolved(service, profile="mine", preset="fast")


@pytest.mark.filterwarnings("ignore::diffedit.NoWorkerWarning")
def test_a_profile_that_nobody_ever_served_has_the_presets_of_every_profile() -> None:
    service = FakeService()
    assert resolved(service, profile="mine", preset="guide", seed=1) == EditParams(profile="mine", seed=1)
    with pytest.raises(UnknownPreset, match=r"profile mine has no preset 'draft'; known: guide, default\. Use one"):
        resolved(service, profile="mine", preset="draft")


def test_an_unknown_preset_is_refused_and_nothing_is_queued() -> None:
    service = FakeService()
    for name in ("drfat", "", "\ud800"):
        with pytest.raises(UnknownPreset, match=r"known: guide, default\. .*upgrade those before 0\.3\.0"):
            resolved(service, preset=name)
    for value in (None, 3, ["draft"]):
        with pytest.raises(InvalidRequest, match="preset: give the name of a preset"):
            resolved(service, preset=value)
    assert service.sent == []


def test_workers_of_two_versions_give_the_defaults_of_the_older_and_the_presets_of_the_newer() -> None:
    service = FakeService()
    service.worker_registry.unregister("tiny")
    service.serve("tiny", id="a", name="a@new", contract=2, profile_params={"strength": 0.7}, profile_presets=PRESETS)
    service.serve("tiny", id="b", name="b@old", contract=1, profile_params={"strength": 0.6})
    assert resolved(service).strength == 0.6
    draft = resolved(service, preset="draft")
    assert (draft.strength, draft.num_inference_steps) == (0.7, 15)


def test_a_value_of_a_preset_that_this_version_refuses_is_left_out() -> None:
    service = FakeService()
    service.serve("tiny", profile_presets={"draft": {"tiles": 3, "strength": 7, "num_inference_steps": 15}})
    draft = resolved(service, preset="draft")
    assert (draft.strength, draft.num_inference_steps) == (0.8, 15)


def test_the_double_for_programs_has_a_draft() -> None:
    memory_client().edit(png(), **TEXTS, preset="draft")


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
