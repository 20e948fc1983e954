"""S3 fails while jobs run: jobs wait it out, or fail with the reason; and no damaged artifact comes before a model.

Real workers and a real S3 server, between which a proxy does the harm. Clients, but for the distant one, go around it.
"""

import os
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from diffedit import Client, JobFailed, JobHandle, Settings, Stage, State, StoreUnavailable
from diffedit.contract.stages import STAGE_OF, Artifact
from diffedit.objects.s3 import S3ObjectStore
from diffedit_worker.local.stack import Stack
from diffedit_worker.pipeline import CODECS
from tests.acceptance.conftest import PEAR, QUICK, SAMPLES, until, until_status
from tests.support.proxies import Exchange, FaultProxy

PICTURE = SAMPLES / "06.png"
ONCE = {Stage.EMBED: 1, Stage.MASK: 1, Stage.INVERT: 1, Stage.EDIT: 1}
BURST = 5
"""Requests that fail one after the other: more than the store tries by itself."""


class Site:
    """Servers, a proxy before S3, and the workers behind it."""

    def __init__(self, stack: Stack, proxy: FaultProxy) -> None:
        self.stack, self.proxy = stack, proxy
        settings = Settings.from_env(stack.environment)
        self.object_store = S3ObjectStore(settings)
        self.client = Client(settings)
        self.distant_client = Client(settings.model_copy(update={"s3_endpoint_url": proxy.url}))

    @contextmanager
    def worker(self, **environment: str) -> Iterator[None]:
        """A worker behind the proxy, as long as it is needed."""
        name = f"w{uuid.uuid4().hex[:6]}"
        direct = self.stack.environment
        # One that forgets, and so reads again what it has just stored.
        forgetful = {"DIFFEDIT_CACHE_BYTES": "0", "DIFFEDIT_WORKER_TTL": "3"}
        behind = {"DIFFEDIT_S3_ENDPOINT_URL": self.proxy.url, **forgetful, **environment}
        self.stack.environment = direct | behind
        process = self.stack.start_worker(name)
        self.stack.environment = direct
        until(lambda: name in {each.name.partition("@")[0] for each in self.client.health().workers}, "the worker")
        yield
        process.kill()  # it has nothing to do, and takes a while to leave
        self.stack.stop(process)

    def edit(self, **asked: object) -> JobHandle:
        """A job that finds nothing done, unless it says otherwise."""
        fresh = {"caption": f"a pear {uuid.uuid4().hex}"}
        return self.client.edit(PICTURE, **{**PEAR, **QUICK, **fresh, **asked})


@pytest.fixture(scope="module")
def deserted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A site without workers, but for those that a test brings along."""
    with Stack(tmp_path_factory.mktemp("deserted")) as stack, FaultProxy(s3_of(stack)) as proxy:
        yield Site(stack, proxy)


@pytest.fixture(scope="module")
def manned(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A site with a worker."""
    with Stack(tmp_path_factory.mktemp("manned")) as stack, FaultProxy(s3_of(stack)) as proxy:
        site = Site(stack, proxy)
        with site.worker():
            yield site


@pytest.fixture
def site(manned: Site) -> Iterator[Site]:
    yield manned
    manned.proxy.up()


def s3_of(stack: Stack) -> str:
    return stack.environment["DIFFEDIT_S3_ENDPOINT_URL"]


def test_a_job_waits_while_the_store_is_away(site: Site) -> None:
    site.proxy.down()
    job = site.edit()
    until_status(job, lambda status: status.retries > 1, "the worker waits for the store")
    site.proxy.up()
    status = job.wait(timeout=60)
    assert status.attempts == ONCE
    assert status.retries > 1


def test_a_store_that_dies_and_restarts_in_mid_stage_costs_nothing(site: Site) -> None:
    job = site.edit(num_inference_steps=60)
    until_status(job, lambda status: status.stage is Stage.INVERT and status.step > 0, "the inversion began")
    site.stack.processes["s3"].kill()
    site.stack.stop(site.stack.processes["s3"])
    until_status(job, lambda status: status.retries > 0, "the worker waits for the store")
    site.stack.start_s3()
    status = job.wait(timeout=60)
    assert status.attempts == ONCE
    assert job.result().image.size == job.result().original.size


def test_a_store_slower_than_the_sign_of_life_is_not_a_dead_worker(site: Site) -> None:
    site.proxy.meets("GET", Exchange.is_slow, seconds=4)  # a worker counts as dead after 3
    site.proxy.meets("PUT", Exchange.is_slow, seconds=0.3, times=3)
    site.proxy.meets("HEAD", Exchange.is_slow, seconds=0.3, times=2)
    status = site.edit().wait(timeout=60)
    assert not site.proxy.pending
    assert (status.attempts, status.retries) == (ONCE, 0)


def test_a_slow_upload_keeps_no_job_from_the_device(site: Site) -> None:
    site.proxy.meets("PUT", Exchange.is_slow, seconds=10, where="artifacts/result/", times=1)
    slow, other = site.edit(seed=1), site.edit(seed=2)
    ended = other.wait(timeout=60)
    begun = slow.status()
    assert (begun.stage, begun.is_terminal) == (Stage.EDIT, False)  # it has not succeeded before all is stored
    assert slow.wait(timeout=60).attempts == ended.attempts == ONCE


@pytest.mark.parametrize(("method", "status"), [("HEAD", 500), ("GET", 500), ("PUT", 500), ("PUT", 503)])
def test_a_burst_of_failures_is_waited_out(site: Site, method: str, status: int) -> None:
    site.proxy.meets(method, Exchange.fails, status=status, times=2 * BURST)  # of two requests at once
    ended = site.edit().wait(timeout=60)
    assert not site.proxy.pending
    assert ended.attempts == ONCE
    assert ended.retries > 0


@pytest.mark.parametrize(
    ("method", "fault"),
    [("GET", Exchange.answer_is_reset), ("GET", Exchange.answer_is_short), ("PUT", Exchange.upload_is_reset)],
)
def test_broken_transfers_leave_no_broken_artifact(site: Site, method: str, fault) -> None:
    site.proxy.meets(method, fault, where="inputs/" if method == "GET" else "", after=1000, times=BURST)
    ended = site.edit().wait(timeout=60)
    assert not site.proxy.pending
    assert ended.attempts == ONCE
    assert ended.retries > 0
    for artifact, key in ended.artifact_keys.items():
        CODECS[artifact].decode(site.object_store.get(key))


def test_a_store_that_stays_away_fails_the_job_at_last_and_not_the_worker(deserted: Site) -> None:
    with deserted.worker(DIFFEDIT_S3_RETRY_TIMEOUT="1", DIFFEDIT_MAX_ATTEMPTS="2"):
        deserted.proxy.down()
        job = deserted.edit()
        with pytest.raises(JobFailed, match="did not answer") as caught:
            job.wait(timeout=60)
        deserted.proxy.up()
        assert (caught.value.error_code, caught.value.stage) == ("store_unavailable", "embed")
        assert job.status().attempts == {Stage.EMBED: 2}
        assert deserted.edit().wait(timeout=60).state is State.SUCCEEDED


@pytest.mark.parametrize(
    ("change", "reason"),
    [({"AWS_SECRET_ACCESS_KEY": "wrong"}, "AWS keys"), ({"DIFFEDIT_S3_BUCKET": "elsewhere"}, "NoSuchBucket")],
)
def test_a_store_that_refuses_fails_the_job_at_once(deserted: Site, change: dict[str, str], reason: str) -> None:
    with deserted.worker(**change):
        job = deserted.edit()
        with pytest.raises(JobFailed, match=reason) as caught:
            job.wait(timeout=60)
        assert caught.value.error_code == "store_refused"
        assert (job.status().attempts, job.status().retries) == ({Stage.EMBED: 1}, 0)


DAMAGES = [
    (artifact, how)
    for artifact in (Artifact.EMBEDDINGS, Artifact.CAPTION_EMBEDDING, Artifact.MASK, Artifact.TRAJECTORY)
    for how in ("deleted", "cut short", "garbage", "a file of another format", "the tensors of another artifact")
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
    elif how == "a file of another format":
        object_store.put(
            artifact_keys[artifact],
            object_store.get(artifact_keys[Artifact.TRAJECTORY if artifact is Artifact.MASK else Artifact.MASK]),
        )
    else:
        other = Artifact.CAPTION_EMBEDDING if artifact is Artifact.EMBEDDINGS else Artifact.EMBEDDINGS
        object_store.put(artifact_keys[artifact], object_store.get(artifact_keys[other]))


@pytest.fixture(scope="module")
def undamaged(manned: Site) -> JobHandle:
    job = manned.edit(seed=7)
    job.wait(timeout=60)
    return job


@pytest.fixture(scope="module")
def right(undamaged: JobHandle, manned: Site) -> bytes:
    """What comes out when nothing is damaged."""
    return manned.object_store.get(undamaged.status().artifact_keys[Artifact.RESULT])


@pytest.mark.parametrize(("artifact", "how"), DAMAGES)
def test_an_artifact_damaged_between_two_stages_is_made_again(
    site: Site, undamaged: JobHandle, right: bytes, artifact: Artifact, how: str
) -> None:
    artifact_keys = undamaged.status().artifact_keys
    for key in artifact_keys.values():
        site.object_store.delete(key)
    reader = Stage.INVERT if artifact is Artifact.CAPTION_EMBEDDING else Stage.EDIT

    def damages(exchange: Exchange) -> None:
        damage(site.object_store, artifact_keys, artifact, how)
        exchange.passes()

    # Each stage first asks whether its artifacts are there; a result would be read at once.
    method, asked = ("HEAD", Artifact.TRAJECTORY) if reader is Stage.INVERT else ("GET", Artifact.RESULT)
    site.proxy.meets(method, damages, where=artifact_keys[asked])
    status = undamaged.retry().wait(timeout=60)
    assert not site.proxy.pending
    assert status.attempts[STAGE_OF[artifact]] == status.attempts[reader] == 2
    assert site.object_store.get(status.artifact_keys[Artifact.RESULT]) == right


def test_a_clients_wait_outlasts_an_outage_of_the_store(site: Site) -> None:
    job = site.distant_client.edit(PICTURE, **PEAR, **QUICK, caption=uuid.uuid4().hex)
    site.proxy.down()
    threading.Timer(2, site.proxy.up).start()
    result = job.result(timeout=60)
    site.proxy.down()
    with pytest.raises(StoreUnavailable):
        result.image  # noqa: B018
    site.proxy.up()
    assert result.image.size == result.original.size


def test_an_edit_that_could_not_be_uploaded_leaves_nothing_and_can_be_repeated(site: Site) -> None:
    picture = PICTURE.read_bytes() + uuid.uuid4().bytes  # which is not there yet
    asked = {**PEAR, **QUICK, "idempotency_key": uuid.uuid4().hex}
    before = len(site.client.jobs(limit=1000))
    site.proxy.down()
    with pytest.raises(StoreUnavailable):
        site.distant_client.edit(picture, **asked)
    assert len(site.client.jobs(limit=1000)) == before
    site.proxy.up()
    assert site.distant_client.edit(picture, **asked).wait(timeout=60).state is State.SUCCEEDED
    assert len(site.client.jobs(limit=1000)) == before + 1
