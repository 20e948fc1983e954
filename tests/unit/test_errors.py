"""All errors: their codes, their docstrings, and that they can be pickled."""

import inspect
import pickle
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime
from multiprocessing import get_context

import pytest

import diffedit_worker.local.commands  # noqa: F401, because it defines errors of its own
from diffedit import DiffEditError, JobFailed, JobTimeout, QueueFull, errors

SAMPLES = {
    "data_since": datetime(2026, 11, 29, 14, 30, tzinfo=UTC),
    "max_queued": 5,
    "rate": 60,
    "retry_after": 0.5,
    "seconds": 5,
    "limit": "max_queued",
    "maximum": 5,
}


def tree(kind: type[DiffEditError]) -> Iterator[type[DiffEditError]]:
    yield kind
    for child in kind.__subclasses__():
        yield from tree(child)


ALL = sorted(set(tree(DiffEditError)), key=lambda kind: kind.__qualname__)


def a_sample(kind: type[DiffEditError]) -> DiffEditError:
    """Return an error of this class, with a different text for each argument."""
    if kind.__init__ is Exception.__init__:
        return kind("some message")
    positional, named = [], {}
    for name, parameter in inspect.signature(kind).parameters.items():
        value = SAMPLES.get(name, f"some {name}")
        if parameter.kind is parameter.KEYWORD_ONLY:
            named[name] = value
        else:
            positional.append(value)
    return kind(*positional, **named)


@pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.__name__)
def test_an_error_survives_pickling_with_its_attributes(kind: type[DiffEditError]) -> None:
    error = a_sample(kind)
    error.add_note("a note")
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        again = pickle.loads(pickle.dumps(error, protocol))
        assert (type(again), str(again), vars(again)) == (type(error), str(error), vars(error))
        assert again.__notes__ == ["a note"]


def test_errors_about_jobs_keep_their_attributes() -> None:
    failed = JobFailed("id", stage="mask", error_code="empty_mask", message="no difference")
    again = pickle.loads(pickle.dumps(failed))
    assert (again.job_id, again.stage, again.error_code, again.message) == ("id", "mask", "empty_mask", "no difference")
    assert isinstance(pickle.loads(pickle.dumps(JobTimeout("id", "late"))), TimeoutError)


def refuse() -> None:
    raise QueueFull("interactive", "tiny", 5)


def test_an_error_leaves_a_process_pool() -> None:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool, pytest.raises(QueueFull, match="5 jobs wait"):
        pool.submit(refuse).result()


def test_each_error_has_its_own_code() -> None:
    codes = [kind.code for kind in ALL if kind.__module__.startswith(errors.__name__)]
    assert len(set(codes)) == len(codes)


def test_the_drawing_of_the_tree_is_true() -> None:
    drawn, parents = {}, []
    for line in (errors.__doc__ or "").splitlines():
        if "-- " not in line and line.strip() != "DiffEditError":
            continue
        prefix, _, rest = line.rpartition("-- ")
        depth, name = len(prefix) // 4, rest.split()[0]
        drawn[name] = parents[depth - 1] if depth else None
        parents[depth:] = [name]
    ours = [kind for kind in ALL if kind.__module__.startswith(errors.__name__)]
    assert drawn == {kind.__name__: None if kind is DiffEditError else kind.__bases__[0].__name__ for kind in ours}


@pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.__name__)
def test_the_docstring_says_when_an_error_is_raised(kind: type[DiffEditError]) -> None:
    if kind.__module__.startswith(errors.__name__):
        assert (kind.__doc__ or "").startswith(("Raised ", "Base of "))


@pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.__name__)
def test_a_public_message_names_no_internals(kind: type[DiffEditError]) -> None:
    """The message of an error of the request is its own; all others could contain a key, a path or a host."""
    error = a_sample(kind)
    assert 400 <= error.http_status < 600
    assert error.public_message
    own = issubclass(kind, errors.InvalidRequest | errors.JobError) and error.public_message == str(error)
    assert own or not any(word in error.public_message for word in ("some ", "DIFFEDIT", "S3", "Redis", "URL"))


@pytest.mark.parametrize(
    ("error", "status", "retryable"),
    [
        (errors.BadPicture("too large"), 400, False),
        (errors.IdempotencyConflict("id"), 409, False),
        (errors.UnknownPreset("tiny", "fast", ("guide",)), 400, False),
        (QueueFull("interactive", "tiny", 5), 429, True),
        (errors.InvalidKey(), 401, False),
        (errors.RateLimited(60, 0.5), 429, True),
        (errors.OwnerLimit("u17", "max_queued", 5), 429, True),
        (errors.OwnerLimit("u17", "max_steps", 5), 403, False),
        (errors.BrokerUnavailable("redis://"), 503, True),
        (errors.StoreUnavailable("s3"), 503, True),
        (errors.StoreRefused("s3"), 500, False),
        (errors.JobNotFound("id"), 404, False),
        (JobTimeout("id", "late"), 504, True),
        (JobFailed("id", stage="mask", error_code="empty_mask", message="no difference"), 422, False),
        (JobFailed("id", stage="edit", error_code="internal", message="/srv/key"), 500, False),
    ],
)
def test_an_error_has_the_status_of_http_that_its_callers_expect(
    error: DiffEditError, status: int, retryable: bool
) -> None:
    assert (error.http_status, error.retryable) == (status, retryable)


def test_the_public_message_of_a_failed_job_is_its_cause_if_the_request_is_the_cause() -> None:
    failed = JobFailed("id", stage="mask", error_code="empty_mask", message="no difference")
    assert failed.public_message == pickle.loads(pickle.dumps(failed)).public_message == "no difference"
    assert "/srv" not in JobFailed("id", stage="edit", error_code="internal", message="/srv/key").public_message
