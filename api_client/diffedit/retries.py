"""Every retry policy of this project. `docs/reference/retries.md` shows the same table.

| caller | service | policy |
|---|---|---|
| client, each command | Redis | 4 more attempts, 0.1 to 1 s apart (about 3 s); 10 s in all |
| worker, each command | Redis | 20 more attempts, 0.1 to 1 s apart (about 15 s); 20 s in all |
| `diffedit exporter`, each command | Redis | 1 more attempt; 4 s in all, and 8 s for a whole scrape |
| client, while it waits for a job | Redis | again every 0.05 s, for 30 s or until the caller's timeout |
| `AsyncClient`, while it waits for jobs | Redis | again after 0.05 to 1 s, for 30 s or until each caller's timeout |
| client and worker, each request | S3 | 3 more attempts, by boto3's standard mode, all begun within 20 s |
| the same, a download that breaks off | S3 | 2 more attempts, at once |
| worker, while a stage needs an object | S3 | again after up to 5 s, for DIFFEDIT_S3_RETRY_TIMEOUT |
| the same, if S3 refuses | S3 | again after up to 5 s, for 15 s |
| worker, an object that it has just stored to test S3 | S3 | if it is not found, 4 more attempts, 0.2 s apart |
"""

import time
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import redis
from redis.backoff import ExponentialWithJitterBackoff
from redis.retry import Retry
from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception_type,
    stop_after_attempt,
    stop_after_delay,
    wait_fixed,
    wait_random_exponential,
)

from diffedit.deadline import deadline, seconds_left
from diffedit.errors import BrokerUnavailable, StoreRefused, StoreUnavailable

T = TypeVar("T")


class RedisPolicy(NamedTuple):
    """How often one command is sent again, and for how long in all: a server may take connections and never answer."""

    retries: int
    seconds: float


CLIENT_REDIS_POLICY = RedisPolicy(retries=4, seconds=10)
WORKER_REDIS_POLICY = RedisPolicy(retries=20, seconds=20)
"""The retries take about 15 s, in which the server may restart while a stage is running."""
EXPORTER_REDIS_POLICY = RedisPolicy(retries=1, seconds=4)
"""The next scrape is the next attempt."""
MESSAGE_REDIS_POLICY = RedisPolicy(retries=0, seconds=20)
"""For a connection of kombu's, which repeats by itself."""
CLIENT_OUTAGE = 30.0
"""Seconds for which a client that waits for a job tolerates a server that does not answer: enough for its restart."""
S3_ATTEMPTS = 4
"""In all, for one request, with boto3's pauses between them."""
S3_SECONDS = 20.0
"""Seconds to wait for an answer of S3, and seconds in which the attempts at one request begin."""
DOWNLOAD_ATTEMPTS = 3
"""In all, for a download that breaks off; boto3 only retries until an answer begins."""
PROBE_READS = 5
"""In all, for an object that was just stored and is not found: some servers lose sight of an object for a moment while
others in its folder are deleted, as rclone 1.75 does."""
PROBE_PAUSE = 0.2
"""Seconds between two of them."""
STAGE_S3_MAX_WAIT = 5.0
"""Seconds between two attempts at most. A cancelled job may occupy its worker for that long."""
STAGE_S3_REFUSED = 15.0
"""Seconds for which a stage repeats a request that S3 refuses: it may be a key that is being replaced."""


class BoundedRetry(Retry):
    """redis-py's form of a policy. Handshakes and all attempts together end after `policy.seconds`."""

    def __init__(self, policy: RedisPolicy) -> None:
        super().__init__(ExponentialWithJitterBackoff(base=0.1, cap=1), policy.retries)
        self._seconds = policy.seconds

    def call_with_retry(
        self,
        do: Callable[[], T],
        fail: Callable[..., Any],
        is_retryable: Callable[[Exception], bool] | None = None,
        with_failure_count: bool = False,
    ) -> T:
        failures = 0
        with deadline(self._seconds):
            while True:
                try:
                    return do()
                except self._supported_errors as error:
                    if is_retryable and not is_retryable(error):
                        raise
                    failures += 1
                    fail(error, failures) if with_failure_count else fail(error)
                    pause = self._backoff.compute(failures)
                    # Nobody corrects a password meanwhile.
                    final = isinstance(error, redis.AuthenticationError)
                    if final or failures > self._retries or seconds_left(self._seconds) <= pause:
                        raise
                    time.sleep(pause)


def outage_tolerant(timeout: float) -> Retrying:
    """Return the policy of a client that waits for a job for another `timeout` seconds."""
    return Retrying(
        retry=retry_if_exception_type(BrokerUnavailable),
        wait=wait_fixed(0.05),
        stop=stop_after_delay(min(max(timeout, 0), CLIENT_OUTAGE)),
        reraise=True,
    )


def repeated(attempts: int, *errors: type[Exception], pause: float = 0.0) -> Retrying:
    """Return a policy of so many attempts in all, `pause` seconds apart, after one of these errors."""
    return Retrying(
        retry=retry_if_exception_type(errors), wait=wait_fixed(pause), stop=stop_after_attempt(attempts), reraise=True
    )


def s3_outage_tolerant(timeout: float, before_retry: Callable[[], Any]) -> Retrying:
    """Return the policy of a stage that waits for S3 for `timeout` seconds. An exception of `before_retry` ends it."""

    def is_over(state: RetryCallState) -> bool:
        refused = state.outcome and isinstance(state.outcome.exception(), StoreRefused)
        return (state.seconds_since_start or 0) >= (min(timeout, STAGE_S3_REFUSED) if refused else timeout)

    return Retrying(
        retry=retry_if_exception_type(StoreUnavailable),
        wait=wait_random_exponential(multiplier=0.2, max=STAGE_S3_MAX_WAIT),
        stop=is_over,
        before_sleep=lambda _: before_retry(),
        reraise=True,
    )
