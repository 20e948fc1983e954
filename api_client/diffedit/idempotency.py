"""Idempotency keys: their form, their scope, and the digest that shows whether two calls ask for the same.

A key names one job for as long as the record of that job exists, however the job ends. A call that repeats the first
one gets this job. A call that asks for something else raises IdempotencyConflict.
"""

from collections.abc import Iterable
from typing import Any

from diffedit.contract.job import JobOptions
from diffedit.contract.presets import DEFAULT
from diffedit.contract.request import EditRequest
from diffedit.contract.validation import digest
from diffedit.errors import InvalidRequest

MAX_IDEMPOTENCY_KEY = 200
"""Characters of an idempotency key, at most."""
SEPARATOR = "\x1f"
"""The unit separator of ASCII. It is not printable, so no namespace, owner or key contains it."""


def checked_key(key: Any) -> str | None:
    """Return an idempotency key that is valid, or None if none is given. Raises InvalidRequest."""
    if key is None or (isinstance(key, str) and 1 <= len(key) <= MAX_IDEMPOTENCY_KEY and key.isprintable()):
        return key
    raise InvalidRequest(f"idempotency_key: give a text of 1 to {MAX_IDEMPOTENCY_KEY} printable characters")


def scoped_key(namespace: str, owner: str | None, key: str | None) -> str | None:
    """Return the key as the job store knows it. It is another one for each namespace and for each owner.

    Without both it is the key itself, as in version 0.2.0.
    """
    if key is None or not (namespace or owner):
        return key
    scope = (namespace, owner) if owner else (namespace,)
    return SEPARATOR.join((*scope, key))


def request_digest(request: EditRequest, options: JobOptions, given: Iterable[str], preset: str = DEFAULT) -> str:
    """Return the digest of what the user gave: texts and pictures, the parameters in `given`, the preset, the options.

    Values are digested as validation returns them, so 1, 1.0 and numpy's 1 are equal. Defaults are left out: the same
    call has the same digest when it draws another seed, when workers have other defaults, and in a version that knows
    more options.
    """
    return digest(
        {
            **({} if preset == DEFAULT else {"preset": preset}),
            "request": request.model_dump(mode="json", exclude={"params"}, exclude_defaults=True),
            "params": request.params.model_dump(mode="json", include=set(given)),
            "options": options.model_dump(mode="json", exclude_defaults=True),
        }
    )


def retry_digest(job_id: str) -> str:
    """Return the digest of a call of `retry()`: what it asks for is another attempt at this job."""
    return digest({"retry_of": job_id})
