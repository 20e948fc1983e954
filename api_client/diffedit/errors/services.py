"""Errors of Redis, of S3 and what is stored there, and of the local services."""

from diffedit.errors.base import DiffEditError


class ServiceError(DiffEditError):
    """Raised when a service does not answer. Check the service and its settings, then try again."""

    code = "service_unavailable"
    http_status = 503
    retryable = True


class BrokerUnavailable(ServiceError):
    """Raised when Redis or Valkey does not answer, or refuses the password.

    Check the server and `DIFFEDIT_REDIS_URL`.
    """

    code = "broker_unavailable"


class BrokerFull(BrokerUnavailable):
    """Raised when the memory of Redis or Valkey is full (`maxmemory`), so the job was not queued.

    Raise the limit, or try again after jobs have expired.
    """

    code = "broker_full"

    def __init__(self) -> None:
        super().__init__(
            "the memory of Redis is full (maxmemory), so it takes no job; raise the limit, or try again later"
        )


class BrokerDamaged(ServiceError):
    """Raised when a key in Redis or Valkey holds another type than it must. Delete the key.

    `diffedit health` lists such keys. Only what the whole service shares raises this error; a damaged record raises
    `BadRecord`.
    """

    code = "broker_damaged"
    http_status = 500
    retryable = False

    def __init__(self, reason: str) -> None:
        super().__init__(f"a key in Redis was changed ({reason}); `diffedit health` lists such keys; delete it")


class StoreUnavailable(ServiceError):
    """Raised when S3 does not answer. Check `DIFFEDIT_S3_ENDPOINT_URL` and the server, then try again."""

    code = "store_unavailable"


class StoreRefused(StoreUnavailable):
    """Raised when S3 refuses: wrong AWS keys, no such bucket, no permission. Correct the settings first."""

    code = "store_refused"
    http_status = 500
    retryable = False


class OutputUnavailable(ServiceError):
    """Raised by `diffedit batch` and `diffedit sweep` when a result cannot be written: the disk is full, for example.

    Correct it and run the same command again: it goes on where it was.
    """

    code = "output_unavailable"
    retryable = False


class DecodingBusy(ServiceError):
    """Raised when this process decodes so many pictures that it was not one's turn in time. Nothing was queued.

    Try again later, or submit from more processes.
    """

    code = "decoding_busy"

    def __init__(self) -> None:
        super().__init__("this process decodes too many pictures at once; try again later, or use more processes")


class ClientBusy(ServiceError):
    """Raised by `AsyncClient` when its threads made so many other calls that this one did not begin in time.

    Nothing was done. Try again later, raise `DIFFEDIT_MAX_CONNECTIONS`, or use more processes.
    """

    code = "client_busy"

    def __init__(self, seconds: float) -> None:
        super().__init__(
            f"the threads of this client were busy for {seconds:g} s, so the call did not begin; try again later, "
            "raise DIFFEDIT_MAX_CONNECTIONS, or use more processes"
        )


class ArtifactError(DiffEditError):
    """Raised when a stored artifact is missing or damaged. Call the job's `retry()`, which makes it again."""

    code = "bad_artifact"
    _public = "the stored result is missing or damaged; ask for it again"


class ArtifactMissing(ArtifactError):
    """Raised when nothing is stored under a key: the object was deleted, or another bucket holds it."""

    code = "artifact_missing"

    def __init__(self, message: str = "nothing is stored under this key; it was deleted or never made") -> None:
        super().__init__(message)


class LocalError(DiffEditError):
    """Raised by `diffedit up` and `diffedit demo` when a local service cannot start or ends. The message names it."""

    code = "local_services"


class CannotListen(LocalError):
    """Raised by `diffedit serve` and `diffedit up --web` that cannot listen.

    Another program uses the port, or the host is no address of this machine. Choose another `--port` or `--host`.
    """

    code = "cannot_listen"
