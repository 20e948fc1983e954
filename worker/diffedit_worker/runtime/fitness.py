"""Whether this worker can run stages.

It proves that it can before it takes a job, and again when it could not run a stage of two different jobs in a row.

- While the object store refuses or does not answer, the worker is *paused*: it takes no jobs, and looks again and again
  whether the store works. Otherwise it would take one job after the other, fail fast, and take the next one.
- If anything else is wrong, the worker is *unfit*: it reports its trouble and ends. Its supervisor starts it again.
"""

import logging
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime

from diffedit.contract.object_keys import artifact_key
from diffedit.contract.stages import Stage
from diffedit.errors import (
    ArtifactError,
    ArtifactMissing,
    BrokerUnavailable,
    DeviceFailed,
    DiffEditError,
    ServiceError,
    StoreRefused,
    StoreUnavailable,
    WorkerUnfit,
)
from diffedit.jobs.backend import JobBackend
from diffedit.jobs.workers import Trouble, TroubleKind
from diffedit.objects.store import ObjectStore
from diffedit.retries import PROBE_PAUSE, PROBE_READS, repeated
from diffedit_worker.runtime.failures import error_info

log = logging.getLogger(__name__)

UNFIT_EXIT_CODE = 9
"""The exit status of a worker that is not fit. `diffedit.cli.exit_codes` lists it."""
MAX_CLOCK_SKEW = 300.0
"""Seconds. S3 refuses requests whose time is off by 15 minutes."""
REFUSALS_IN_A_ROW = 2
"""A worker that could not run the same stage of so many jobs in a row has to prove itself."""
_PROBE = b'"diffedit"'


class Fitness:
    """The fitness of one worker. Threads may share it.

    Args:
        name: Celery's node name, under which a trouble is reported.
        queues: the queues that the worker reads.
        backend, object_store: the worker's own.
        prove_models: raises if one of the loaded models does not work.
        set_paused: tells the pool whether to take messages.
        end_process: ends this process with `UNFIT_EXIT_CODE`, when other stages have uploaded their results.
    """

    def __init__(
        self,
        name: str,
        queues: Sequence[str],
        backend: JobBackend,
        object_store: ObjectStore,
        *,
        prove_models: Callable[[], object],
        set_paused: Callable[[bool], object],
        end_process: Callable[[], object],
    ) -> None:
        self._name = name
        self._queues = tuple(queues)
        self._backend = backend
        self._object_store = object_store
        self._prove_models = prove_models
        self._set_paused = set_paused
        self._end_process = end_process
        self._lock = threading.Lock()
        self._refused: dict[Stage, set[str]] = {}
        """The jobs of which each stage was refused since the worker computed it last, or proved itself."""
        self._refusing: set[Stage] = set()
        self._pause: DiffEditError | None = None

    @property
    def paused(self) -> bool:
        """Whether the worker takes no jobs because the object store does not work."""
        return self._pause is not None

    def prove_at_start(self) -> None:
        """Check clock and object store. A store that does not answer yet pauses the worker.

        Raises:
            WorkerUnfit, StoreRefused: this worker could not run any stage.
        """
        try:
            self._check_services()
        except StoreRefused:
            raise
        except StoreUnavailable as error:
            self._start_pause(error)
        except BrokerUnavailable as error:
            log.warning("the clock could not be compared with the Redis server's: %s", error)
        if not self.paused:
            self._forget_trouble()

    def stage_computed(self, stage: Stage) -> None:
        """Note that the worker can run this stage."""
        with self._lock:
            self._refused.pop(stage, None)
            was_refusing = stage in self._refusing
            self._refusing.discard(stage)
        if was_refusing and not self._refusing and not self.paused:
            self._forget_trouble()

    def stage_refused(self, stage: Stage, job_id: str, error: Exception) -> None:
        """Note that the worker could not run this stage of a job. It may be paused, or the process may end."""
        if isinstance(error, DeviceFailed):
            # Every later call of this process to the device would fail as well.
            self.leave(error)
        elif isinstance(error, StoreUnavailable):
            self._start_pause(error)
        else:
            self._report(TroubleKind.REFUSING, error, stage)
            if self._has_to_prove_itself(stage, job_id):
                self._prove_or_leave()

    def end_pause_if_possible(self) -> None:
        """If the worker is paused, look whether the object store works again."""
        if not self._pause:
            return
        try:
            probe(self._object_store)
        except StoreUnavailable as error:
            self._report(TroubleKind.PAUSED, self._pause)
            log.info("still paused: %s", error)
            return
        log.warning("the object store works again; this worker takes jobs")
        with self._lock:
            self._pause = None
            self._set_paused(False)
        self._forget_trouble()

    def leave(self, error: Exception) -> None:
        """Report why the worker is not fit, and end the process."""
        self.report_unfit(error)
        self._end_process()

    def report_unfit(self, error: Exception) -> None:
        """Log why the worker is not fit, and tell `diffedit health`."""
        log.critical("this worker is not fit to run stages and ends: %s", error, exc_info=_unexpected(error))
        self._report(TroubleKind.UNFIT, error)

    def stop(self) -> None:
        """Forget the trouble of a worker that is stopped."""
        if self._pause or self._refusing:
            self._forget_trouble()

    def _has_to_prove_itself(self, stage: Stage, job_id: str) -> bool:
        with self._lock:
            jobs = self._refused.setdefault(stage, set())
            jobs.add(job_id)
            self._refusing.add(stage)
            enough = len(jobs) >= REFUSALS_IN_A_ROW
            if enough:
                jobs.clear()
            return enough

    def _prove_or_leave(self) -> None:
        try:
            self._check_services()
            self._prove_models()
        except StoreUnavailable as error:
            self._start_pause(error)
        except BrokerUnavailable as error:
            log.warning("this worker could not prove its fitness: %s", error)
        except Exception as error:
            self.leave(error)
        else:
            log.warning("this worker refused a stage of several jobs, but its models, its clock and S3 work")

    def _check_services(self) -> None:
        try:
            probe(self._object_store)
        except StoreRefused:
            # S3 refuses all requests of a machine whose clock is wrong.
            check_clock(self._backend.job_store.now(), "the Redis server")
            raise
        theirs = self._object_store.now()
        check_clock(theirs or self._backend.job_store.now(), "S3" if theirs else "the Redis server")

    def _start_pause(self, error: DiffEditError) -> None:
        log.error("this worker takes no jobs until the object store works: %s", error)
        with self._lock:
            self._pause = error
            self._set_paused(True)
        self._report(TroubleKind.PAUSED, error)

    def _report(self, kind: TroubleKind, error: Exception, stage: Stage | None = None) -> None:
        with suppress(ServiceError):
            info, since = error_info(error, stage), datetime.fromtimestamp(self._backend.job_store.now(), UTC)
            trouble = Trouble(
                name=self._name,
                kind=kind,
                stage=stage,
                code=info.code,
                message=info.message,
                queues=self._queues,
                since=since,
            )
            self._backend.worker_registry.report_trouble(trouble)

    def _forget_trouble(self) -> None:
        with suppress(ServiceError):
            self._backend.worker_registry.clear_trouble(self._name)


def probe(object_store: ObjectStore) -> None:
    """Store an object, read it and delete it.

    Raises:
        StoreRefused, StoreUnavailable: the object store does not work.
    """
    key = artifact_key("probe", uuid.uuid4().hex * 2, "json")
    object_store.put(key, _PROBE)
    try:
        found = repeated(PROBE_READS, ArtifactMissing, pause=PROBE_PAUSE)(object_store.get, key)
    except ArtifactError as error:
        raise StoreUnavailable(
            f"S3 does not return an object that was just stored: {error}; check the server"
        ) from error
    if found != _PROBE:
        raise StoreUnavailable("S3 returned another object than the one that was stored; check the server")
    object_store.delete(key)


def check_clock(theirs: float, whose: str) -> None:
    """Compare this machine's clock with a server's, in seconds since 1970.

    Raises:
        WorkerUnfit: they differ by more than `MAX_CLOCK_SKEW`.
    """
    skew = time.time() - theirs
    if abs(skew) > MAX_CLOCK_SKEW:
        direction = "ahead of" if skew > 0 else "behind"
        raise WorkerUnfit(
            f"the clock of this machine is {abs(skew):.0f} s {direction} that of {whose}, and S3 refuses requests of a "
            "machine whose clock is wrong; synchronise it (NTP)"
        )


def _unexpected(error: Exception) -> Exception | None:
    return None if isinstance(error, DiffEditError) else error
