"""Jobs on real processes: their status, cancelling, failing and retrying."""

import base64
import json
import signal
import subprocess
import sys
import uuid

import pytest

from diffedit import (
    Client,
    JobCancelled,
    JobFailed,
    JobNotFound,
    JobTimeout,
    NoWorkerWarning,
    Settings,
    Stage,
    State,
)
from diffedit.contract.job import Job
from diffedit.contract.stages import queue_names
from diffedit.jobs.backend import redis_backend
from diffedit.objects.s3 import S3ObjectStore
from diffedit_worker.local.stack import LocalServices
from tests.support.factories import PEAR, PICTURE, QUICK, a_request, slow
from tests.support.services import busy_worker, log_of, redis_of
from tests.support.waiting import until, until_status

pytestmark = pytest.mark.usefixtures("no_unfinished_jobs")


def test_a_watch_yields_the_progress_until_the_end(client: Client) -> None:
    job = client.edit(PICTURE, **PEAR, num_inference_steps=40)
    seen = list(job.watch(timeout=60))
    assert [status.progress for status in seen] == sorted(status.progress for status in seen)
    assert seen[-1].state is State.SUCCEEDED
    assert seen[-1].progress == 1
    steps = {(status.stage, status.steps) for status in seen if status.step}
    assert {stage for stage, _ in steps} >= {Stage.INVERT, Stage.EDIT}
    assert seen[-1].created_at <= seen[-1].started_at <= seen[-1].finished_at


def test_a_running_job_is_cancelled_within_a_few_steps_and_the_worker_is_free(client: Client) -> None:
    job = client.edit(PICTURE, **PEAR, **slow())
    until_status(job, lambda status: status.stage is Stage.INVERT and status.step > 0, "a step of the inversion")
    assert job.cancel()
    at_cancel = job.status()
    with pytest.raises(JobCancelled, match=job.id):
        job.wait(timeout=5)
    # The worker is free at once: the next job does not wait for the remaining steps.
    assert client.edit(PICTURE, **PEAR, **QUICK).wait(timeout=60).state is State.SUCCEEDED
    status = job.status()
    assert (status.state, status.step) == (State.CANCELLED, at_cancel.step)
    assert Stage.INVERT not in status.timings
    assert job.cancel()  # a second cancel returns the same
    assert job.retry().cancel()


def test_a_queued_job_is_cancelled_and_never_starts(client: Client) -> None:
    with busy_worker(client):
        job = client.edit(PICTURE, **PEAR, **QUICK)
        assert job.cancel()
    assert client.edit(PICTURE, **PEAR, **QUICK).wait(timeout=60).state is State.SUCCEEDED
    status = job.status()
    assert (status.state, status.started_at, status.attempts) == (State.CANCELLED, None, {})


def test_a_finished_job_cannot_be_cancelled(client: Client) -> None:
    job = client.edit(PICTURE, **PEAR, **QUICK)
    job.wait(timeout=60)
    assert not job.cancel()
    assert job.status().state is State.SUCCEEDED


def test_a_wait_times_out_with_the_job_id_and_the_job_goes_on(client: Client) -> None:
    job = client.edit(PICTURE, **PEAR, **slow())
    for wait in (job.wait, job.result):
        with pytest.raises(JobTimeout) as caught:
            wait(timeout=0.2)
        assert caught.value.job_id == job.id
    assert not job.status().is_terminal
    job.cancel()


def test_an_unknown_job_is_not_found(client: Client) -> None:
    job = client.job(uuid.uuid4().hex)
    for ask in (job.status, job.cancel, job.retry, lambda: job.result(timeout=1), lambda: next(job.watch())):
        with pytest.raises(JobNotFound, match=job.id):
            ask()


def test_jobs_are_listed(client: Client) -> None:
    job = client.edit(PICTURE, **PEAR, **QUICK)
    assert client.jobs(limit=1)[0].id == job.id
    job.wait(timeout=60)
    assert job.id in [status.id for status in client.jobs(state="succeeded")]
    assert job.id not in [status.id for status in client.jobs(state="failed")]


def test_health_names_worker_and_queues(client: Client) -> None:
    health = client.health()
    assert health.ok
    (worker,) = health.workers
    assert worker.profile == "tiny"
    assert set(worker.queues) == set(queue_names("tiny")) == set(health.queues)


def test_a_job_for_a_profile_without_workers_warns_and_waits(client: Client, stack: LocalServices) -> None:
    with pytest.warns(NoWorkerWarning, match=r"diffedit\.sd15\.diffusion.*now served: tiny"):
        job = client.edit(PICTURE, **PEAR, profile="sd15")
    assert job.status().state is State.QUEUED
    assert redis_of(stack).llen("diffedit.sd15.language") == 1
    job.cancel()


def test_a_message_is_small_and_holds_no_text_of_the_request(stack: LocalServices) -> None:
    word = f"word{uuid.uuid4().hex}"
    # The longest message: all six stages, and the longest profile name.
    asked = {"source_concept": word, "target_concept": f"{word} {word}"}
    request = a_request(params={"profile": "n" * 32}, **asked)
    redis_backend(Settings.from_env(stack.environment)).job_store.send(Job(id=uuid.uuid4().hex, request=request))
    message = json.loads(redis_of(stack).lpop(f"diffedit.{'n' * 32}.language"))
    body = base64.b64decode(message["body"]).decode()
    assert len(json.dumps(message)) < 6000
    assert word not in body + json.dumps(message)
    # The header names the job, and Celery shows its id in events and logs.
    assert message["headers"]["job_id"] in message["headers"]["argsrepr"]


def test_a_lost_picture_fails_the_job_and_a_retry_reuses_its_artifacts(client: Client, stack: LocalServices) -> None:
    settings = Settings.from_env(stack.environment)
    object_store = S3ObjectStore(settings)
    picture = PICTURE.read_bytes() + b"trailing bytes make it another picture"
    with busy_worker(client):
        job = client.edit(picture, **PEAR, **QUICK)
        key = job.status().request.image
        object_store._s3.delete_object(Bucket=settings.s3_bucket, Key=key)
    with pytest.raises(JobFailed) as caught:
        job.wait(timeout=60)
    assert (caught.value.stage, caught.value.error_code, caught.value.job_id) == ("mask", "artifact_missing", job.id)
    object_store.put(key, picture)
    assert Stage.EMBED in job.retry().wait(timeout=60).cache_hits


def test_the_log_holds_no_text_of_a_request_and_no_secret(client: Client, stack: LocalServices) -> None:
    word = f"word{uuid.uuid4().hex}"
    job = client.edit(PICTURE, source_prompt=word, target_prompt=f"{word} {word}", **QUICK)
    job.wait(timeout=60)
    log = log_of(stack, "worker")
    assert job.id in log
    assert word not in log
    assert stack.environment["AWS_SECRET_ACCESS_KEY"] not in log


def test_a_worker_that_is_stopped_unregisters(client: Client, stack: LocalServices) -> None:
    second = stack.start_worker("second")
    until(lambda: len(client.health().workers) == 2, "the second worker")
    second.send_signal(signal.SIGTERM)
    until(lambda: second.poll() is not None, "the end of the second worker")
    assert len(client.health().workers) == 1
    stack.stop(second)


def test_clients_share_nothing_but_the_services(client: Client, stack: LocalServices) -> None:
    job = client.edit(PICTURE, **PEAR, **QUICK)
    code = f"from diffedit import Client; print(Client.from_env().job({job.id!r}).wait(timeout=60).model_dump_json())"
    done = subprocess.run([sys.executable, "-c", code], env=stack.environment, capture_output=True, check=True)
    assert json.loads(done.stdout)["state"] == "succeeded"
