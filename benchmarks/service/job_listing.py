"""How long a list of jobs takes if few of many records are wanted: by the indexes, and by reading all records.

    python -m benchmarks job_listing
    python -m benchmarks.service.job_listing 200000      (with so many jobs that have ended)

The jobs that are wanted are the oldest, which is the worst case of a scan that begins with the newest.
"""

import argparse
import time
import uuid
from collections.abc import Callable, Iterator
from operator import itemgetter
from typing import Any, cast

from benchmarks.harness.environment import PROMPTS, Environment, service_environment
from benchmarks.harness.results import ResultRow, measurement
from diffedit.contract.job import ErrorInfo, Job, JobOptions, State
from diffedit.contract.stages import Stage
from diffedit.jobs import keys
from diffedit.jobs.backend import redis_backend
from diffedit.jobs.filters import JobFilter
from diffedit.jobs.store import JobStore

RARE = 10
"""Jobs that failed, of a small owner and another profile."""
WAITING = 1000
OWNER = "big"
REPEATED = 7
LOST = ErrorInfo(stage=Stage.EDIT, code="worker_lost", message="The worker was lost.")
FILTERS = {
    "failed": JobFilter(state=State.FAILED),
    "by error code": JobFilter(code=LOST.code),
    "by stage": JobFilter(stage=Stage.EDIT),
    "by profile": JobFilter(profile="other"),
    "succeeded, by profile": JobFilter(state=State.SUCCEEDED, profile="other"),
    "failed, of an owner with many jobs": JobFilter(state=State.FAILED, owner=OWNER),
    "queued": JobFilter(state=State.QUEUED),
}


def job_listing(jobs: int = 50_000) -> Iterator[ResultRow]:
    """Record `jobs` jobs that have ended, and list those of each filter."""
    with service_environment() as env:
        began = time.perf_counter()
        store = _fill(env, jobs)
        print(f"{jobs} jobs recorded in {time.perf_counter() - began:.0f} s", flush=True)
        yield from _rows(env, store, jobs)


def _fill(env: Environment, jobs: int) -> JobStore:
    """Let the scripts record the jobs that are rare and one of the others, and copy its record and its entries."""
    first = env.client.edit(env.new_picture(), **PROMPTS)
    request = first.status().request
    first.cancel()
    other = request.model_copy(update={"params": request.params.model_copy(update={"profile": "other"})})
    store, options = redis_backend(env.settings).job_store, JobOptions(owner=OWNER)
    for _ in range(RARE):
        job = Job(id=uuid.uuid4().hex, request=other, options=options)
        store.create_job(job)
        store.end_job(job.id, State.FAILED, LOST)
    common = Job(id=uuid.uuid4().hex, request=request, options=options)
    store.create_job(common)
    store.end_job(common.id, State.SUCCEEDED)
    record = cast(dict[Any, Any], env.redis.hgetall(keys.job_key(common.id)))
    profile, owner = f"{keys.ENDED_BY}profile:{request.params.profile}", keys.OWNER + OWNER
    names = (keys.INDEX, keys.ENDED, f"{keys.ENDED_BY}outcome:succeeded", profile, owner)
    with env.redis.pipeline(transaction=False) as pipe:
        for number in range(jobs - RARE - 1):
            job_id, created = uuid.uuid4().hex, float(record["created"]) + number / 1000
            pipe.hset(
                keys.job_key(job_id), mapping={**record, "created": f"{created:.6f}", "finished": f"{created:.6f}"}
            )
            for name in names:
                pipe.zadd(name, {job_id: created})
            if number % 1000 == 999:
                pipe.execute()
        pipe.execute()
        for number in range(WAITING):
            job_id, created = uuid.uuid4().hex, float(record["created"]) + (jobs + number) / 1000
            open_record = {name: value for name, value in record.items() if name not in ("outcome", "finished")}
            pipe.hset(keys.job_key(job_id), mapping={**open_record, "created": f"{created:.6f}"})
            pipe.zadd(keys.INDEX, {job_id: created})
            pipe.zadd(keys.WAITING + common.queue, {job_id: created})
        pipe.execute()
    return store


def _rows(env: Environment, store: JobStore, jobs: int) -> Iterator[ResultRow]:
    wanted = FILTERS["failed"]
    rare, first = _timed(lambda: _ids(store, wanted))
    scanned, scan = _timed(lambda: _scanned(store, wanted))
    assert rare == scanned and len(rare) == RARE
    for name, each in FILTERS.items():
        # The shortest of several: other programs may use the machine.
        found, seconds = min((_timed(lambda each=each: _ids(store, each)) for _ in range(REPEATED)), key=itemgetter(1))  # type: ignore[misc]
        assert found == {"succeeded, by profile": [], "queued": _newest_waiting(store)}.get(name, rare), name
        yield ResultRow(
            f"list of 50 jobs, {name}, among {jobs} that have ended",
            measurement(seconds, "{} s", digits=3),
            reference=measurement(scan, "all records: {} s", digits=1) if each is wanted else "",
            target="0.2 s or less",
        )
    yield ResultRow("  the first of these lists", measurement(first, "{} s", digits=3))
    memory = sum(env.redis.memory_usage(key) or 0 for key in [*env.redis.scan_iter(f"{keys.ENDED_BY}*"), keys.ENDED])
    yield ResultRow("  memory of the indexes, per job", measurement(memory / jobs, "{} bytes", digits=0))
    env.redis.delete(keys.ENDED, *env.redis.scan_iter(f"{keys.ENDED_BY}*"))
    _, seconds = _timed(lambda: _ids(store, wanted))
    yield ResultRow("  the first list after an upgrade, which makes them", measurement(seconds, "{} s", digits=1))


def _ids(store: JobStore, wanted: JobFilter) -> list[str]:
    return [status.id for status in store.find_jobs(wanted).statuses]


def _newest_waiting(store: JobStore) -> list[str]:
    return [status.id for status in store.list_jobs(limit=50).statuses]


def _scanned(store: JobStore, wanted: JobFilter) -> list[str]:
    """Return the same by reading all records, the newest first, as lists did before there were indexes."""
    found: list[str] = []
    cursor = None
    while len(found) < 50:
        page = store.list_jobs(limit=500, cursor=cursor)
        found += [status.id for status in page.statuses if wanted.matches(status)]
        cursor = page.cursor
        if cursor is None:
            break
    return found[:50]


def _timed(call: Callable[[], list[str]]) -> tuple[list[str], float]:
    began = time.perf_counter()
    return call(), time.perf_counter() - began


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("jobs", nargs="?", type=int, default=50_000)
    for row in job_listing(parser.parse_args().jobs):
        print(f"{row.name}: {row.ours}    {row.reference}", flush=True)
