"""Contract numbers, and JSON that other versions can read."""

import json
from typing import Annotated, Any

import pytest
from pydantic import ValidationError

from diffedit.contract.request import MAX_REQUEST_BYTES, EditParams, EditRequest
from diffedit.contract.validation import Frozen
from diffedit.contract.versions import CONTRACT, Since, dump_json, needed_contract
from diffedit.errors import BadRecord
from diffedit.jobs.records import new_fields, status_of
from diffedit.jobs.workers import WorkerInfo, read_info, read_params
from tests.support.factories import a_job, a_request, a_worker


class NewParams(EditParams):
    tiles: Annotated[int, Since(CONTRACT + 1)] = 1
    overlap: Annotated[float | None, Since(CONTRACT + 2)] = None


class NewRequest(EditRequest):
    params: NewParams
    style: Annotated[str | None, Since(CONTRACT + 1)] = None


def a_new_request(params: dict[str, object] | None = None, **fields: object) -> NewRequest:
    old = a_request().model_dump()
    return NewRequest.model_validate({**old, **fields, "params": {**old["params"], **(params or {})}})


def test_a_job_of_today_can_be_served_by_the_first_contract() -> None:
    job = a_job()
    assert job.contract == 1
    written, whole = (json.loads(text) for text in (dump_json(job.request), job.request.model_dump_json()))
    newer = {"guidance_interval": 1.0, "feature_reuse": 1, "inversion_feature_reuse": 1, "concept_prompts": "sentences"}
    assert {**written, "params": {**written["params"], **newer}} == whole
    assert not newer.keys() & written["params"].keys()


def test_the_largest_request_of_an_older_version_is_still_read() -> None:
    texts = {"caption": "c" * 1000, "negative_prompt": "n" * 1000, "target_prompt": ""}
    old = {**json.loads(dump_json(a_request())), **texts}
    old["target_prompt"] = "t" * (MAX_REQUEST_BYTES - len(json.dumps(old)))
    assert len(json.dumps(old)) == MAX_REQUEST_BYTES
    assert EditRequest.model_validate_json(json.dumps(old)).caption == texts["caption"]
    with pytest.raises(ValidationError, match="too long together"):
        EditRequest.model_validate_json(json.dumps({**old, "target_prompt": old["target_prompt"] + "t"}))


HINTS: dict[str, Any] = {
    "guidance_interval": 0.6,
    "feature_reuse": 3,
    "inversion_feature_reuse": 2,
    "concept_prompts": "caption",
}


@pytest.mark.parametrize("names", [[name] for name in HINTS] + [[], list(HINTS)], ids="+".join)
def test_hints_are_recorded_apart_so_that_every_version_reads_and_serves_the_job(names: list[str]) -> None:
    hints = {name: HINTS[name] for name in names}
    job = a_job(a_request(hints))
    assert job.contract == 1
    record = {**new_fields(job, 60), "created": "1"}
    first = json.loads(record["request"])
    assert not HINTS.keys() & first["params"].keys()
    assert EditRequest.model_validate(first) == a_request({"seed": job.request.params.seed})
    assert json.loads(record.get("hints", "{}")) == ({"params": hints} if hints else {})
    assert status_of(job.id, record).request == job.request


@pytest.mark.parametrize(
    "hints", ["", "5", "[]", "{", '{"params": 5}', '{"params": {"feature_reuse": 0}}', '{"goal": {}}']
)
def test_hints_that_cannot_be_read_are_damage_of_the_record(hints: str) -> None:
    job = a_job()
    with pytest.raises(BadRecord):
        status_of(job.id, {**new_fields(job, 60), "created": "1", "hints": hints})


def test_hints_of_a_newer_version_are_ignored() -> None:
    job = a_job(a_request({"feature_reuse": 3}))
    hints = json.dumps({"params": {"feature_reuse": 3, "tiles": 2}, "style": "sketch"})
    record = {**new_fields(job, 60), "created": "1", "hints": hints}
    assert status_of(job.id, record).request == job.request


@pytest.mark.parametrize(
    ("params", "fields", "contract"),
    [
        ({}, {}, 1),
        ({"tiles": 1, "overlap": None}, {"style": None}, 1),
        ({"tiles": 2}, {}, CONTRACT + 1),
        ({}, {"style": "sketch"}, CONTRACT + 1),
        ({"overlap": 0.5}, {"style": "sketch"}, CONTRACT + 2),
    ],
)
def test_a_job_needs_the_contract_of_the_newest_field_that_it_uses(params, fields, contract: int) -> None:
    assert needed_contract(a_new_request(params, **fields)) == contract


def test_a_new_field_at_its_default_is_left_out_for_readers_that_refuse_unknown_fields() -> None:
    written = dump_json(a_new_request())
    assert EditRequest.model_validate_json(written) == a_request(params=json.loads(written)["params"])
    used = dump_json(a_new_request({"tiles": 2}, style="sketch"))
    assert json.loads(used)["params"]["tiles"] == 2
    with pytest.raises(ValidationError):
        EditRequest.model_validate_json(used)
    assert EditRequest.model_validate_json(used, extra="ignore").params.seed == json.loads(used)["params"]["seed"]


def test_what_a_newer_worker_announces_in_a_form_of_its_own_is_left_out() -> None:
    worker = a_worker(version="9.0")
    fields = json.loads(worker.model_dump_json())
    assert read_info(worker.id, json.dumps({**fields, "gpus": 8})) == worker
    odd = read_info(
        worker.id, json.dumps({**fields, "memory": {"resident": 5}, "queues": {"a": 1}, "device": ["cuda"]})
    )
    assert odd == worker.model_copy(update={"memory": 0, "queues": (), "device": "unknown"})
    for heartbeat in ("", "[]", "{", "{}"):
        assert read_info("ab", heartbeat) == WorkerInfo(
            id="ab", name="ab", profile="unknown", device="unknown", queues=()
        )


@pytest.mark.parametrize("text", [None, "", "[1]", "{"])
def test_defaults_of_a_profile_in_another_form_are_none(text: str | None) -> None:
    assert read_params(text) == {}


def test_a_default_of_a_profile_that_this_version_does_not_accept_is_ignored() -> None:
    defaults = {"scheduler": "a newer one", "num_inference_steps": 20, "tiles": 4}
    params = EditParams.resolve("tiny", defaults, {})
    assert (params.scheduler, params.num_inference_steps) == ("ddim", 20)
    with pytest.raises(ValidationError):
        EditParams.resolve("tiny", defaults, {"scheduler": "a newer one"})


def test_unknown_fields_are_refused_where_the_user_gives_them() -> None:
    with pytest.raises(ValidationError):
        EditParams.resolve("tiny", {}, {"tiles": 2})

    class Given(Frozen):
        name: str

    with pytest.raises(ValidationError):
        Given.model_validate({"name": "x", "other": 1})
