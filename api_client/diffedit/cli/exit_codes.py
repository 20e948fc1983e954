"""The exit codes of the `diffedit` command: one table for the program, its help and the documentation."""

from typing import NamedTuple

from diffedit.errors import (
    DiffEditError,
    InvalidRequest,
    JobCancelled,
    JobExpired,
    JobNotFound,
    JobTimeout,
    OwnerLimit,
    QueueFull,
    ServiceError,
)


class ExitCode(NamedTuple):
    """An exit code, a sentence that says when it is used, and the errors that lead to it (with their subclasses)."""

    code: int
    meaning: str
    errors: tuple[type[DiffEditError], ...] = ()


EXIT_CODES = (
    ExitCode(0, "The command succeeded."),
    ExitCode(1, "The job failed, or another error occurred.", (DiffEditError,)),
    ExitCode(2, "The request, the command line or the environment is invalid.", (InvalidRequest,)),
    ExitCode(3, "Redis or S3 does not answer, or refuses access.", (ServiceError,)),
    ExitCode(4, "No job has this id.", (JobNotFound,)),
    ExitCode(5, "The wait timed out. The job continues.", (JobTimeout,)),
    ExitCode(6, "The job was cancelled, or it expired.", (JobCancelled, JobExpired)),
    ExitCode(7, "The system is not healthy: a job submitted now would not run.", ()),
    ExitCode(8, "The queue is full, or the owner is at a limit. Nothing was queued.", (QueueFull, OwnerLimit)),
    ExitCode(9, "The worker is not fit to run stages. Its log says why."),
    ExitCode(130, "The command was interrupted with Ctrl-C."),
)
SOME_FAILED = 1
SOME_LEFT = 5
NOT_HEALTHY = 7
INTERRUPTED = 130

_CODE_OF = {error: row.code for row in EXIT_CODES for error in row.errors}


def exit_code_of(error: DiffEditError) -> int:
    """Return the exit code of the error's class, or of its nearest base class in the table."""
    return next(_CODE_OF[kind] for kind in type(error).__mro__ if kind in _CODE_OF)
