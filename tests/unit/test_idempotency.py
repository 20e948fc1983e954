"""Idempotency keys at the client: which calls are the same, and what a call gets whose key is taken."""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from diffedit import Client, IdempotencyConflict, InvalidRequest, JobHandle, Lane, Settings
from diffedit.contract.job import ErrorInfo, State
from diffedit.contract.stages import Stage
from diffedit.idempotency import request_digest, retry_digest
from tests.support.factories import a_job, a_request
from tests.support.fake_service import TEXTS, FakeService, png

WHITE, GREY = png(colour="white"), png(colour="#fefefe")


@pytest.fixture
def service() -> FakeService:
    return FakeService()


def keyed(service: FakeService, *, method: str = "edit", image: object = None, **options: object) -> JobHandle:
    """Call a method of the client with the key "k"."""
    service.serve("tiny", profile_presets={"draft": {}})
    return getattr(service.client, method)(image or png(), **{**TEXTS, **options}, idempotency_key="k")


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"strength": 1}, {"strength": 1.0}),
        ({"strength": 0.5}, {"strength": np.float64(0.5)}),
        ({"num_inference_steps": 50}, {"num_inference_steps": np.int32(50)}),
        ({"mask_thresholding_ratio": 3}, {"mask_thresholding_ratio": 3.0}),
        ({"mask_cleanup": True}, {"mask_cleanup": np.bool_(True)}),
        ({"deadline": 60}, {"deadline": 60.0}),
        ({"lane": "batch"}, {"lane": Lane.BATCH}),
        ({"lane": "interactive"}, {}),
        ({"preset": "default"}, {}),
        ({"start_timeout": None}, {}),
        ({"caption": "a  bowl "}, {"caption": "a bowl"}),
        ({"caption": None, "mask": None}, {}),
        ({"image": io.BytesIO(png())}, {"image": bytearray(png())}),
        ({"mask": WHITE}, {"mask": io.BytesIO(WHITE)}),
    ],
)
def test_two_calls_are_the_same_if_they_give_equal_values(service: FakeService, first: dict, second: dict) -> None:
    assert keyed(service, **first).id == keyed(service, **second).id
    assert len(service.sent) == 1


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({}, {"image": png(colour="red")}),
        ({}, {"target_prompt": "a bowl of lemons"}),
        ({}, {"negative_prompt": "a knife"}),
        ({}, {"strength": 0.8}),
        ({"strength": 0.8}, {"strength": 0.7}),
        ({}, {"seed": 1}),
        ({"seed": 1}, {"seed": 2}),
        ({}, {"profile": "tiny"}),
        ({}, {"preset": "guide"}),
        ({"preset": "guide"}, {"preset": "draft"}),
        ({}, {"mask": WHITE}),
        ({"mask": WHITE}, {"mask": GREY}),
        ({}, {"lane": "batch"}),
        ({"start_timeout": 5}, {"start_timeout": 6}),
        ({"start_timeout": 5}, {"deadline": 5}),
        ({"method": "preview_mask"}, {"method": "edit"}),
    ],
)
def test_another_request_with_the_same_key_is_refused_and_queues_nothing(
    service: FakeService, first: dict, second: dict
) -> None:
    job = keyed(service, **first)
    with pytest.raises(IdempotencyConflict, match="use another key") as caught:
        keyed(service, **second)
    assert (caught.value.job_id, caught.value.code) == (job.id, "idempotency_conflict")
    assert job.id in str(caught.value)
    assert [each.id for each in service.sent] == [job.id]
    assert [status.id for status in service.client.jobs()] == [job.id]


def test_a_call_is_the_same_from_a_file_and_from_its_bytes(service: FakeService, tmp_path: Path) -> None:
    path = tmp_path / "bowl.png"
    path.write_bytes(png())
    assert keyed(service, image=path).id == keyed(service, image=png()).id


@pytest.mark.filterwarnings("ignore::diffedit.NoWorkerWarning")
def test_a_call_stays_the_same_when_its_defaults_change() -> None:
    service = FakeService()
    first = keyed(service)
    service.serve("tiny", profile_params={"num_inference_steps": 20, "mask_cleanup": True})
    assert keyed(service).id == first.id
    elsewhere = Settings(profile="sd21")
    other = Client(elsewhere, backend=service.backend, object_store=service.object_store, send=service.send)
    assert other.edit(png(), **TEXTS, idempotency_key="k").id == first.id


def test_the_digest_of_a_call_is_that_of_every_version() -> None:
    # Another digest here would make a call that is repeated across an upgrade a conflict.
    request, options = a_request({"strength": 0.5, "seed": 7}, caption="a bowl"), a_job(deadline=60).options
    assert request_digest(request, options, ["strength"]) == (
        "86e21131668196c66d8024bc1a2b1d9d85f39a66567befee17ddf657ca0da418"
    )
    assert retry_digest("ab" * 16) == "c67a55cc28cd544eefb4e6fd8171bf7c93f566b11db9928019c12a9089b5a987"


@pytest.mark.parametrize("outcome", [State.SUCCEEDED, State.FAILED, State.CANCELLED])
def test_the_same_call_returns_the_job_whatever_became_of_it(service: FakeService, outcome: State) -> None:
    job = keyed(service)
    service.job_store.end_job(job.id, outcome, ErrorInfo(stage=Stage.MASK, code="empty_mask", message="no difference"))
    assert keyed(service).id == job.id
    assert len(service.sent) == 1


def test_the_same_key_in_another_namespace_is_another_key(service: FakeService) -> None:
    shop = Client(
        Settings(namespace="shop"), backend=service.backend, object_store=service.object_store, send=service.send
    )
    first, second = keyed(service), shop.edit(png(colour="red"), **TEXTS, idempotency_key="k")
    assert first.id != second.id
    assert first.status().request.image != second.status().request.image


def test_edits_of_one_picture_can_be_repeated_with_their_keys(service: FakeService) -> None:
    def edit_all(**common: object) -> list[JobHandle]:
        targets = [{"target_prompt": f"{number} pears", "idempotency_key": f"pears-{number}"} for number in range(3)]
        return service.client.edit_many(png(), targets, **common)

    first, second = edit_all(), edit_all()
    assert [job.id for job in first] == [job.id for job in second]
    assert len({job.request.params.seed for job in service.sent}) == 1
    with pytest.raises(IdempotencyConflict, match=first[0].id):
        edit_all(strength=0.5)
    assert len(service.sent) == 3


def test_two_edits_of_one_call_with_the_same_key_are_refused(service: FakeService) -> None:
    targets = [{"target_prompt": target, "idempotency_key": "k"} for target in ("a pear", "a lemon")]
    with pytest.raises(InvalidRequest, match="each edit its own"):
        service.client.edit_many(png(), targets)
    assert service.sent == service.client.jobs() == []


def ended(service: FakeService, **options: object) -> JobHandle:
    job = service.client.edit(png(), **TEXTS, **options)
    job.cancel()
    return job


def test_a_retry_with_a_key_makes_one_new_job(service: FakeService) -> None:
    job = ended(service, lane="batch")
    first, second = (job.retry(idempotency_key="again") for _ in range(2))
    assert first.id == second.id != job.id
    assert len(service.sent) == 2
    assert (service.sent[1].request, service.sent[1].options) == (service.sent[0].request, service.sent[0].options)
    first.cancel()
    assert job.retry(idempotency_key="again").id == first.id
    assert job.retry(idempotency_key="once more").id != first.id


@pytest.mark.parametrize(
    "call",
    [
        lambda service: ended(service).retry(idempotency_key="k"),
        lambda service: service.client.edit(png(), **TEXTS, idempotency_key="k"),
    ],
    ids=["the retry of another job", "an edit"],
)
def test_the_key_of_a_retry_serves_no_other_call(service: FakeService, call: Callable[[FakeService], object]) -> None:
    again = ended(service).retry(idempotency_key="k")
    with pytest.raises(IdempotencyConflict, match=again.id):
        call(service)


def test_a_retry_with_the_key_of_its_own_job_is_refused(service: FakeService) -> None:
    # It would return the job that has ended, and a program that waits for it would never learn that nothing runs.
    job = ended(service, idempotency_key="k")
    with pytest.raises(IdempotencyConflict, match=job.id):
        job.retry(idempotency_key="k")
    again = job.retry(idempotency_key="k2")
    again.cancel()
    with pytest.raises(IdempotencyConflict, match=again.id):
        again.retry(idempotency_key="k2")


@pytest.mark.parametrize("key", ["", "x" * 201, "a\nb", 7])
def test_a_retry_with_a_key_that_is_not_valid_is_refused(service: FakeService, key: object) -> None:
    job = ended(service)
    with pytest.raises(InvalidRequest, match="idempotency_key"):
        job.retry(idempotency_key=key)
    assert len(service.sent) == 1
