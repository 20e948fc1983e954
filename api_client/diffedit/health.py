"""Whether the services answer, which workers are live, and how many messages wait."""

from pydantic import Field

from diffedit.contract.stages import queue_names
from diffedit.contract.validation import Frozen
from diffedit.errors import ServiceError
from diffedit.fleet import Fleet
from diffedit.jobs.backend import JobBackend
from diffedit.jobs.workers import WorkerInfo
from diffedit.objects.store import ObjectStore


class Health(Frozen):
    """The state of the services at one moment.

    Attributes:
        broker: "ok", or why Redis or Valkey cannot be used.
        object_store: "ok", or why S3 cannot be used.
        workers: the live workers, by name.
        queues: the number of messages in each queue of the client's profile and of the live workers.
        unserved: the queues of the client's profile that no live worker reads.
    """

    broker: str
    object_store: str
    workers: tuple[WorkerInfo, ...] = ()
    queues: dict[str, int] = Field(default_factory=dict)
    unserved: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether a job that is submitted now can run: the services answer, and each queue has a live worker."""
        return self.broker == self.object_store == "ok" and not self.unserved


def check_health(backend: JobBackend, object_store: ObjectStore, configured_profile: str | None) -> Health:
    """Ask the services. An error of a service becomes a part of the answer."""
    found: dict[str, object] = {"broker": "ok", "object_store": "ok"}
    try:
        backend.job_store.ping()
        fleet = Fleet(backend.worker_registry, configured_profile)
        own = set(queue_names(fleet.default_profile))
        found["workers"] = tuple(fleet.workers)
        found["unserved"] = tuple(sorted(own - fleet.queues))
        found["queues"] = backend.job_store.queue_lengths(sorted(fleet.queues | own))
    except ServiceError as error:
        found["broker"] = str(error)
    try:
        object_store.ping()
    except ServiceError as error:
        found["object_store"] = str(error)
    return Health.model_validate(found)
