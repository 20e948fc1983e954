"""What surrounds the models: queue, record and store. Real Valkey, S3 server and workers.

    python -m benchmarks.service [NAME ...]

Where it says so the device is simulated (benchmarks/simulated.py): a stage sleeps, and all around it is real.
"""

import itertools
import os
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, cast

import psutil
import torch
from celery import chain as celery_chain

from benchmarks import spans
from benchmarks.distance import distant
from benchmarks.figures import Figure, measured, run_figures, seconds
from benchmarks.sides import Reference
from benchmarks.site import CONCEPTS, SIMULATED, TIMED, Site, midsize_site, site
from diffedit import Client, WorkerInfo
from diffedit.contract.job import Job
from diffedit.contract.stages import ModelGroup, queue_name, queue_names
from diffedit.jobs.backend import redis_backend
from diffedit.jobs.dispatch import celery_app, send
from diffedit.objects.s3 import S3ObjectStore
from diffedit.objects.store import ObjectStore
from diffedit.pictures import read_picture
from diffedit_worker.local.commands import PICTURE, SOURCE, TARGETS
from diffedit_worker.models.loading import Models
from diffedit_worker.models.profiles import SAMPLES, load_profiles
from diffedit_worker.runtime.runner import Runner

ENDPOINT = "DIFFEDIT_S3_ENDPOINT_URL"
FAR = 0.02
"""Seconds that a request to a distant S3 is longer under way."""
PROMPTS: dict[str, Any] = {"source_prompt": "a pear on a table", "target_prompt": "a ball on a table"}


def chain(runs: int = 15) -> Iterator[Figure]:
    """An empty chain of six stages against a bare Celery chain of six empty tasks, on the same worker, interleaved."""
    with site(SIMULATED_SECONDS="0") as here:
        here.hire(1, SIMULATED)
        app = celery_app(here.settings)
        queue = queue_name("tiny", ModelGroup.LANGUAGE)
        message = here.client.edit(here.picture(), **CONCEPTS).status().job.model_dump(mode="json")

        def bare() -> None:
            tasks = [app.signature(name, queue=queue) for name in ["bare"] * 5 + ["bare.last"]]
            tasks[0].args = (message,)
            celery_chain(*tasks, app=app).apply_async()
            here.server.brpop("bare:done")

        def ours() -> float:
            """By the record's own times: without the upload of the picture, and with nobody who polls."""
            status = here.client.edit(here.picture(), **CONCEPTS).wait()
            return (status.finished_at - status.created_at).total_seconds() if status.finished_at else 0.0

        for _ in range(3):
            bare()
            ours()
        pairs = [(seconds(bare), ours()) for _ in range(runs)]
    yield Figure(
        "empty six-stage chain, record made to record ended, against a bare Celery chain",
        measured(statistics.median(ours / bare for bare, ours in pairs)),
        measured(1000 * statistics.median(bare for bare, _ in pairs), "1.00 = {} ms", digits=1),
        bar="3.0 or less",
    )


def scaling(seconds: float = 0.5, jobs: int = 4) -> Iterator[Figure]:
    """Throughput of 1, 2 and 4 workers whose stages sleep."""
    rates: dict[int, float] = {}
    for count in (1, 2, 4):
        with site(SIMULATED_SECONDS=str(seconds)) as here:
            here.hire(count, SIMULATED)
            for job in [here.client.edit(**here.novel()) for _ in range(count)]:
                here.ended(job)  # the first job of a worker warms it up
            started = time.perf_counter()
            for job in [here.client.edit(**here.novel()) for _ in range(count * jobs)]:
                here.ended(job)
            rates[count] = count * jobs / (time.perf_counter() - started)
    for count in (2, 4):
        yield Figure(
            f"throughput of {count} workers over {count} times that of one (simulated, {seconds:g} s a stage)",
            measured(rates[count] / rates[1] / count, digits=3),
            "1.000",
            bar="0.95 or more at 4" if count == 4 else "",
        )


def distance(stage: float = 0.25, jobs: int = 12) -> Iterator[Figure]:
    """How busy the device of one worker is while jobs wait, when each request to S3 takes a while to arrive."""
    with site(SIMULATED_SECONDS=str(stage)) as here, distant(here.stack.environment[ENDPOINT], FAR) as far:
        here.hire(1, SIMULATED, **{ENDPOINT: far})
        here.ended(here.client.edit(**here.novel()))
        submitted = [here.client.edit(**here.novel()) for _ in range(jobs)]
        for job in submitted:
            here.ended(job)
        records = [job.status() for job in submitted]
    assert not any(record.cache_hits for record in records)  # for which nobody would have slept
    busy = stage * sum(len(record.stages) for record in records)
    began = min(record.started_at for record in records if record.started_at)
    ended = max(record.finished_at for record in records if record.finished_at)
    yield Figure(
        f"device busy, one worker, S3 {1000 * FAR:.0f} ms away (simulated, {stage:g} s a stage, four stages)",
        measured(100 * busy / (ended - began).total_seconds(), "{} %", digits=1),
    )


def around(jobs: int = 1) -> Iterator[Figure]:
    """The share of a job's time that is not spent inside forwards: mid-size model, one warm worker."""
    with tempfile.NamedTemporaryFile() as written, midsize_site(TIMED, SPANS=written.name) as (here, _):
        shares = []
        for _ in range(jobs):
            began = time.monotonic()
            here.edited(**here.novel(), num_inference_steps=20)
            pieces = spans.segments(spans.read(Path(written.name)), began, time.monotonic(), spans.MODELS, rest="rest")
            shares.append(spans.shares(pieces)["rest"])
    yield Figure(
        "time around the model, submit to result, mid-size model at 20 steps, one warm worker",
        measured(100 * statistics.median(shares), "{} %"),
        bar="5 % or less",
    )


def again() -> Iterator[Figure]:
    """A second edit of a picture, with another target, through the queue: against the reference's whole edit of it in
    this process, for the reference can reuse nothing, and against our own first edit."""
    steps = 20
    with midsize_site("diffedit_worker.app") as (here, models):
        picture = (SAMPLES / PICTURE).read_bytes()
        resized = read_picture(picture).image.convert("RGB").resize((models.size, models.size))
        reference = Reference(models)
        reference(resized, SOURCE, TARGETS[0], steps=2)  # what is loaded lazily is loaded now
        assert torch.get_num_threads() == os.cpu_count()  # as in the worker, by the profile

        asked: dict[str, Any] = {"source_prompt": SOURCE, "num_inference_steps": steps, "seed": 0}
        first = here.edited(picture, **asked, target_prompt=TARGETS[0])
        theirs = seconds(lambda: reference(resized, SOURCE, TARGETS[1], steps=steps))
        second = here.edited(picture, **asked, target_prompt=TARGETS[1])
    yield Figure(
        f"second edit of a picture, new target, through the queue, mid-size model at {steps} steps",
        measured(second / theirs),
        measured(theirs, "1.00 = {} s, in process"),
        bar="0.55 or less",
    )
    yield Figure(
        "the same against our own first edit of it",
        measured(second / first),
        measured(first, "1.00 = {} s, through the queue"),
    )


class Counted:
    """A store that counts requests and bytes."""

    def __init__(self, object_store: ObjectStore) -> None:
        self._object_store = object_store
        self.requests: Counter[str] = Counter()
        self.bytes: Counter[str] = Counter()

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._object_store, name)

        def counted(key: str, *args: Any) -> Any:
            self.requests[name] += 1
            answer = method(key, *args)
            if name in ("put", "get"):
                self.bytes[name] += len(args[0] if name == "put" else answer)
            return answer

        return counted


def sizes() -> Iterator[Figure]:
    """Bytes and requests of one job of four stages at the default steps, client and worker in this process."""
    with site() as here:
        backend, object_store = redis_backend(here.settings), Counted(S3ObjectStore(here.settings))
        backend.worker_registry.send_heartbeat(
            WorkerInfo(id="here", name="here", profile="tiny", device="cpu", queues=())
        )
        client = Client(here.settings, object_store=cast(ObjectStore, object_store))
        models = cache(lambda name: Models(load_profiles()[name], device="cpu"))
        byte_cache = here.settings.cache_bytes
        runner = Runner(
            backend.job_store,
            backend.artifact_locks,
            cast(ObjectStore, object_store),
            models,
            worker="here",
            send=lambda job: None,
            cache_bytes=byte_cache,
        )
        job = client.edit((SAMPLES / "06.png").read_bytes(), **PROMPTS)
        message = str(here.server.lindex(queue_name("tiny", ModelGroup.LANGUAGE), 0))
        handed: Job | None = job.status().job
        here.server.config_resetstat()
        while handed and handed.stages_left:
            handed = runner.run(handed.stages_left[0], handed.id)
        stats: dict[str, Any] = here.server.info("commandstats")
        scripts = stats["cmdstat_evalsha"]["calls"]
        record = here.server.memory_usage(f"diffedit:job:{job.id}")
        yield Figure("Redis calls of a job in the worker, default steps", f"{scripts} scripts")
        yield Figure("Redis bytes of an ended job", str(record), bar="under 4 KB")
        yield Figure("bytes of the queue's message", str(len(message)), bar="under 8 KB")
        asked = ", ".join(f"{count} {name}" for name, count in sorted(object_store.requests.items()))
        yield Figure(
            "S3 requests of a job, client and worker", f"{object_store.requests.total()}: {asked}", bar="listed"
        )
        moved = ", ".join(f"{count / 1e3:.0f} KB {name}" for name, count in sorted(object_store.bytes.items()))
        yield Figure("S3 bytes of a job, client and worker", moved, bar="listed")


def backlog(jobs: int = 10_000, workers: int = 2) -> Iterator[Figure]:
    """Many waiting jobs, simulated stages that take no time: is the last thousand as fast as the first?"""
    with site(SIMULATED_SECONDS="0") as here:
        picture = here.picture()
        request = here.client.edit(picture, **PROMPTS).status().request
        job_store, app = redis_backend(here.settings).job_store, celery_app(here.settings)
        before = _cpu(here)
        for seed in range(jobs - 1):
            params = request.params.model_copy(update={"seed": seed})
            job = Job(id=uuid.uuid4().hex, request=request.model_copy(update={"params": params}))
            job_store.create_job(job)
            send(app, job)
        waiting = _memory(here)
        here.hire(workers, SIMULATED)
        marks = [(time.perf_counter(), 0)]
        memory = []
        while marks[-1][1] < jobs:
            time.sleep(0.5)
            ended = _ended(here, jobs)
            if ended - marks[-1][1] >= jobs // 10 or ended >= jobs:
                marks.append((time.perf_counter(), ended))
                memory.append(_workers(here))
        rates = [(n2 - n1) / (t2 - t1) for (t1, n1), (t2, n2) in itertools.pairwise(marks)]
        ended, cpu = _memory(here), _cpu(here) - before
    yield Figure(
        f"{jobs} queued jobs, {workers} workers, stages of no length: second last tenth against second",
        measured(rates[-2] / rates[1]),
        measured(rates[1], "1.00 = {} jobs a second", digits=0),
        bar="flat",
    )
    yield Figure(
        "  memory of Valkey, all ended against all waiting",
        measured(ended / waiting),
        measured(waiting / 1e6, "1.00 = {} MB", digits=0),
        bar="flat",
    )
    yield Figure("  time of Valkey's core for a job of four stages", measured(1000 * cpu / jobs, "{} ms"))
    yield Figure(
        "  memory of a worker, last tenth against first",
        measured(memory[-1] / memory[0]),
        measured(memory[0], "1.00 = {} MB", digits=0),
        bar="flat",
    )


def _ended(here: Site, jobs: int) -> int:
    held = here.server.hlen("diffedit:running")
    waiting = sum(here.server.zcard(f"diffedit:waiting:{name}") for name in queue_names("tiny"))
    return int(jobs - held - waiting)


def _memory(here: Site) -> int:
    return int(here.server.info("memory")["used_memory"])


def _cpu(here: Site) -> float:
    """Seconds that Valkey has computed."""
    used = here.server.info("cpu")
    return float(used["used_cpu_user"] + used["used_cpu_sys"])


def _workers(here: Site) -> float:
    """The resident memory of the largest worker, in MB."""
    workers = [process for name, process in here.stack.processes.items() if name.startswith("worker")]
    return max(psutil.Process(worker.pid).memory_info().rss for worker in workers) / 1e6


def client(runs: int = 5) -> Iterator[Figure]:
    """What a program pays that only submits and polls."""

    def python(code: str) -> float:
        return seconds(lambda: subprocess.run([sys.executable, "-c", code], check=True))

    added = [python("import diffedit") - python("pass") for _ in range(runs)]
    yield Figure(
        "import of the client over bare Python", measured(statistics.median(added), "{} s"), bar="0.35 s or less"
    )
    with site() as here:
        job = here.client.edit(here.picture(), **PROMPTS)
        here.server.config_resetstat()
        job.status()
        calls = {name: stats["calls"] for name, stats in here.server.info("commandstats").items()}
        calls.pop("cmdstat_config|resetstat", None)
        yield Figure("one status poll", ", ".join(f"{n} {c[8:]}" for c, n in calls.items()), bar="one round trip")


FIGURES = (client, chain, sizes, scaling, distance, around, again, backlog)

if __name__ == "__main__":
    run_figures(FIGURES, __doc__)
