"""How job stores deal with other versions: over the doubles in tests/unit, over Redis in tests/integration."""

import json
from collections.abc import Callable

import pytest

from diffedit.contract import versions
from diffedit.contract.job import Job, State
from diffedit.contract.object_keys import artifact_key
from diffedit.contract.stages import Artifact, Stage
from diffedit.errors import BadRecord, NewerRecord
from diffedit.jobs.backend import JobBackend
from diffedit.jobs.store import RefusedBefore
from tests.support.backend_behaviour import ME, OTHER, BackendBehaviour, at_mask, new_job, orphans
from tests.support.factories import a_worker
from tests.support.refusal_behaviour import ERROR

Rewrite = Callable[[JobBackend, Job], Callable[..., None]]
NEWER = str(versions.CONTRACT + 1)


class VersionBehaviour(BackendBehaviour):
    """A subclass has a fixture `rewrite`: a function that changes fields of a job's record."""

    def test_unknown_fields_are_ignored(self, backend: JobBackend, rewrite: Rewrite) -> None:
        job = new_job(backend)
        request = json.loads(job.request.model_dump_json())
        request["params"]["new_parameter"] = request["new_text"] = 1
        rewrite(backend, job, request=json.dumps(request), options='{"lane":"interactive","new_limit":1}', news="1")
        assert backend.job_store.status(job.id).job == job
        assert backend.job_store.start_stage(job.id, Stage.EMBED, ME).job == job
        assert [status.id for status in backend.job_store.list_jobs(limit=1).statuses] == [job.id]

    @pytest.mark.parametrize(
        "text", ["", "00-zz", "01-" + "ab" * 16 + "-" + "ab" * 8 + "-01", "00-" + "0" * 32 + "-" + "ab" * 8 + "-01"]
    )
    def test_a_trace_in_a_form_that_nobody_knows_is_no_damage(
        self, backend: JobBackend, rewrite: Rewrite, text: str
    ) -> None:
        job = new_job(backend)
        rewrite(backend, job, traceparent=text)
        assert backend.job_store.start_stage(job.id, Stage.EMBED, ME).job == job

    def test_a_record_without_a_contract_is_of_the_first_one(self, backend: JobBackend, rewrite: Rewrite) -> None:
        job = new_job(backend)
        assert backend.job_store.status(job.id).contract == 1
        rewrite(backend, job, contract=None)
        assert backend.job_store.start_stage(job.id, Stage.EMBED, ME).contract == 1

    def test_a_job_of_a_newer_contract_is_left_to_newer_workers(self, backend: JobBackend, rewrite: Rewrite) -> None:
        job = new_job(backend)
        rewrite(backend, job, contract=NEWER)
        with pytest.raises(NewerRecord):
            backend.job_store.start_stage(job.id, Stage.EMBED, ME)
        status = backend.job_store.status(job.id)
        assert (status.state, status.attempts, status.contract) == (State.QUEUED, {}, int(NEWER))
        assert job.id in orphans(backend, waited=-1)

    @pytest.mark.parametrize("field", ["stage", "next", "outcome", "request"])
    def test_what_a_newer_version_calls_by_another_name_is_no_damage(
        self, backend: JobBackend, rewrite: Rewrite, field: str
    ) -> None:
        job = new_job(backend)
        rewrite(backend, job, **{"contract": NEWER, field: "upscale"})
        if field == "next":  # only workers need it
            assert backend.job_store.status(job.id).id == job.id
            return
        with pytest.raises(NewerRecord, match="upgrade"):
            backend.job_store.status(job.id)
        if field == "outcome":  # an outcome that is unknown here can only be a newer version's
            return
        rewrite(backend, job, contract=str(versions.CONTRACT))
        with pytest.raises(BadRecord) as caught:
            backend.job_store.status(job.id)
        assert not isinstance(caught.value, NewerRecord)

    def test_unreadable_records_are_listed_by_their_ids(self, backend: JobBackend, rewrite: Rewrite) -> None:
        first, damaged, last = (new_job(backend) for _ in range(3))
        rewrite(backend, damaged, request="{")
        page = backend.job_store.list_jobs(limit=3)
        assert [status.id for status in page.statuses[:2]] == [last.id, first.id]
        assert page.unreadable == [damaged.id]

    def test_the_objects_of_unfinished_jobs_are_in_use(self, backend: JobBackend, rewrite: Rewrite) -> None:
        running, ended, waiting = at_mask(backend), new_job(backend), new_job(backend)
        backend.job_store.end_job(ended.id, State.CANCELLED)
        pictures = [f"inputs/{digits}/{digits * 32}.png" for digits in ("ab", "ac", "ad")]
        newer = artifact_key("depth_map", "ef" * 32, "exr")
        rewrite(backend, waiting, request=f'{{"image": "{pictures[1]}", "new": ["{pictures[2]}"')
        rewrite(backend, running, **{"artifact:depth_map": newer})
        rewrite(backend, ended, request="inputs/ff/" + "ff" * 32 + ".png")
        used = backend.job_store.keys_in_use()
        keys = backend.job_store.status(running.id).artifact_keys
        assert {*pictures, newer, keys[Artifact.EMBEDDINGS]} <= used
        assert "inputs/ff/" + "ff" * 32 + ".png" not in used

    def test_the_leader_is_a_worker_of_the_newest_contract(self, backend: JobBackend) -> None:
        registry = backend.worker_registry
        registry.send_heartbeat(a_worker(id="old", contract=1))
        for each in ("new", "newer"):
            registry.send_heartbeat(a_worker(id=each, contract=versions.CONTRACT))
        assert registry.acquire_leadership("old", seconds=60)
        assert registry.acquire_leadership("new", seconds=60)
        assert not registry.acquire_leadership("newer", seconds=60)

    def test_only_workers_that_can_serve_a_job_count_as_untried(self, backend: JobBackend, rewrite: Rewrite) -> None:
        job = at_mask(backend)
        backend.worker_registry.send_heartbeat(a_worker(id=ME, name="me", contract=versions.CONTRACT))
        backend.worker_registry.send_heartbeat(a_worker(id=OTHER, name="other", contract=1))
        rewrite(backend, job, contract=str(versions.CONTRACT))
        assert backend.job_store.refuse_stage(job, Stage.MASK, ME, ERROR) == (None, False)
        rewrite(backend, job, contract="1")
        with pytest.raises(RefusedBefore):
            backend.job_store.start_stage(job.id, Stage.MASK, ME)
