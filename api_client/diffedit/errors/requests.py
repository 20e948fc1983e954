"""Errors of a submission: nothing was queued."""

from collections.abc import Iterable

from diffedit.errors.base import DiffEditError


class InvalidRequest(DiffEditError):
    """Raised when an argument is unknown, out of its range, or contradicts another one. Nothing was queued.

    The message names the argument. Correct it.
    """

    code = "invalid_request"
    http_status = 400
    _public: str | None = None


class BadPicture(InvalidRequest):
    """Raised when the picture or the mask cannot be decoded, is too large or too small, or is animated.

    The message says what is wrong with it. Convert or scale the picture.
    """

    code = "bad_picture"


class UploadNotFound(InvalidRequest):
    """Raised when the caller has no upload with this key: nothing was sent yet, it was deleted, or it is another's.

    Nothing was queued. Upload the picture again, with a new `upload_url`.
    """

    code = "upload_not_found"

    def __init__(self) -> None:
        super().__init__("uploaded: no upload has this key, or it was deleted; upload the picture again")


class IdempotencyConflict(InvalidRequest):
    """Raised when the job `job_id` of another request has this idempotency key. Nothing was queued; use another key."""

    code = "idempotency_conflict"
    http_status = 409
    _public = "another request has this idempotency key; use another key for this one"

    def __init__(self, job_id: str) -> None:
        super().__init__(f"idempotency_key: job {job_id} of another request has this key; use another key for this one")
        self.job_id = job_id


class UnknownProfile(InvalidRequest):
    """Raised when there is no such model profile. The message lists the known ones.

    A worker raises it at its start. `Client.check_profile` and the HTTP API do if no worker has ever announced it.
    """

    code = "unknown_profile"


class UnknownPreset(InvalidRequest):
    """Raised when the workers of the profile announce no preset of this name. Nothing was queued.

    The message lists the presets that there are. Use one of them, or add this one to the profile of the workers.
    """

    code = "unknown_preset"

    def __init__(self, profile: str, preset: str, known: Iterable[str]) -> None:
        super().__init__(
            f"preset: profile {profile} has no preset {preset!r}; known: {', '.join(known)}. Use one of them, or add "
            "it to the profile of the workers and upgrade those before 0.3.0, which announce none"
        )


class BatchInUse(InvalidRequest):
    """Raised by `diffedit batch` when another process works with the same state file. Nothing was queued.

    Wait until it has ended, or give another `--out` or `--state`.
    """

    code = "batch_in_use"
    http_status = 409

    def __init__(self, path: str) -> None:
        super().__init__(
            f"{path}: another process works on this batch; wait until it has ended, or give another --out or --state"
        )


class QueueFull(DiffEditError):
    """Raised when `DIFFEDIT_MAX_QUEUED` jobs already wait in this lane of the profile. Nothing was queued.

    Try again later, add workers, or raise the limit.
    """

    code = "queue_full"
    http_status = 429
    retryable = True
    _public = "too many jobs wait already; try again later"

    def __init__(self, lane: str, profile: str, max_queued: int) -> None:
        super().__init__(
            f"{max_queued} jobs wait in the {lane} lane of profile {profile} already; try again later, add workers, "
            "or raise DIFFEDIT_MAX_QUEUED"
        )


class OwnerLimit(DiffEditError):
    """Raised when a job would exceed a limit of its owner (`Client.set_owner_limits`). Nothing was queued.

    If the limit is `max_queued`, the error is retryable: try again when a job has ended. Otherwise use a smaller
    picture or fewer steps, or raise the limit.

    Attributes:
        owner: whose limit it is.
        limit: its name: "max_queued", "max_pixels" or "max_steps".
        maximum: its value.
    """

    code = "owner_limit"
    http_status = 403
    _public: str | None = None

    def __init__(self, owner: str, limit: str, maximum: int) -> None:
        what, advice = _OWNER_LIMITS[limit]
        super().__init__(f"{limit}: this owner may have {what.format(maximum)}; {advice}, or raise the limit")
        self.owner = owner
        self.limit = limit
        self.maximum = maximum
        if limit == "max_queued":
            self.retryable, self.http_status = True, 429
        self.with_public(f"you may have {what.format(maximum)}; {advice}")


_OWNER_LIMITS = {
    "max_queued": ("{} waiting jobs", "try again when one of them has ended"),
    "max_pixels": ("pictures of {} pixels", "use a smaller picture"),
    "max_steps": ("{} steps in an edit", "ask for fewer"),
}
