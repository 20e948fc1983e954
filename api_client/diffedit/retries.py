"""Every retry policy of this project. `docs/reference/retries.md` shows the same table.

| caller | service | policy |
|---|---|---|
| client, each command | Redis | 4 more attempts, 0.1 to 1 s apart (about 3 s) |
| worker, each command | Redis | 20 more attempts, 0.1 to 1 s apart (about 15 s) |
| client, while it waits for a job | Redis | again every 0.05 s, for 30 s or until the caller's timeout |
| client and worker, a message | Celery's broker | 4 more attempts, 0.1 to 1 s apart |
| the same, when a queue cannot be declared | Celery's broker | 2 more attempts, at once |
| client and worker, each request | S3 | 3 more attempts, by boto3's standard mode |
| the same, a download that breaks off | S3 | 2 more attempts, at once |
| worker, while a stage needs an object | S3 | again after up to 5 s, for DIFFEDIT_S3_RETRY_TIMEOUT |
| the same, if S3 refuses | S3 | again after up to 5 s, for 15 s |
"""

from collections.abc import Callable
from typing import Any

from redis.backoff import ExponentialWithJitterBackoff
from redis.retry import Retry
from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception_type,
    stop_after_attempt,
    stop_after_delay,
    wait_fixed,
    wait_none,
    wait_random_exponential,
)

from diffedit.errors import BrokerUnavailable, StoreRefused, StoreUnavailable

CLIENT_REDIS_RETRIES = 4
WORKER_REDIS_RETRIES = 20
"""About 15 s, in which the server may restart while a stage is running."""
CLIENT_OUTAGE = 30.0
"""Seconds for which a client that waits for a job tolerates a server that does not answer: enough for its restart."""
PUBLISH_POLICY = {"max_retries": 4, "interval_start": 0.1, "interval_step": 0.2, "interval_max": 1}
"""kombu's, for a message."""
DECLARE_ATTEMPTS = 3
"""In all, when kombu could not declare a queue."""
S3_ATTEMPTS = 4
"""In all, for one request. boto3 waits up to 20 s between them."""
DOWNLOAD_ATTEMPTS = 3
"""In all, for a download that breaks off; boto3 only retries until an answer begins."""
STAGE_S3_MAX_WAIT = 5.0
"""Seconds between two attempts at most. A cancelled job may occupy its worker for that long."""
STAGE_S3_REFUSED = 15.0
"""Seconds for which a stage repeats a request that S3 refuses: it may be a key that is being replaced."""


def redis_retry(retries: int) -> Retry:
    """Return redis-py's policy for one command."""
    return Retry(ExponentialWithJitterBackoff(base=0.1, cap=1), retries)


def outage_tolerant(timeout: float) -> Retrying:
    """Return the policy of a client that waits for a job for another `timeout` seconds."""
    return Retrying(
        retry=retry_if_exception_type(BrokerUnavailable),
        wait=wait_fixed(0.05),
        stop=stop_after_delay(min(max(timeout, 0), CLIENT_OUTAGE)),
        reraise=True,
    )


def repeated(attempts: int, *errors: type[Exception]) -> Retrying:
    """Return a policy of so many attempts in all, at once, after one of these errors."""
    return Retrying(
        retry=retry_if_exception_type(errors), wait=wait_none(), stop=stop_after_attempt(attempts), reraise=True
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
