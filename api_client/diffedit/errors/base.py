"""The base of all errors."""

from typing import Any, ClassVar


class DiffEditError(Exception):
    """Base of everything that this project raises on purpose. Catch it to catch all of them.

    Attributes:
        code: the stable name of this kind of error.
    """

    code: ClassVar[str] = "error"

    def __reduce__(self) -> tuple[Any, ...]:
        # Process pools pickle exceptions. By default an exception is restored by `type(*args)`, but most of ours build
        # their message themselves and take other arguments than the message.
        return _restored, (type(self), self.args, vars(self))


def _restored(kind: type[DiffEditError], args: tuple[Any, ...], attributes: dict[str, Any]) -> DiffEditError:
    error = kind.__new__(kind)
    error.args = args
    vars(error).update(attributes)
    return error
