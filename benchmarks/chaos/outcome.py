"""What came of a chaos run."""

from collections import Counter
from collections.abc import Sequence, Set
from dataclasses import dataclass, field

from benchmarks.chaos.faults import FaultInjector
from benchmarks.chaos.observer import Observer
from benchmarks.chaos.stored_artifacts import stem
from diffedit import Client, JobHandle, JobStatus, State
from diffedit.errors import DiffEditError


@dataclass
class Outcome:
    """The result of a run. Lists hold ids of jobs, idempotency keys, names of workers, or processes.

    Attributes:
        states: the jobs that ended, by state.
        failed: the jobs that failed, by error code.
        lost: jobs that have not ended, or have no record.
        double_outcomes: jobs that were seen to end in two ways, and idempotency keys that gave two jobs.
        unreadable: jobs that succeeded, but whose result cannot be read.
        crashes: workers that ended by themselves.
        processes_left: child processes that still ran after the end.
        injected: the faults that hit something, by kind.
        restored_by_retry: jobs whose result a fault damaged and `retry()` made again.
        stored: artifacts that were stored.
        stored_without_need: uploads of artifacts that were stored already and that no fault had damaged.
        detection_times, recovery_times: see `Observer`.
        seconds: duration of the run.
    """

    states: Counter[State]
    failed: Counter[str]
    lost: list[str]
    double_outcomes: list[str]
    unreadable: list[str]
    crashes: list[str]
    injected: Counter[str]
    restored_by_retry: int
    stored: int
    stored_without_need: int
    detection_times: list[float]
    recovery_times: list[float]
    seconds: float
    processes_left: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        problems = (self.lost, self.double_outcomes, self.failed, self.unreadable, self.crashes, self.processes_left)
        return not any(problems)


def collect_outcome(
    client: Client,
    observer: Observer,
    injector: FaultInjector,
    *,
    crashes: list[str],
    stored: Counter[str],
    seconds: float,
) -> Outcome:
    """Read the results of all jobs and return the outcome. `stored` counts the uploads by stem of the key."""
    ended = [status for status in observer.statuses.values() if status and status.is_terminal]
    damaged = Counter(stem(key) for key in injector.damaged_keys)
    unreadable, restored = _read_results(client, ended, damaged.keys())
    seen = (observer.outcomes, observer.jobs)
    return Outcome(
        states=Counter(status.state for status in ended),
        failed=Counter(status.error.code for status in ended if status.error),
        lost=sorted(observer.statuses.keys() - {status.id for status in ended}),
        double_outcomes=[name for each in seen for name, values in each.items() if len(values) > 1],
        unreadable=unreadable,
        crashes=crashes,
        injected=Counter(injector.injected),
        restored_by_retry=restored,
        stored=len(stored),
        stored_without_need=sum(max(0, times - 1 - damaged[key]) for key, times in stored.items()),
        detection_times=observer.detection_times,
        recovery_times=observer.recovery_times,
        seconds=seconds,
    )


def _read_results(client: Client, ended: Sequence[JobStatus], damaged: Set[str]) -> tuple[list[str], int]:
    """Return the jobs whose results cannot be read, and how many results `retry()` made again.

    A result that a fault damaged after its end is no problem if the user can restore it with `retry()`.
    """
    unreadable, restored = [], 0
    for status in ended:
        job = client.job(status.id)
        if status.state is not State.SUCCEEDED or _is_readable(job):
            continue
        if any(stem(key) in damaged for key in status.artifact_keys.values()) and _is_readable(job.retry()):
            restored += 1
        else:
            unreadable.append(job.id)
    return unreadable, restored


def _is_readable(job: JobHandle) -> bool:
    try:
        result = job.result(timeout=60)
        return all((result.image, result.mask, result.caption, result.prompts, result.manifest))
    except DiffEditError:
        return False
