"""Owners, tags, pages of jobs, limits and deletion: over the doubles and over Redis."""

import uuid
from collections.abc import Callable

import pytest

from diffedit import Client, InvalidRequest, JobNotFound, OwnerLimit, OwnerLimits, Settings
from diffedit.contract.job import Job, State
from diffedit.contract.stages import Artifact, Lane, Stage
from diffedit.jobs.backend import JobBackend
from diffedit.jobs.store import OwnerBusy
from diffedit.testing import MemoryObjectStore
from tests.support.backend_behaviour import ME, BackendBehaviour, until_overdue
from tests.support.factories import MASK, a_job, a_request, a_worker, done
from tests.support.fake_service import TEXTS, png


def ids(page: object) -> list[str]:
    return [status.id for status in page.statuses]


def create(backend: JobBackend, job: Job | None = None, **options: object) -> Job:
    job = job or a_job(**options)
    backend.job_store.create_job(job)
    return job


def run(backend: JobBackend, job: Job, *stages: Stage, seconds: float = 1.0, cached: bool = False) -> Job:
    """Run these stages of a job."""
    backend.worker_registry.send_heartbeat(a_worker(id=ME))
    for stage in stages:
        backend.job_store.start_stage(job.id, stage, ME)
        job = done(job, stage)
        backend.job_store.complete_stage(job, stage, seconds, [] if cached else list(stage.gives), ME)
    return job


ALL = (Stage.EMBED, Stage.MASK, Stage.INVERT, Stage.EDIT)


@pytest.mark.filterwarnings("ignore::diffedit.NoWorkerWarning")
class OwnerBehaviour(BackendBehaviour):
    @pytest.fixture
    def whole(self, backend: JobBackend) -> Client:
        backend.worker_registry.send_heartbeat(a_worker(id=ME))
        return Client(Settings(), backend=backend, object_store=MemoryObjectStore(), send=lambda job: None)

    def test_a_record_says_whose_the_job_is(self, backend: JobBackend) -> None:
        job = create(backend, owner='Zoë "17"\U0001f350', tags={"album": "9", "draft": ""}, keep=3600)
        for status in (
            backend.job_store.status(job.id),
            backend.job_store.start_stage(job.id, Stage.EMBED, ME),
            backend.job_store.list_jobs(limit=1).statuses[0],
        ):
            assert (status.owner, status.tags) == ('Zoë "17"\U0001f350', {"album": "9", "draft": ""})
            assert (status.options, status.contract) == (job.options, 1)
        nobodys = backend.job_store.status(create(backend).id)
        assert (nobodys.owner, nobodys.tags, nobodys.options.keep) == (None, {}, None)

    def test_jobs_are_listed_by_owner_and_tag(self, backend: JobBackend) -> None:
        first = create(backend, owner="u1", tags={"album": "9"})
        create(backend, owner="u2", tags={"album": "9"})
        second = create(backend, owner="u1", tags={"album": "8"})
        third = create(backend, owner="u1")
        backend.job_store.end_job(second.id, State.CANCELLED)
        store = backend.job_store
        assert ids(store.list_jobs(owner="u1")) == [third.id, second.id, first.id]
        assert ids(store.list_jobs(owner="u1", tag="album")) == [second.id, first.id]
        assert ids(store.list_jobs(owner="u1", tag=("album", "9"))) == [first.id]
        assert ids(store.list_jobs(State.CANCELLED, owner="u1")) == [second.id]
        assert len(ids(store.list_jobs(tag=("album", "9")))) == 2
        assert ids(store.list_jobs(owner="u")) == ids(store.list_jobs(owner="u1", tag="alb")) == []

    def test_a_cursor_is_not_moved_by_new_and_deleted_jobs(self, backend: JobBackend) -> None:
        jobs = [create(backend, owner="u1").id for _ in range(7)][::-1]
        page = backend.job_store.list_jobs(limit=3, owner="u1")
        assert (ids(page), page.unreadable) == (jobs[:3], [])
        create(backend, owner="u1")
        backend.job_store.remove_job(jobs[2])
        page = backend.job_store.list_jobs(limit=3, owner="u1", cursor=page.cursor)
        assert ids(page) == jobs[3:6]
        page = backend.job_store.list_jobs(limit=3, owner="u1", cursor=page.cursor)
        assert (ids(page), page.cursor) == (jobs[6:], None)

    def test_all_pages_together_are_all_jobs(self, backend: JobBackend) -> None:
        jobs = [create(backend, owner="u1", tags={"n": str(number % 3)}).id for number in range(130)][::-1]
        numbers = dict(zip(jobs, range(129, -1, -1), strict=True))
        for tag, wanted in ((None, jobs), (("n", "1"), [job for job in jobs if numbers[job] % 3 == 1])):
            found, cursor, is_first = [], None, True
            while is_first or cursor:
                page = backend.job_store.list_jobs(limit=20, owner="u1", tag=tag, cursor=cursor)
                found, cursor, is_first = [*found, *ids(page)], page.cursor, False
            assert found == wanted

    @pytest.mark.parametrize("cursor", ["", "x", "!", "MTIz", "bmFuIA", "MS4wIGFi", "á", "1" * 5000])
    def test_a_cursor_that_no_page_had_is_refused(self, backend: JobBackend, cursor: str) -> None:
        create(backend)
        with pytest.raises(InvalidRequest, match="cursor"):
            backend.job_store.list_jobs(cursor=cursor)

    def test_an_owner_may_have_so_many_waiting_jobs(self, backend: JobBackend) -> None:
        backend.job_store.set_owner_limits("u1", OwnerLimits(max_queued=2))
        key = uuid.uuid4().hex
        jobs = [a_job(owner="u1") for _ in range(2)]
        assert backend.job_store.create_job(jobs[0], key) == jobs[0].id
        backend.job_store.create_job(jobs[1])
        with pytest.raises(OwnerLimit, match="2 waiting jobs") as caught:
            create(backend, owner="u1")
        assert (caught.value.limit, caught.value.maximum, caught.value.retryable) == ("max_queued", 2, True)
        assert backend.job_store.create_job(a_job(owner="u1"), key) == jobs[0].id
        create(backend, owner="u2")
        create(backend)
        run(backend, jobs[0], Stage.EMBED)  # it waits for its next stage, but it runs
        create(backend, owner="u1")
        with pytest.raises(OwnerLimit):
            create(backend, owner="u1")
        backend.job_store.end_job(jobs[1].id, State.CANCELLED)
        create(backend, owner="u1")

    def test_an_owner_may_run_so_many_jobs_at_once(self, backend: JobBackend) -> None:
        backend.worker_registry.send_heartbeat(a_worker(id=ME))
        store = backend.job_store
        store.set_owner_limits("u1", OwnerLimits(max_running=2))
        first, second, third, fourth = (create(backend, owner="u1") for _ in range(4))
        others = [create(backend, owner="u2"), create(backend)]
        first = run(backend, first, Stage.EMBED)
        store.start_stage(second.id, Stage.EMBED, ME)
        for job in (third, fourth):
            with pytest.raises(OwnerBusy):
                store.start_stage(job.id, Stage.EMBED, ME)
            assert store.park_job(job) is None
        assert not {third.id, fourth.id} & set(store.jobs_without_message(0))
        for job in others:
            store.start_stage(job.id, Stage.EMBED, ME)
        store.start_stage(first.id, Stage.MASK, ME)  # it has started before
        store.end_job(second.id, State.FAILED, worker=ME)
        assert store.start_stage(third.id, Stage.EMBED, ME).attempts == {Stage.EMBED: 1}
        with pytest.raises(OwnerBusy):
            store.start_stage(fourth.id, Stage.EMBED, ME)
        store.set_owner_limits("u1", None)
        assert store.start_stage(fourth.id, Stage.EMBED, ME).state is State.RUNNING

    @pytest.mark.parametrize("way", ["cancelled", "removed", "expired"])
    def test_a_parked_job_that_ends_is_parked_no_more(self, backend: JobBackend, way: str) -> None:
        backend.worker_registry.send_heartbeat(a_worker(id=ME))
        store = backend.job_store
        store.set_owner_limits("u1", OwnerLimits(max_running=1))
        running, parked, last = create(backend, owner="u1"), a_job(owner="u1", start_timeout=2), a_job(owner="u1")
        store.start_stage(running.id, Stage.EMBED, ME)
        for job in (parked, last):
            store.create_job(job)
            store.park_job(job)
        if way == "cancelled":
            store.end_job(parked.id, State.CANCELLED)
        elif way == "removed":
            store.remove_job(parked.id)
        else:
            until_overdue(backend, parked)
            assert store.expire_job(parked.id) is State.EXPIRED
        with pytest.raises(OwnerBusy):
            store.start_stage(last.id, Stage.EMBED, ME)
        store.remove_job(running.id)
        assert store.start_stage(last.id, Stage.EMBED, ME).state is State.RUNNING
        assert store.jobs_without_message(0) == []

    def test_limits_of_a_job(self, backend: JobBackend) -> None:
        backend.job_store.set_owner_limits("u1", OwnerLimits(max_pixels=1000, max_steps=20))
        small = a_request({"num_inference_steps": 20})
        for pixels in (1000, None):
            backend.job_store.create_job(a_job(small, owner="u1"), pixels=pixels)
        for request, pixels, limit in ((small, 1001, "max_pixels"), (a_request(), 1, "max_steps")):
            job = a_job(request, owner="u1")
            with pytest.raises(OwnerLimit) as caught:
                backend.job_store.create_job(job, pixels=pixels)
            assert (caught.value.limit, caught.value.retryable) == (limit, False)
            with pytest.raises(JobNotFound):
                backend.job_store.status(job.id)

    def test_owners_without_limits_have_those_of_all_others(self, backend: JobBackend, whole: Client) -> None:
        whole.set_owner_limits(limits=OwnerLimits(max_queued=0))
        whole.set_owner_limits("u1", OwnerLimits(max_steps=500))
        create(backend, owner="u1")
        with pytest.raises(OwnerLimit):
            create(backend, owner="u2")
        create(backend)
        assert whole.owner_limits("u1") == OwnerLimits(max_steps=500)
        assert whole.owner_limits("u2") == whole.owner_limits() == OwnerLimits(max_queued=0)
        whole.set_owner_limits("u1")
        with pytest.raises(OwnerLimit):
            create(backend, owner="u1")
        whole.set_owner_limits()
        create(backend, owner="u2")
        assert whole.owner_limits("u1") == OwnerLimits()

    def test_a_removed_job_leaves_nothing(self, backend: JobBackend) -> None:
        key, job = uuid.uuid4().hex, a_job(a_request(image=f"inputs/aa/{uuid.uuid4().hex * 2}.png"), owner="u1")
        backend.job_store.create_job(job, key)
        finished = run(backend, job, *ALL)
        removed = backend.job_store.remove_job(job.id)
        assert removed.objects == {job.request.image, *finished.artifact_keys.values()}
        assert removed.unused == removed.objects - {
            finished.artifact_keys[artifact] for artifact in (Artifact.EMBEDDINGS, Artifact.CAPTION_EMBEDDING)
        }
        with pytest.raises(JobNotFound):
            backend.job_store.status(job.id)
        with pytest.raises(JobNotFound):
            backend.job_store.remove_job(job.id)
        assert ids(backend.job_store.list_jobs(owner="u1")) == []
        assert backend.job_store.create_job(again := a_job(owner="u1"), key) == again.id
        assert backend.job_store.kept_objects().keys() >= removed.objects
        backend.job_store.forget_kept(removed.objects)
        assert not backend.job_store.kept_objects().keys() & removed.objects

    @pytest.mark.parametrize("is_running", [False, True])
    def test_a_job_that_is_removed_before_its_end_never_runs(self, backend: JobBackend, is_running: bool) -> None:
        job = create(backend, owner="u1")
        if is_running:
            run(backend, job, Stage.EMBED)
            backend.job_store.start_stage(job.id, Stage.MASK, ME)
        backend.job_store.remove_job(job.id)
        store = backend.job_store
        assert job.id not in [*store.jobs_held_by(ME), *store.jobs_without_message(0)]
        assert not store.keys_in_use()
        with pytest.raises(JobNotFound):
            store.start_stage(job.id, Stage.EMBED, ME)
        with pytest.raises(JobNotFound):
            store.report_step(job.id, 1, 2, ME)
        store.set_owner_limits("u1", OwnerLimits(max_queued=1))
        create(backend, owner="u1")

    def test_objects_of_other_jobs_are_no_unused_ones(self, backend: JobBackend) -> None:
        image = f"inputs/aa/{uuid.uuid4().hex * 2}.png"
        finished = run(backend, create(backend, a_job(a_request(image=image, mask=MASK))), Stage.EMBED, Stage.INVERT)
        other = create(backend, a_job(a_request(image=image)))
        masked = create(backend, a_job(a_request(mask=MASK)))
        removed = backend.job_store.remove_job(finished.id)
        assert removed.unused == {finished.artifact_keys[Artifact.TRAJECTORY]}
        backend.job_store.end_job(masked.id, State.CANCELLED)
        assert backend.job_store.remove_job(other.id).unused == {image}
        assert MASK in backend.job_store.remove_job(masked.id).unused
        assert backend.job_store.mentioned([image, MASK]) == set()

    def test_what_a_user_writes_is_no_object_of_the_job(self, backend: JobBackend) -> None:
        other = f"inputs/ff/{uuid.uuid4().hex * 2}.png"
        job = create(backend, a_job(a_request(source_prompt=other, target_prompt="a pear"), keep=60, tags={"x": other}))
        assert backend.job_store.mentioned([other]) == {other}  # which only keeps it
        backend.job_store.end_job(job.id, State.CANCELLED)
        assert other not in backend.job_store.kept_objects()
        assert other not in backend.job_store.remove_job(job.id).objects

    def test_objects_are_kept_from_the_end_of_the_job(self, backend: JobBackend) -> None:
        kept = a_job(a_request(image=f"inputs/aa/{uuid.uuid4().hex * 2}.png"), keep=3600)
        job = run(backend, create(backend, kept), *ALL[:-1])
        assert not backend.job_store.kept_objects()
        run(backend, job, Stage.EDIT)
        until = backend.job_store.kept_objects()
        assert until.keys() == {job.request.image, *done(job, Stage.EDIT).artifact_keys.values()}
        assert all(3590 < moment - backend.job_store.now() <= 3600 for moment in until.values())
        longer = create(backend, a_job(kept.request, keep=7200))
        backend.job_store.end_job(longer.id, State.CANCELLED)
        shorter = create(backend, a_job(kept.request, keep=60))
        backend.job_store.end_job(shorter.id, State.CANCELLED)
        assert backend.job_store.kept_objects()[job.request.image] > backend.job_store.now() + 7190

    def test_the_position_in_the_queue(self, backend: JobBackend) -> None:
        profile = f"m{uuid.uuid4().hex[:8]}"
        request = a_request({"profile": profile})
        first, second, third = (create(backend, a_job(request)) for _ in range(3))
        batch = create(backend, a_job(request, lane=Lane.BATCH))
        store = backend.job_store
        assert [store.queue_status(job.id).position for job in (first, second, third, batch)] == [0, 1, 2, 0]
        assert store.status(third.id).position is None
        backend.worker_registry.send_heartbeat(a_worker(id=ME))
        store.start_stage(first.id, Stage.EMBED, ME)
        assert [store.queue_status(job.id).position for job in (first, second, third)] == [None, 0, 1]
        store.end_job(second.id, State.CANCELLED)
        assert [store.queue_status(job.id).position for job in (second, third)] == [None, 0]
        assert store.queue_status(third.id).model_copy(update={"position": None}) == store.status(third.id)
        with pytest.raises(JobNotFound):
            store.queue_status(uuid.uuid4().hex)

    def test_the_time_that_is_left_is_estimated_from_earlier_jobs(self, backend: JobBackend) -> None:
        profile = f"m{uuid.uuid4().hex[:8]}"
        request = a_request({"profile": profile})
        queues = [create(backend, a_job(request)).queue]
        store = backend.job_store
        unknown = create(backend, a_job(request))
        assert store.queue_status(unknown.id).eta is None
        for job in list(store.list_jobs(limit=2).statuses):
            store.end_job(job.id, State.CANCELLED)
        run(backend, create(backend, a_job(request)), *ALL, seconds=10.0)
        run(backend, create(backend, a_job(request)), *ALL, seconds=0.01, cached=True)  # measures nothing
        run(backend, create(backend, a_job(request)), *ALL, seconds=18.0)
        ahead, job = (create(backend, a_job(request)) for _ in range(2))
        assert store.status(job.id).eta is None  # it depends on those that are ahead
        assert store.queue_status(job.id).eta is None  # of which no worker takes one
        backend.worker_registry.send_heartbeat(a_worker(id="w", name="w", queues=queues, batch_jobs=2, profile=profile))
        assert store.queue_status(ahead.id).eta == pytest.approx(44)
        assert store.queue_status(job.id).eta == pytest.approx(44 + 5.5)
        assert store.start_stage(job.id, Stage.EMBED, ME).eta == pytest.approx(44)
        store.report_step(job.id, 3, 4, ME)
        assert store.status(job.id).eta == pytest.approx(33 + 11 / 4)
        store.complete_stage(done(job, Stage.EMBED), Stage.EMBED, 11.0, [Artifact.EMBEDDINGS], ME)
        assert store.status(job.id).eta == pytest.approx(33)
        store.end_job(job.id, State.CANCELLED)
        assert store.status(job.id).eta is None

    def test_all_have_one_secret(self, make_backend: Callable[..., JobBackend]) -> None:
        backend = make_backend()
        assert backend.job_store.secret() == backend.job_store.secret()
        assert len(backend.job_store.secret()) == 32

    def test_the_jobs_of_others_do_not_exist_for_an_owner(self, whole: Client) -> None:
        mine, others = whole.for_owner("u1"), whole.for_owner("u2")
        job = others.edit(png(), **TEXTS, tags={"album": "9"})
        nobodys = whole.edit(png(), **TEXTS)
        for hidden in (mine.job(job.id), mine.job(nobodys.id)):
            for call in (
                hidden.status,
                lambda hidden=hidden: hidden.status(queue=True),
                lambda hidden=hidden: next(iter(hidden.watch(timeout=1))),
                lambda hidden=hidden: hidden.wait(timeout=1),
                lambda hidden=hidden: hidden.result(timeout=1),
                hidden.preview,
                hidden.cancel,
                hidden.retry,
                hidden.delete,
            ):
                with pytest.raises(JobNotFound):
                    call()
        assert mine.jobs() == [] == mine.jobs(tag="album")
        assert [status.id for status in others.jobs()] == [job.id]
        assert {status.id for status in whole.jobs()} >= {job.id, nobodys.id}
        assert not others.job(job.id).status().is_terminal
        assert others.job(job.id).cancel()
        again = others.job(job.id).retry()
        assert (again.status().owner, again.status().tags) == ("u2", {"album": "9"})

    def test_an_idempotency_key_is_the_owners_own(self, whole: Client) -> None:
        first, second = whole.for_owner("u1"), whole.for_owner("u2")
        job = first.edit(png(), **TEXTS, idempotency_key="k")
        assert first.edit(png(), **TEXTS, idempotency_key="k").id == job.id
        assert whole.edit(png(), **TEXTS, owner="u1", idempotency_key="k").id == job.id
        assert len({job.id, second.edit(png(), **TEXTS, idempotency_key="k").id, whole.edit(png(), **TEXTS).id}) == 3
        assert second.edit(png(), target_prompt="another", idempotency_key="other").status().owner == "u2"

    def test_a_client_of_one_owner_is_no_other_ones(self, whole: Client) -> None:
        mine = whole.for_owner("u1")
        assert mine.for_owner("u1").edit(png(), **TEXTS, owner="u1").status().owner == "u1"
        for call in (
            lambda: mine.for_owner("u2"),
            lambda: mine.edit(png(), **TEXTS, owner="u2"),
            lambda: mine.jobs(owner="u2"),
            lambda: mine.delete_owner("u2"),
            lambda: mine.owner_limits("u2"),
            lambda: mine.set_owner_limits("u1"),
            lambda: mine.collect_garbage("30d"),
        ):
            with pytest.raises(InvalidRequest):
                call()
        assert mine.owner_limits("u1") == mine.owner_limits() == OwnerLimits()

    def test_all_of_an_owner_is_deleted_and_nothing_of_others(self, whole: Client, backend: JobBackend) -> None:
        mine, others = whole.for_owner("u1"), whole.for_owner("u2")
        theirs = others.edit(png(), **TEXTS)
        nobodys = whole.edit(png(), **TEXTS)
        jobs = [mine.edit(png((32, 24 + number)), **TEXTS) for number in range(3)]
        jobs[0].cancel()
        for job in jobs[1:]:
            backend.job_store.start_stage(job.id, Stage.EMBED, ME)
        pictures = {status.request.image for status in mine.jobs()}
        deleted = whole.delete_owner("u1")
        assert (deleted.jobs, deleted.objects) == (3, 3)
        assert mine.jobs() == [] == list(backend.job_store.kept_objects())
        assert not [key for key in pictures if whole._object_store.exists(key)]
        for job in (theirs, nobodys):
            assert whole._object_store.exists(job.status().request.image)
        assert whole.delete_owner("u1").jobs == 0
