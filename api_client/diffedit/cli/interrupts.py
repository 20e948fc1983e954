"""Ctrl-C stays an interrupt, whatever a library makes of it."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import typer


@contextmanager
def lasting_interrupts() -> Iterator[None]:
    """Raise KeyboardInterrupt for each error that comes after Ctrl-C.

    Ctrl-C may come in the middle of an extension module that raises an error of its own instead, without a cause:
    pydantic raises PydanticSerializationError. Without effect outside of the main thread, or if Ctrl-C is ignored.
    """
    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    interrupted = False

    def interrupt(number: int, frame: FrameType | None) -> None:
        nonlocal interrupted
        interrupted = True
        signal.default_int_handler(number, frame)

    signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    except typer.Exit:
        raise
    except Exception as error:
        if interrupted:
            raise KeyboardInterrupt from error
        raise
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
