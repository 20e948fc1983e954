"""How much a process decodes at once, how many pixels a picture may have, and how long its decoding may take."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from threading import Condition, Lock

from diffedit.deadline import seconds_left
from diffedit.errors import BadPicture, DecodingBusy
from diffedit.forks import PerProcess

MAX_PIXELS = 40_000_000
"""Pixels of a picture, at most."""
MAX_PIXELS_AT_ONCE = MAX_PIXELS
"""Pixels of all pictures that a process decodes at the same time, at most. Others wait."""
MAX_WAIT = 60.0
"""Seconds for which a picture waits until others are decoded, at most."""
MAX_SECONDS = 20.0
"""Seconds of processor time that the decoding of a picture takes, at most. The largest pictures take 1 to 3."""


def _go_on() -> None:
    pass


@dataclass(frozen=True)
class Limits:
    """What applies to the pictures that are decoded now.

    Attributes:
        max_pixels: pixels of a picture, at most.
        check: called again and again while a picture is decoded. If it raises, decoding ends with its error.
    """

    max_pixels: int = MAX_PIXELS
    check: Callable[[], None] = _go_on


_limits: ContextVar[Limits | None] = ContextVar("limits", default=None)


def limits() -> Limits:
    """Return the limits of this context."""
    return _limits.get() or Limits()


@contextmanager
def decoding_limits(max_pixels: int, check: Callable[[], None] = _go_on) -> Iterator[None]:
    """Let these limits apply within the context."""
    token = _limits.set(Limits(max_pixels, check))
    try:
        yield
    finally:
        _limits.reset(token)


class LimitedFile(BytesIO):
    """The file of a picture. Its `read` raises when the time is over, because no decoder can be interrupted in itself.

    Pillow reads JPEG and PNG in blocks of 64 KiB, so decoding ends within the time that one block takes, and JPEG's
    last pass over the pixels. WebP is decoded in one call; its time is bounded by the number of pixels and bytes.

    Attributes:
        stopped_by: the error with which decoding was ended.
    """

    def __init__(self, data: bytes, what: str) -> None:
        super().__init__(data)
        self.stopped_by: Exception | None = None
        self._what = what
        self._check = limits().check
        self._end = time.thread_time() + MAX_SECONDS

    def read(self, size: int | None = -1, /) -> bytes:
        try:
            self._check()
            if time.thread_time() > self._end:
                raise BadPicture(
                    f"the {self._what} takes more than {MAX_SECONDS:g} s to decode; open it in an image program and "
                    "save it again"
                )
        except Exception as error:
            self.stopped_by = error
            raise
        return super().read(size)


class PixelBudget:
    """How many pixels may be decoded at the same time. Callers wait, in no order but so that none waits for ever."""

    def __init__(self, pixels: int) -> None:
        self._left = pixels
        self._changed = Condition()
        self._first_in_line = Lock()

    @contextmanager
    def taken(self, pixels: int) -> Iterator[None]:
        """Take so many pixels, at most those of the whole budget, while the context lasts.

        Raises:
            DecodingBusy: it was not this caller's turn within MAX_WAIT seconds, or until the deadline of the caller.
        """
        end = time.monotonic() + seconds_left(MAX_WAIT)
        # A large picture would wait for ever if small ones could pass it.
        if not self._first_in_line.acquire(timeout=max(0.0, end - time.monotonic())):
            raise DecodingBusy
        try:
            with self._changed:
                if not self._changed.wait_for(lambda: self._left >= pixels, max(0.0, end - time.monotonic())):
                    raise DecodingBusy
                self._left -= pixels
        finally:
            self._first_in_line.release()
        try:
            yield
        finally:
            with self._changed:
                self._left += pixels
                self._changed.notify_all()


pixel_budget = PerProcess(partial(PixelBudget, MAX_PIXELS_AT_ONCE))
