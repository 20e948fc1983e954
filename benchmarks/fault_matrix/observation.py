"""Meet one fault, and write down who does what."""

import re
import secrets
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from PIL import Image

from benchmarks.fault_matrix.faults import Fault
from benchmarks.fault_matrix.system import READY_TIMEOUT, System
from benchmarks.harness.environment import PROMPTS
from benchmarks.harness.waiting import wait_until
from diffedit import DiffEditError, JobHandle, Stage
from diffedit.retries import WORKER_REDIS_POLICY
from diffedit_worker.models.profiles import SAMPLES

SECONDS = 15.0
"""How long a fault lasts, at least. It lasts longer if the worker that starts meanwhile has not met it yet."""
MEETING_TIMEOUT = 60.0
PAUSED = "takes no jobs until"
UNCONNECTED = re.compile(r"Cannot connect|Redis (error|answers)")
READY = re.compile(r"\bready\.")
"""What a worker logs."""
JOB_TIMEOUT = 120.0
STEPS = 250
"""Steps of the edit that a fault interrupts: some seconds of inversion."""
PICTURE = SAMPLES / "06.png"


@dataclass(frozen=True)
class Row:
    """What was seen, in words.

    Attributes:
        worker: the worker that runs a job when the fault begins, and what becomes of the job.
        starting: a worker that starts meanwhile.
        client: the calls of a client that was used before.
        health: the part of `diffedit health` that is not "ok".
        seconds: the longest time of a call.
        ok: whether the worker went on, the client works afterwards, and no attempt was lost for which Redis was away
            for less time than a worker waits for it.
    """

    fault: Fault
    worker: str
    starting: str
    client: str
    health: str
    seconds: float
    ok: bool


def observe(system: System, fault: Fault) -> Row:
    """Run an edit, let the fault happen in its inversion, and look at everybody."""
    worker = system.ready_worker()
    seen = len(system.log_of(worker))
    finished = _edit(system, steps=4)
    finished.wait(JOB_TIMEOUT)
    job = _edit(system, steps=STEPS)
    wait_until(lambda: (now := job.status()).stage is Stage.INVERT and now.step > 0, JOB_TIMEOUT, interval=0.02)
    with fault.lasting(system):
        began = time.monotonic()
        newcomer = system.start_worker()
        calls: dict[str, Callable[[], object]] = {
            "`status`": job.status,
            "`edit`": lambda: _edit(system, steps=4),
            "`result`": lambda: finished.result(timeout=10).image,
        }
        with ThreadPoolExecutor(len(calls) + 1) as threads:
            health = threads.submit(lambda: _timed(system.client.health))
            answers = dict(zip(calls, threads.map(_timed, calls.values()), strict=True))
        wait_until(lambda: time.monotonic() - began > SECONDS, 2 * SECONDS)
        wait_until(lambda: _has_met_the_fault(system, newcomer), MEETING_TIMEOUT)
        ended = system.workers[newcomer].poll()
        survived = system.workers[worker].poll()
        outlasted = time.monotonic() - began > WORKER_REDIS_POLICY.seconds
    found, waited = health.result()
    paused = PAUSED in system.log_of(worker)[seen:]
    after = _edit(system, steps=4)
    statuses = [each.wait(JOB_TIMEOUT) for each in (job, after)]
    attempts = max(max(status.attempts.values()) for status in statuses)
    return Row(
        fault,
        _worker_in_words(survived, paused=paused, attempts=attempts),
        _newcomer_in_words(system, newcomer, ended),
        "; ".join(_calls_in_words({name: outcome for name, (outcome, _) in answers.items()})),
        _health_in_words(found),
        max([seconds for _, seconds in answers.values()] + [waited]),
        ok=survived is None and (attempts == 1 or outlasted) and after.result().image.size == (64, 64),
    )


def _edit(system: System, steps: int) -> JobHandle:
    """Submit an edit of a picture that is not stored yet."""
    picture = Image.open(PICTURE).convert("RGB")
    picture.putpixel((0, 0), tuple(secrets.token_bytes(3)))
    return system.client.edit(picture, **PROMPTS, num_inference_steps=steps, num_maps_per_mask=2, seed=0)


def _timed(call: Callable[[], object]) -> tuple[object, float]:
    """Return what the call returned, or the error that it raised, and its seconds."""
    began = time.monotonic()
    try:
        answer: object = call()
    except DiffEditError as error:
        answer = error
    return answer, time.monotonic() - began


def _worker_in_words(status: int | None, *, paused: bool, attempts: int) -> str:
    lives = "goes on" if status is None else f"ends with status {status}"
    attempt = "no attempt lost" if attempts == 1 else f"{attempts} attempts"
    return f"{lives}{', paused meanwhile' if paused else ''}; its job succeeds, {attempt}"


def _has_met_the_fault(system: System, name: str) -> bool:
    """Return whether a worker that starts has ended, has connected, or has logged why it cannot."""
    log = system.log_of(name)
    return bool(
        system.workers[name].poll() is not None or PAUSED in log or UNCONNECTED.search(log) or READY.search(log)
    )


def _newcomer_in_words(system: System, name: str, ended: int | None) -> str:
    if ended is not None:
        return f"ends with status {ended}"
    if not wait_until(lambda: system.is_ready(name), READY_TIMEOUT):
        return "never ready"
    log = system.log_of(name)
    if PAUSED in log:
        ready = READY.search(log)
        return "starts paused" if not ready or log.index(PAUSED) < ready.start() else "works, then pauses"
    return "waits, then works" if UNCONNECTED.search(log) else "works"


def _calls_in_words(outcomes: dict[str, object]) -> list[str]:
    """Return for each kind of outcome the calls that had it."""
    kinds: dict[str, list[str]] = {}
    for name, outcome in outcomes.items():
        word = f"`{outcome.code}`" if isinstance(outcome, DiffEditError) else "works"
        kinds.setdefault(word, []).append(name)
    return [f"{', '.join(names)}: {word}" for word, names in kinds.items()]


def _health_in_words(health: object) -> str:
    parts = {"Redis": getattr(health, "broker", ""), "S3": getattr(health, "object_store", "")}
    troubles = [f"{name}: {_anonymous(text)}" for name, text in parts.items() if text != "ok"]
    return "; ".join(troubles) or "ok"


def _anonymous(message: str) -> str:
    return re.sub(r"127\.0\.0\.1:\d+", "HOST", message).replace("|", "\\|")
