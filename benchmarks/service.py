"""What surrounds the models: queue, record and store. Real Valkey, S3 server and workers.

    python -m benchmarks.service [NAME ...]

Where it says so the device is simulated (benchmarks/simulated.py): a stage sleeps, and all around it is real.
"""

import io
import itertools
import json
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, cast

import psutil
import redis
from celery import chain as celery_chain
from PIL import Image

from api_client import Client, JobHandle, Settings, WorkerInfo
from api_client.contract import Family, Job, queue_name, queue_names
from api_client.dispatch import celery_app, send
from api_client.redis_board import RedisBoard
from api_client.store import S3Store, Store
from benchmarks.distance import distant
from benchmarks.figures import Figure, run_figures, seconds, spread
from benchmarks.midsize import midsize
from worker.local import Stack
from worker.models import Models
from worker.profiles import load_profiles
from worker.runner import Runner

SAMPLES = Path(__file__).parents[1] / "worker/tiny/samples"
SIMULATED, TIMED = "benchmarks.simulated", "benchmarks.timed"
ENDPOINT = "DIFFEDIT_S3_ENDPOINT_URL"
FAR = 0.02
"""Seconds that a request to a distant S3 is longer under way."""
CONCEPTS: dict[str, Any] = {"source_concept": "pear", "target_concept": "ball"}
THINGS = {"source": "pear", "target": "ball"}
PROMPTS: dict[str, Any] = {"source_prompt": "a pear on a table", "target_prompt": "a ball on a table"}


class Site:
    """A stack with workers, and a client."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.settings = Settings.from_env(stack.environment)
        self.client = Client(self.settings)
        self.server = redis.Redis.from_url(stack.environment["DIFFEDIT_REDIS_URL"], decode_responses=True)
        self._numbers = itertools.count()

    def hire(self, count: int, app: str, **environment: str) -> None:
        """Start workers and wait until they are ready."""
        self.stack.environment |= environment
        for number in range(count):
            self.stack.start_worker(f"worker{number}", app=app)
        while len(self.client.health().workers) < count:
            self.stack.check()
            time.sleep(0.05)

    def picture(self) -> bytes:
        """One that nobody has seen, so that nothing of its edit is found done."""
        buffer, number = io.BytesIO(), next(self._numbers)
        Image.new("RGB", (64, 64), (number % 256, number // 256 % 256, number // 65536)).save(buffer, "PNG")
        return buffer.getvalue()

    def novel(self) -> dict[str, Any]:
        """An edit of four stages, none of which is found done: a new picture, and words that nobody has said."""
        number = next(self._numbers)
        words = {f"{side}_prompt": f"a {thing} on table {number}" for side, thing in THINGS.items()}
        return {"image": self.picture(), **words}

    def ended(self, job: JobHandle) -> None:
        """Wait without the pauses of a polite client."""
        while not self.server.hexists(f"diffedit:job:{job.id}", "outcome"):
            time.sleep(0.001)
        assert job.status().state == "succeeded", job.status().error


@contextmanager
def site(**environment: str) -> Iterator[Site]:
    with tempfile.TemporaryDirectory() as directory, Stack(Path(directory)) as stack:
        stack.environment |= environment
        yield Site(stack)


def _edit(here: Site, picture: bytes, asked: dict[str, Any]) -> float:
    """Seconds from the submission of an edit to its result."""
    return seconds(lambda: here.client.edit(picture, **asked).result())


def chain(runs: int = 15) -> Iterator[Figure]:
    """An empty chain of six stages against a bare Celery chain of six empty tasks, on the same worker, interleaved."""
    with site(SIMULATED_SECONDS="0") as here:
        here.hire(1, SIMULATED)
        app = celery_app(here.settings)
        queue = queue_name("tiny", Family.LANGUAGE)
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
        milliseconds = [f"{1000 * statistics.median(side):.0f}" for side in zip(*pairs, strict=True)]
        yield Figure(
            "empty six-stage chain, record made to record ended, against a bare Celery chain",
            reference=f"1.00 ({milliseconds[0]} ms)",
            ours=f"{spread([ours / bare for bare, ours in pairs])} ({milliseconds[1]} ms)",
            bar="3.0 or less",
        )


def scaling(seconds: float = 0.5, jobs: int = 6) -> Iterator[Figure]:
    """Throughput of 1, 2 and 4 workers whose stages sleep."""
    rates: dict[int, float] = {}
    for count in (1, 2, 4):
        with site(SIMULATED_SECONDS=str(seconds)) as here:
            here.hire(count, SIMULATED)
            for _ in range(count):  # the first job of a worker warms it up
                here.ended(here.client.edit(**here.novel()))
            started = time.perf_counter()
            submitted = [here.client.edit(**here.novel()) for _ in range(count * jobs)]
            for job in submitted:
                here.ended(job)
            rates[count] = count * jobs / (time.perf_counter() - started)
    for count in (2, 4):
        yield Figure(
            f"throughput of {count} workers, simulated device ({seconds:g} s a stage, four stages)",
            reference=f"{count}.00",
            ours=f"{rates[count] / rates[1]:.2f} (efficiency {rates[count] / rates[1] / count:.3f})",
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
    busy = stage * sum(len(record.stages) for record in records)
    began = min(record.started_at for record in records if record.started_at)
    ended = max(record.finished_at for record in records if record.finished_at)
    yield Figure(
        f"device busy, one worker, S3 {1000 * FAR:.0f} ms away (simulated, {stage:g} s a stage, four stages)",
        ours=f"{100 * busy / (ended - began).total_seconds():.1f} %",
    )


def around(jobs: int = 3) -> Iterator[Figure]:
    """The share of a job's time that is not spent inside forwards: mid-size model, one warm worker."""
    with tempfile.TemporaryDirectory() as directory:
        profiles = str(midsize(Path(directory)))
        with site(DIFFEDIT_PROFILE="midsize", DIFFEDIT_PROFILES=profiles) as here:
            here.hire(1, TIMED)
            asked = {**PROMPTS, "num_inference_steps": 20, "model": "midsize"}
            here.ended(here.client.edit(here.picture(), **asked))
            shares = []
            for _ in range(jobs):
                here.server.delete("timed:forwards")
                whole = _edit(here, here.picture(), asked)
                inside = sum(json.loads(line)[1] for line in here.server.lrange("timed:forwards", 0, -1))
                shares.append(1 - inside / whole)
            yield Figure(
                "time around the model, submit to result, mid-size model at 20 steps, one warm worker",
                ours=spread([100 * share for share in shares]) + " %",
                bar="5 % or less",
            )


def again(jobs: int = 3) -> Iterator[Figure]:
    """A second edit of a picture, with another target, against the first: both through the queue."""
    with tempfile.TemporaryDirectory() as directory:
        profiles = str(midsize(Path(directory)))
        with site(DIFFEDIT_PROFILE="midsize", DIFFEDIT_PROFILES=profiles) as here:
            here.hire(1, "worker.app")
            asked: dict[str, Any] = {"source_prompt": PROMPTS["source_prompt"], "num_inference_steps": 20, "seed": 0}
            targets = ["a ball on a table", "an apple on a table"]
            ratios = []
            for _ in range(jobs + 1):
                picture = here.picture()
                first, second = (_edit(here, picture, {**asked, "target_prompt": target}) for target in targets)
                ratios.append(second / first)
            yield Figure(
                "second edit of a picture, new target, against the first, through the queue",
                reference="1.00",
                ours=spread(ratios[1:]),
                bar="",
            )


class Counted:
    """A store that counts requests and bytes."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.requests: Counter[str] = Counter()
        self.bytes: Counter[str] = Counter()

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._store, name)

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
        board, store = RedisBoard(here.settings), Counted(S3Store(here.settings))
        board.announce(WorkerInfo(id="here", name="here", profile="tiny", device="cpu", queues=()))
        client = Client(here.settings, store=cast(Store, store))
        models = cache(lambda name: Models(load_profiles()[name], device="cpu"))
        recent = here.settings.recent_bytes
        runner = Runner(board, cast(Store, store), models, worker="here", send=lambda job: None, recent_bytes=recent)
        job = client.edit((SAMPLES / "06.png").read_bytes(), **PROMPTS)
        message = str(here.server.lindex(queue_name("tiny", Family.LANGUAGE), 0))
        handed: Job | None = job.status().job
        here.server.config_resetstat()
        while handed and handed.stages_left:
            handed = runner.run(handed.stages_left[0], handed.id)
        stats: dict[str, Any] = here.server.info("commandstats")
        scripts, reads = (stats.get(f"cmdstat_{name}", {}).get("calls", 0) for name in ("evalsha", "hgetall"))
        record = here.server.memory_usage(f"diffedit:job:{job.id}")
        yield Figure("Redis calls of a job in the worker, default steps", ours=f"{scripts} scripts, {reads} reads")
        yield Figure("Redis bytes of an ended job", ours=str(record), bar="under 4 KB")
        yield Figure("bytes of the queue's message", ours=str(len(message)), bar="under 8 KB")
        asked = ", ".join(f"{count} {name}" for name, count in sorted(store.requests.items()))
        yield Figure("S3 requests of a job, client and worker", ours=f"{store.requests.total()}: {asked}", bar="listed")
        moved = ", ".join(f"{count / 1e3:.0f} KB {name}" for name, count in sorted(store.bytes.items()))
        yield Figure("S3 bytes of a job, client and worker", ours=moved, bar="listed")


def backlog(jobs: int = 10_000, workers: int = 2) -> Iterator[Figure]:
    """Many waiting jobs, simulated stages that take no time: is the last thousand as fast as the first?"""
    with site(SIMULATED_SECONDS="0") as here:
        picture = here.picture()
        request = here.client.edit(picture, **PROMPTS).status().request
        board, app = RedisBoard(here.settings), celery_app(here.settings)
        for seed in range(jobs - 1):
            params = request.params.model_copy(update={"seed": seed})
            job = Job(id=uuid.uuid4().hex, request=request.model_copy(update={"params": params}))
            board.open(job)
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
        told = f"{rates[1]:.0f} and {rates[-2]:.0f} jobs a second in the second and second last tenth"
        yield Figure(f"{jobs} queued jobs, {workers} workers, stages of no length", ours=told, bar="flat")
        told = f"{waiting / 1e6:.0f} MB waiting, {_memory(here) / 1e6:.0f} MB ended"
        yield Figure("  memory of Valkey", ours=told, bar="flat")
        yield Figure("  memory of a worker", ours=f"{memory[0]:.0f} MB then {memory[-1]:.0f} MB", bar="flat")


def _ended(here: Site, jobs: int) -> int:
    held = here.server.hlen("diffedit:running")
    waiting = sum(here.server.zcard(f"diffedit:waiting:{name}") for name in queue_names("tiny"))
    return int(jobs - held - waiting)


def _memory(here: Site) -> int:
    return int(here.server.info("memory")["used_memory"])


def _workers(here: Site) -> float:
    """The resident memory of the largest worker, in MB."""
    workers = [process for name, process in here.stack.processes.items() if name.startswith("worker")]
    return max(psutil.Process(worker.pid).memory_info().rss for worker in workers) / 1e6


def client(runs: int = 9) -> Iterator[Figure]:
    """What a program pays that only submits and polls."""

    def python(code: str) -> float:
        return seconds(lambda: subprocess.run([sys.executable, "-c", code], check=True))

    pairs = [(python("pass"), python("import api_client")) for _ in range(runs)]
    added = [ours - bare for bare, ours in pairs]
    yield Figure("import of the client over bare Python", ours=f"{spread(added)} s", bar="0.35 s or less")
    with site() as here:
        job = here.client.edit(here.picture(), **PROMPTS)
        here.server.config_resetstat()
        job.status()
        calls = {name: stats["calls"] for name, stats in here.server.info("commandstats").items()}
        calls.pop("cmdstat_config|resetstat", None)
        yield Figure("one status poll", ours=", ".join(f"{n} {c[8:]}" for c, n in calls.items()), bar="one round trip")


FIGURES = (client, chain, sizes, scaling, distance, around, again, backlog)

if __name__ == "__main__":
    run_figures(FIGURES, __doc__)
