"""What workers know of each other, as two interfaces: the registry of workers and the locks of artifacts."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Protocol

from pydantic import ConfigDict, Field, ValidationError

from diffedit.contract.stages import Stage
from diffedit.contract.validation import Frozen, ProfileName


class WorkerInfo(Frozen):
    """A live worker.

    Attributes:
        id: unique to this process.
        name: Celery's node name. A worker that is started again has the same name.
        device: where its models run, such as "cuda:0"; "unknown" until they are imported.
        queues: the queues that it reads.
        job: the job that it works on, if any; one of `jobs` if there are several.
        jobs: the jobs that it works on. Version 0.2.0 announces only `job`.
        batch_jobs: how many stages it runs at once.
        memory: the largest resident size of its process so far, in bytes.
        paused: whether it takes no jobs for the time being; its `Trouble` says why.
        contract: the newest contract that it can serve (`contract.versions`). Version 0.2.0 announces none.
        version: the version of diffedit-service; "" if it announces none.
        profile_about: what the models of its profile know, for people; "" if it announces nothing.
        profile_params: the parameter defaults of its profile.
        profile_presets: the presets of its profile, each with what differs from these defaults.
    """

    # A newer worker may announce more than this client knows.
    model_config = ConfigDict(extra="ignore")

    id: str
    name: str
    profile: ProfileName
    device: str
    queues: tuple[str, ...]
    job: str | None = None
    jobs: tuple[str, ...] = ()
    batch_jobs: int = 1
    memory: int = Field(default=0, ge=0, lt=2**63)
    paused: bool = False
    contract: int = 1
    version: str = ""
    profile_about: str = ""
    profile_params: dict[str, Any] = Field(default_factory=dict)
    profile_presets: dict[str, dict[str, Any]] = Field(default_factory=dict)

    @property
    def running_jobs(self) -> tuple[str, ...]:
        """The jobs that it works on, whatever its version announces."""
        return self.jobs or ((self.job,) if self.job else ())


def read_info(worker: str, heartbeat: str) -> WorkerInfo:
    """Return the announcement of this worker. What another version announces in a form of its own is left out."""
    fields = _object_in(heartbeat) | {"id": worker}
    try:
        return WorkerInfo.model_validate(fields)
    except ValidationError as error:
        wrong = {item["loc"][0] for item in error.errors()}
        known = {name: value for name, value in fields.items() if name not in wrong}
        return WorkerInfo.model_validate(
            {"name": worker, "profile": "unknown", "device": "unknown", "queues": (), **known}
        )


def is_object(text: str) -> bool:
    """Return whether the text can be an announcement, of whatever version."""
    return _object_in(text) != {}


def read_params(text: str | None) -> dict[str, Any]:
    """Return the parameter defaults that a worker announced for a profile; {} if they have a form of their own."""
    return _object_in(text or "{}")


def read_presets(text: str | None) -> dict[str, dict[str, Any]]:
    """Return the presets that a worker announced for a profile, without those that have a form of their own."""
    return {name: values for name, values in _object_in(text or "{}").items() if isinstance(values, dict)}


def _object_in(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


class TroubleKind(StrEnum):
    """What a worker in trouble does."""

    PAUSED = "paused"
    """It takes no jobs until the object store works again."""
    UNFIT = "unfit"
    """It has left, because it is not fit to run stages."""
    REFUSING = "refusing"
    """It takes jobs, but could not run a stage when it last tried."""


class Trouble(Frozen):
    """What is wrong with a worker."""

    model_config = ConfigDict(extra="ignore")

    name: str
    """Celery's node name of the worker."""
    kind: TroubleKind
    """What the worker does: "paused", "unfit" or "refusing"."""
    stage: Stage | None = None
    """The stage that it could not run; None if it could run none."""
    code: str
    """The code of the error, such as "store_refused"."""
    message: str
    """What is wrong, for a person."""
    queues: tuple[str, ...] = ()
    """The queues that the worker reads when it is well."""
    since: datetime
    """When this trouble began, by the clock of the Redis server, in UTC."""


@dataclass(frozen=True)
class WorkerLimits:
    """What the workers of a fleet agree on.

    Attributes:
        max_attempts: how often a stage of a job is started before the job fails.
        worker_ttl: seconds without a heartbeat after which a worker counts as dead.
        lock_timeout: seconds after which Redis removes the lock of an artifact. Long, because a stage may run for as
            long as it makes steps; a lock is void before, when its worker is dead or no longer runs the job.
        max_refusals: after how many different workers have refused a stage its job fails.
        refusal_patience: seconds after which a job fails that is refused again while no other worker can try it.
        batch_age: seconds after which a batch job takes turns with interactive ones.
    """

    max_attempts: int = 3
    worker_ttl: float = 20
    lock_timeout: float = 86400
    max_refusals: int = 3
    refusal_patience: float = 300
    batch_age: float = 3600


class LockResult(StrEnum):
    """The answer to a worker that wants to make some artifacts."""

    ACQUIRED = "acquired"
    RECENTLY_RELEASED = "recently_released"
    """Acquired, but another job held one of the locks in the last hour: check again whether the artifact exists."""
    LOCKED = "locked"
    """Another job is making one of the artifacts. This job is noted as a waiter."""


class WorkerRegistry(Protocol):
    """The live workers, and which of them is the leader."""

    def send_heartbeat(self, worker: WorkerInfo) -> None:
        """Announce a live worker. It counts as dead when no heartbeat comes for its TTL."""

    def unregister(self, worker: str) -> None:
        """Remove a worker at once."""

    def workers(self) -> list[WorkerInfo]:
        """Return the live workers, by name."""

    def report_trouble(self, trouble: Trouble) -> None:
        """Note the trouble of a worker for an hour. If it has the code of the one before, that one's `since` holds."""

    def clear_trouble(self, name: str) -> None:
        """Forget the trouble of the worker with this name."""

    def troubles(self) -> list[Trouble]:
        """Return the troubles of all workers, by name."""

    def acquire_leadership(self, worker: str, seconds: float) -> bool:
        """Return whether this worker is the leader for the next `seconds`. There is one leader at a time."""

    def profile_params(self, profile: str) -> dict[str, Any]:
        """Return the parameter defaults that a worker last announced for this profile; {} if none ever did."""

    def has_announced(self, profile: str) -> bool:
        """Return whether a worker, live or not, has ever announced this profile."""

    def profile_presets(self, profile: str) -> dict[str, dict[str, Any]]:
        """Return the presets that a worker last announced for this profile; {} if none ever did."""


class ArtifactLocks(Protocol):
    """Locks, so that only one job at a time makes an artifact. A lock is void when its worker is dead."""

    def acquire(self, keys: Sequence[str], job_id: str, worker: str) -> LockResult:
        """Lock these artifacts for the job, all or none."""

    def release(self, keys: Sequence[str], job_id: str, worker: str) -> list[str]:
        """Release these locks. Returns the jobs that wait for one of the artifacts; they are forgotten."""
