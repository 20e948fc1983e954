"""A Redis user that was made for an older version: without the commands for which scripts have another way."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
import redis
from pydantic import SecretStr

from diffedit import Settings, State
from diffedit.jobs.backend import redis_backend
from diffedit.jobs.store import JobStore
from tests.support.factories import a_job, done

SECURITY = Path(__file__).parents[2] / "SECURITY.md"
LATER = {"+hmget", "+hincrbyfloat", "+rpop"}
EACH = [LATER, {"+hmget"}]


@pytest.fixture(params=EACH, ids=len)
def refused(request: pytest.FixtureRequest) -> set[str]:
    """The commands that the user may not run."""
    return request.param


@pytest.fixture
def store(settings: Settings, refused: set[str]) -> Iterator[JobStore]:
    """The job store of a worker whose user may not run these commands."""
    url = settings.redis_url.get_secret_value()
    server = redis.Redis.from_url(url, decode_responses=True)
    line = re.search(r"^user diffedit-worker on >WORKER_PASSWORD (.*)$", SECURITY.read_text(), flags=re.MULTILINE)
    assert line and set(line[1].split()) >= LATER
    rules = [rule for rule in line[1].split() if rule not in refused]
    server.execute_command("ACL", "SETUSER", "older", "reset", "on", ">secret", *rules)
    own = settings.model_copy(update={"redis_url": SecretStr(f"redis://older:secret@{url.rpartition('@')[2]}")})
    yield redis_backend(own).job_store
    server.acl_deluser("older")


def test_an_older_user_runs_a_job_to_its_end(store: JobStore, refused: set[str]) -> None:
    today = datetime.fromtimestamp(store.now(), UTC).date()
    owner = f"shop-{len(refused)}"
    job = a_job(owner=owner, keep=100.0)
    store.create_job(job, pixels=4096)
    stages = job.stages_left
    for stage in stages:
        assert store.start_stage(job.id, stage, "rig").attempts[stage] == 1
        job = done(job, stage)
        store.report_step(job.id, 1, 2, "rig")
        store.complete_stage(job, stage, 1.0, list(stage.gives), "rig", device_seconds=1.5)
    status = store.status(job.id)
    assert status.state is State.SUCCEEDED and status.finished_at
    assert store.overdue_jobs() == store.jobs_held_by("rig") == []
    used = [usage.gpu_seconds for usage in store.usage([today]) if usage.owner == owner]
    assert used == ([] if "+hincrbyfloat" in refused else [1.5 * len(stages)])
