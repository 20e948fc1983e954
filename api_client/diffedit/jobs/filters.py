"""Which jobs a list has."""

from dataclasses import dataclass

from diffedit.contract.job import TERMINAL, JobStatus, State
from diffedit.contract.stages import Stage
from diffedit.jobs.pages import TagFilter, has_tag


@dataclass(frozen=True)
class JobFilter:
    """What jobs have in common. None: anything.

    Attributes:
        state: their state.
        code: the code of the error with which they failed.
        stage: the stage in which they failed, or that they wait for or are in.
        profile: the profile of their models.
        owner: whose they are.
        tag: the name of a tag, or its name and value.
        since, until: between these times they ended or, if they have not ended, were submitted. In seconds since 1970,
            by the server's clock.
    """

    state: State | None = None
    code: str | None = None
    stage: Stage | None = None
    profile: str | None = None
    owner: str | None = None
    tag: TagFilter | None = None
    since: float | None = None
    until: float | None = None

    @property
    def needs_indexes(self) -> bool:
        """Whether the lists of all jobs and of an owner's jobs do not tell which jobs to read."""
        return any(each is not None for each in (self.state, self.code, self.stage, self.profile, *self.times))

    @property
    def times(self) -> tuple[float | None, float | None]:
        return self.since, self.until

    @property
    def may_be_open(self) -> bool:
        """Whether a job that has not ended can be among them."""
        return self.state not in TERMINAL and self.code is None

    @property
    def may_have_ended(self) -> bool:
        return self.state is None or self.state in TERMINAL

    def matches(self, status: JobStatus) -> bool:
        """Return whether this job is among them."""
        return (
            self.state in (None, status.state)
            and self.code in (None, status.error.code if status.error else None)
            and self.stage in (None, stage_of(status))
            and self.profile in (None, status.request.params.profile)
            and self.owner in (None, status.owner)
            and has_tag(status, self.tag)
            and self._has_age(status)
        )

    def _has_age(self, status: JobStatus) -> bool:
        at = (status.finished_at or status.created_at).timestamp()
        return (self.since is None or at >= self.since) and (self.until is None or at <= self.until)


def stage_of(status: JobStatus) -> Stage | None:
    """Return the stage in which a job failed, or that it waits for or is in; None if it ended in another way."""
    if status.is_terminal:
        return status.error.stage if status.error else None
    left = status.job.stages_left
    return left[0] if left else None
