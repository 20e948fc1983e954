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
    """Raised by a worker when no model profile has the name that it should serve. The message lists the known ones."""

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
