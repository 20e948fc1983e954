"""The base of all errors."""

from typing import Any, ClassVar, Self


class DiffEditError(Exception):
    """Base of everything that this project raises on purpose. Catch it to catch all of them.

    Attributes:
        code: the stable name of this kind of error.
        http_status: the status with which a web server answers.
        retryable: whether the same call may succeed later, without a change of the request or of the settings.
        public_message: the message for the people who use a program, without keys, paths, hosts and settings.
        queued: the ids of the edits that `edit_many` had queued before the one that raised this. They run.
    """

    code: ClassVar[str] = "error"
    http_status: int = 500
    retryable: bool = False
    queued: tuple[str, ...] = ()
    _public: str | None = "the service has a problem; try again later"
    """The public message of this class; None if the message itself may be shown."""

    @property
    def public_message(self) -> str:
        return self._public or str(self)

    def with_public(self, message: str) -> Self:
        """Return this error with another public message, because its own one names a path or the like."""
        self._public = message
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        # Process pools pickle exceptions. By default an exception is restored by `type(*args)`, but most of ours build
        # their message themselves and take other arguments than the message.
        return _restored, (type(self), self.args, vars(self))


def _restored(kind: type[DiffEditError], args: tuple[Any, ...], attributes: dict[str, Any]) -> DiffEditError:
    error = kind.__new__(kind)
    error.args = args
    vars(error).update(attributes)
    return error
