"""S3 fails while jobs run: a job waits, or fails with the reason, and no model is given a damaged artifact.

A proxy between real workers and a real S3 server injects the faults.
"""

import json
import os
import threading
import uuid
from collections.abc import Iterator

import pytest

from diffedit import ArtifactError, JobFailed, JobHandle, Stage, State, StoreUnavailable
from diffedit.contract.object_keys import manifest_key
from diffedit.contract.stages import STAGE_OF, Artifact
from diffedit.objects.s3 import S3ObjectStore
from diffedit_worker.local.stack import LocalServices
from diffedit_worker.pipeline import CODECS
from diffedit_worker.runtime.fitness import UNFIT_EXIT_CODE
from tests.support.factories import PEAR, PICTURE, QUICK
from tests.support.proxies import Exchange, FaultProxy
from tests.support.services import ProxiedServices
from tests.support.tampering import tampered
from tests.support.waiting import until, until_status

ONCE = {Stage.EMBED: 1, Stage.MASK: 1, Stage.INVERT: 1, Stage.EDIT: 1}
BURST = 5
"""Requests that fail one after the other: more than boto3 retries by itself."""


@pytest.fixture(scope="module")
def without_workers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProxiedServices]:
    """Services without workers; each test starts its own."""
    with LocalServices(tmp_path_factory.mktemp("without-workers")) as stack, FaultProxy(s3_of(stack)) as proxy:
        yield ProxiedServices(stack, proxy)


@pytest.fixture(scope="module")
def with_worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProxiedServices]:
    """Services with one worker."""
    with LocalServices(tmp_path_factory.mktemp("with-worker")) as stack, FaultProxy(s3_of(stack)) as proxy:
        services = ProxiedServices(stack, proxy)
        with services.worker():
            yield services


@pytest.fixture
def services(with_worker: ProxiedServices) -> Iterator[ProxiedServices]:
    yield with_worker
    with_worker.proxy.up()


def s3_of(stack: LocalServices) -> str:
    return stack.environment["DIFFEDIT_S3_ENDPOINT_URL"]


def test_a_job_waits_while_s3_does_not_answer(services: ProxiedServices) -> None:
    services.proxy.down()
    job = services.edit()
    until_status(job, lambda status: status.retries > 1, "the worker retries")
    services.proxy.up()
    status = job.wait(timeout=60)
    assert status.attempts == ONCE
    assert status.retries > 1


def test_a_restart_of_s3_during_a_stage_costs_no_attempt(services: ProxiedServices) -> None:
    job = services.edit(num_inference_steps=300, guidance_scale=1.0)
    until_status(job, lambda status: status.stage is Stage.INVERT and status.step > 0, "a step of the inversion")
    services.stack.processes["s3"].kill()
    services.stack.stop(services.stack.processes["s3"])
    until_status(job, lambda status: status.retries > 0, "the worker retries")
    services.stack.start_s3()
    status = job.wait(timeout=60)
    assert status.attempts == ONCE
    assert job.result().image.size == job.result().original.size


def test_a_worker_that_waits_longer_for_s3_than_its_heartbeat_lasts_is_not_dead(services: ProxiedServices) -> None:
    services.proxy.meets("GET", Exchange.is_slow, seconds=4)  # a heartbeat lasts 3 seconds
    services.proxy.meets("PUT", Exchange.is_slow, seconds=0.3, times=3)
    status = services.edit().wait(timeout=60)
    assert not services.proxy.pending
    assert (status.attempts, status.retries) == (ONCE, 0)


def test_another_job_computes_while_a_result_is_uploaded(services: ProxiedServices) -> None:
    services.proxy.meets("PUT", Exchange.is_slow, seconds=10, where="artifacts/result/", times=1)
    slow, other = services.edit(seed=1), services.edit(seed=2)
    ended = other.wait(timeout=60)
    status = slow.status()
    assert (status.stage, status.is_terminal) == (Stage.EDIT, False)  # a job succeeds when everything is stored
    assert slow.wait(timeout=60).attempts == ended.attempts == ONCE


@pytest.mark.parametrize(("method", "status"), [("GET", 500), ("PUT", 500), ("PUT", 503)])
def test_a_stage_retries_until_a_burst_of_failures_is_over(services: ProxiedServices, method: str, status: int) -> None:
    services.proxy.meets(method, Exchange.fails, status=status, times=2 * BURST)  # a stage sends two requests at once
    ended = services.edit().wait(timeout=60)
    assert not services.proxy.pending
    assert ended.attempts == ONCE
    assert ended.retries > 0


@pytest.mark.parametrize(
    ("method", "fault"),
    [("GET", Exchange.answer_is_reset), ("GET", Exchange.answer_is_short), ("PUT", Exchange.upload_is_reset)],
)
def test_broken_transfers_leave_no_broken_artifact(services: ProxiedServices, method: str, fault) -> None:
    services.proxy.meets(method, fault, where="inputs/" if method == "GET" else "", after=1000, times=BURST)
    ended = services.edit().wait(timeout=60)
    assert not services.proxy.pending
    assert ended.attempts == ONCE
    assert ended.retries > 0
    for artifact, key in ended.artifact_keys.items():
        CODECS[artifact].decode(services.object_store.get(key))


SHORT = {"DIFFEDIT_S3_RETRY_TIMEOUT": "1", "DIFFEDIT_REFUSAL_PATIENCE": "2"}


def test_an_s3_outage_that_lasts_too_long_fails_the_job_and_only_pauses_the_worker(
    without_workers: ProxiedServices,
) -> None:
    with without_workers.worker(**SHORT):
        without_workers.proxy.down()
        job = without_workers.edit()
        with pytest.raises(JobFailed, match="does not answer") as caught:
            job.wait(timeout=60)
        assert (caught.value.error_code, caught.value.stage) == ("store_unavailable", "embed")
        assert len(job.status().refused_by[Stage.EMBED]) == 1
        health = without_workers.client.health()
        assert [worker.paused for worker in health.workers] == [True]
        assert [trouble.code for trouble in health.troubles] == ["store_unavailable"]
        waiting = without_workers.edit()
        without_workers.proxy.up()
        assert waiting.wait(timeout=60).attempts == ONCE
        until(lambda: not without_workers.client.health().troubles, "the end of the trouble")


def test_a_refusal_of_s3_for_seconds_is_survived(without_workers: ProxiedServices) -> None:
    with without_workers.worker(), without_workers.worker():
        without_workers.proxy.meets("PUT", Exchange.fails, status=403, code="AccessDenied", times=10**6)
        jobs = [without_workers.edit() for _ in range(6)]
        until(lambda: any(job.status().retries > 3 for job in jobs), "some refusals")
        without_workers.proxy.up()
        for job in jobs:
            assert job.wait(timeout=60).attempts == ONCE


def test_a_refusal_of_s3_for_longer_fails_the_job_with_its_cause_and_only_pauses_the_worker(
    without_workers: ProxiedServices,
) -> None:
    with without_workers.worker(**SHORT):
        without_workers.proxy.meets("PUT", Exchange.fails, status=403, code="AccessDenied", times=10**6)
        job = without_workers.edit()
        with pytest.raises(JobFailed, match="AccessDenied") as caught:
            job.wait(timeout=60)
        assert caught.value.error_code == "store_refused"
        waiting = without_workers.edit()
        assert [worker.paused for worker in without_workers.client.health().workers] == [True]
        without_workers.proxy.up()
        assert waiting.wait(timeout=60).attempts == ONCE


@pytest.mark.parametrize(
    ("change", "reason"),
    [({"AWS_SECRET_ACCESS_KEY": "wrong"}, "AWS keys"), ({"DIFFEDIT_S3_BUCKET": "elsewhere"}, "NoSuchBucket")],
)
def test_a_worker_that_s3_refuses_does_not_start_and_takes_no_job(
    without_workers: ProxiedServices, change: dict[str, str], reason: str
) -> None:
    job = without_workers.edit()
    sick = without_workers.stack.start_worker("sick", environment=change)
    until(lambda: sick.poll() is not None, "the end of the worker")
    assert sick.poll() == UNFIT_EXIT_CODE
    (trouble,) = without_workers.client.health().troubles
    assert (trouble.name.partition("@")[0], trouble.code) == ("sick", "store_refused")
    assert reason in trouble.message
    assert (job.status().state, job.status().attempts) == (State.QUEUED, {})
    without_workers.stack.stop(sick)
    with without_workers.worker():
        assert job.wait(timeout=60).attempts == ONCE


DAMAGES = [
    (artifact, how)
    for artifact in (Artifact.EMBEDDINGS, Artifact.CAPTION_EMBEDDING, Artifact.MASK, Artifact.TRAJECTORY)
    for how in ("deleted", "cut short", "garbage", "changed", "another format", "the tensors of another artifact")
    if (artifact, how) != (Artifact.MASK, "the tensors of another artifact")
]


def damage(object_store: S3ObjectStore, artifact_keys: dict[Artifact, str], artifact: Artifact, how: str) -> None:
    data = object_store.get(artifact_keys[artifact])
    if how == "deleted":
        object_store.delete(artifact_keys[artifact])
    elif how == "cut short":
        object_store.put(artifact_keys[artifact], data[: len(data) // 2])
    elif how == "garbage":
        object_store.put(artifact_keys[artifact], os.urandom(len(data)))
    elif how == "changed":
        object_store.put(artifact_keys[artifact], tampered(data))
    elif how == "another format":
        object_store.put(
            artifact_keys[artifact],
            object_store.get(artifact_keys[Artifact.TRAJECTORY if artifact is Artifact.MASK else Artifact.MASK]),
        )
    else:
        other = Artifact.CAPTION_EMBEDDING if artifact is Artifact.EMBEDDINGS else Artifact.EMBEDDINGS
        object_store.put(artifact_keys[artifact], object_store.get(artifact_keys[other]))


@pytest.fixture(scope="module")
def undamaged(with_worker: ProxiedServices) -> JobHandle:
    job = with_worker.edit(seed=7)
    job.wait(timeout=60)
    return job


@pytest.fixture(scope="module")
def expected(undamaged: JobHandle, with_worker: ProxiedServices) -> bytes:
    """Return the result when no artifact is damaged."""
    return with_worker.object_store.get(undamaged.status().artifact_keys[Artifact.RESULT])


@pytest.mark.parametrize(("artifact", "how"), DAMAGES)
def test_an_artifact_damaged_between_two_stages_is_made_again(
    services: ProxiedServices, undamaged: JobHandle, expected: bytes, artifact: Artifact, how: str
) -> None:
    artifact_keys = undamaged.status().artifact_keys
    for key in artifact_keys.values():
        services.object_store.delete(key)
    reader = Stage.INVERT if artifact is Artifact.CAPTION_EMBEDDING else Stage.EDIT

    def damage_and_pass(exchange: Exchange) -> None:
        damage(services.object_store, artifact_keys, artifact, how)
        exchange.passes()

    # A stage first looks for its own artifacts.
    asked = Artifact.TRAJECTORY if reader is Stage.INVERT else Artifact.RESULT
    services.proxy.meets("GET", damage_and_pass, where=artifact_keys[asked])
    status = undamaged.retry().wait(timeout=60)
    assert not services.proxy.pending
    assert status.attempts[STAGE_OF[artifact]] == status.attempts[reader] == 2
    assert services.object_store.get(status.artifact_keys[Artifact.RESULT]) == expected


SHOWN = {Artifact.CAPTION: "caption", Artifact.PROMPTS: "prompts", Artifact.MASK: "mask", Artifact.RESULT: "image"}


@pytest.fixture(scope="module")
def of_all_stages(with_worker: ProxiedServices) -> JobHandle:
    job = with_worker.edit(caption=None, source_prompt=None, seed=7)
    job.wait(timeout=60)
    return job


@pytest.mark.parametrize("artifact", STAGE_OF)
def test_an_artifact_changed_after_its_job_is_never_shown_and_retry_makes_it_again(
    services: ProxiedServices, of_all_stages: JobHandle, artifact: Artifact
) -> None:
    key = of_all_stages.status().artifact_keys[artifact]
    intact = services.object_store.get(key)
    services.object_store.put(key, tampered(intact))
    if artifact in SHOWN:
        with pytest.raises(ArtifactError, match="retry"):
            getattr(of_all_stages.result(), SHOWN[artifact])
    status = of_all_stages.retry().wait(timeout=60)
    assert status.created_artifacts == (artifact,)
    assert services.object_store.get(key) == intact
    if artifact in SHOWN:
        assert getattr(of_all_stages.result(), SHOWN[artifact])


def test_a_manifest_changed_after_its_job_is_never_shown_and_retry_stores_it_again(
    services: ProxiedServices, of_all_stages: JobHandle
) -> None:
    key = manifest_key(of_all_stages.status().artifact_keys[Artifact.RESULT])
    intact = services.object_store.get(key)
    services.object_store.put(key, tampered(intact))
    assert of_all_stages.result().manifest == json.loads(intact)
    assert of_all_stages.retry().wait(timeout=60).created_artifacts == (Artifact.RESULT,)
    assert services.object_store.get(key) == intact


def test_a_client_waits_through_an_s3_outage(services: ProxiedServices) -> None:
    job = services.proxied_client.edit(PICTURE, **PEAR, **QUICK, caption=uuid.uuid4().hex)
    services.proxy.down()
    threading.Timer(2, services.proxy.up).start()
    result = job.result(timeout=60)
    services.proxy.down()
    with pytest.raises(StoreUnavailable):
        result.image  # noqa: B018
    services.proxy.up()
    assert result.image.size == result.original.size


def test_an_edit_whose_upload_failed_leaves_nothing_and_can_be_repeated(services: ProxiedServices) -> None:
    picture = PICTURE.read_bytes() + uuid.uuid4().bytes  # a picture that is not stored yet
    asked = {**PEAR, **QUICK, "idempotency_key": uuid.uuid4().hex}
    before = len(services.client.jobs(limit=1000))
    services.proxy.down()
    with pytest.raises(StoreUnavailable):
        services.proxied_client.edit(picture, **asked)
    assert len(services.client.jobs(limit=1000)) == before
    services.proxy.up()
    assert services.proxied_client.edit(picture, **asked).wait(timeout=60).state is State.SUCCEEDED
    assert len(services.client.jobs(limit=1000)) == before + 1
