"""What came of a chaos run."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from benchmarks.chaos.faults import FaultInjector
from benchmarks.chaos.flood import FloodOutcome
from benchmarks.chaos.forks import ForkedReads
from benchmarks.chaos.stored_artifacts import stem
from benchmarks.chaos.system import System
from benchmarks.chaos.truth import Contents, contents_of, differences
from benchmarks.chaos.webhooks import WebhookOutcome
from diffedit import JobHandle, JobStatus, State
from diffedit.errors import BadPicture, DiffEditError, EmptyMask, InvalidRequest

OWN_REASONS = {error.code for error in (BadPicture, EmptyMask, InvalidRequest)}
"""The codes with which a job fails for reasons of its own. All others are a worker's or a service's."""


@dataclass
class Outcome:
    """The result of a run. Lists hold ids of jobs, idempotency keys, names of workers, or processes.

    Attributes:
        states: the jobs that ended, by state.
        failed: the jobs that failed, by error code.
        lost: jobs that have not ended, or have no record.
        double_outcomes: jobs that were seen to end in two ways, and idempotency keys that gave two jobs.
        unreadable: jobs that succeeded, but whose result cannot be read.
        wrong: a sentence for each part of a result that is not what the job's submission gives.
        crashes: workers that ended by themselves.
        unfit: workers that ended because they were not fit.
        passed_on: how often a worker refused a stage of a job, and the job went to another one.
        processes_left: child processes that still ran after the end.
        webhooks: what came of the events of the jobs.
        flood: what came of the flood at the end; None if there was none.
        injected: the faults that hit something, by kind.
        renewed: the workers that the rolling restart replaced.
        forked_reads: the results that forked processes read.
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
    wrong: list[str]
    crashes: list[str]
    unfit: list[str]
    passed_on: int
    injected: Counter[str]
    renewed: int
    forked_reads: int
    restored_by_retry: int
    stored: int
    stored_without_need: int
    detection_times: list[float]
    recovery_times: list[float]
    seconds: float
    webhooks: WebhookOutcome
    processes_left: list[str] = field(default_factory=list)
    flood: FloodOutcome | None = None

    @property
    def failed_for_a_workers_reason(self) -> Counter[str]:
        return Counter({code: number for code, number in self.failed.items() if code not in OWN_REASONS})

    @property
    def ok(self) -> bool:
        problems = (self.lost, self.double_outcomes, self.failed, self.unreadable, self.wrong, self.crashes)
        is_clean = not any((*problems, self.processes_left))
        return is_clean and self.webhooks.ok and (self.flood is None or self.flood.ok)


def collect_outcome(
    system: System,
    injector: FaultInjector,
    forked: ForkedReads,
    *,
    truth: Mapping[str, Contents],
    stored: Counter[str],
    renewed: int,
    seconds: float,
    flood: FloodOutcome | None,
) -> Outcome:
    """Read the results of all jobs and return the outcome.

    Args:
        truth: what each submission must give, by idempotency key.
        stored: the uploads by stem of the key.
    """
    observer = system.observer
    ended = [status for status in observer.statuses.values() if status and status.is_terminal]
    damaged = Counter(stem(key) for key in system.damaged_keys)
    results = _Results(system, truth)
    for status in ended:
        results.read(status)
    for job_id, contents in forked.read:
        results.compare(job_id, contents, "a forked process read")
    results.unreadable += [
        f"{job_id}, in a forked process: {error}"
        for job_id, error in forked.errors
        if not system.is_damaged(observer.statuses.get(job_id))
    ]
    seen = (observer.outcomes, observer.jobs)
    return Outcome(
        states=Counter(status.state for status in ended),
        failed=Counter(status.error.code for status in ended if status.error),
        lost=sorted(observer.statuses.keys() - {status.id for status in ended}),
        double_outcomes=[name for each in seen for name, values in each.items() if len(values) > 1],
        unreadable=results.unreadable,
        wrong=results.wrong,
        crashes=system.workers.crashes,
        unfit=system.workers.unfit,
        passed_on=sum(len(names) for status in ended for names in status.refused_by.values()),
        injected=injector.injected,
        renewed=renewed,
        forked_reads=len(forked.read),
        restored_by_retry=results.restored,
        stored=len(stored),
        stored_without_need=sum(max(0, times - 1 - damaged[key]) for key, times in stored.items()),
        detection_times=observer.detection_times,
        recovery_times=observer.recovery_times,
        seconds=seconds,
        webhooks=system.webhooks.outcome(observer.statuses),
        flood=flood,
    )


class _Results:
    """What the jobs have made, compared with what they must have made."""

    def __init__(self, system: System, truth: Mapping[str, Contents]) -> None:
        self._client, self._is_damaged = system.client, system.is_damaged
        self._truth = {job: truth[key] for key, jobs in system.observer.jobs.items() for job in jobs}
        self.unreadable: list[str] = []
        self.wrong: list[str] = []
        self.restored = 0

    def read(self, status: JobStatus) -> None:
        """Read the result of a job that has ended.

        A result that a fault damaged after its end is no problem if the user can restore it with `retry()`.
        """
        if status.state is not State.SUCCEEDED:
            return
        job = self._client.job(status.id)
        error = self._read(job, status.id)
        if error and self._is_damaged(status):
            error = self._read(job.retry(), status.id)
            self.restored += not error
        if error:
            self.unreadable.append(f"{status.id}: {error}")

    def compare(self, job_id: str, contents: Contents, who: str) -> None:
        """Note what differs from the truth in what somebody read."""
        self.wrong += [f"{who} a wrong {part} of job {job_id}" for part in differences(contents, self._truth[job_id])]

    def _read(self, job: JobHandle, submitted_as: str) -> str | None:
        """Read and compare a result. Return why it cannot be read, or None."""
        try:
            result = job.result(timeout=60)
            self.compare(submitted_as, contents_of(result), "the client reads")
            return None if result.manifest else "no manifest"
        except DiffEditError as error:
            return f"{type(error).__name__}: {error}"
