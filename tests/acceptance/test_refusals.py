"""A refused request leaves nothing in Redis and S3. tests/unit/test_refusals.py holds every refusal and its reason."""

from collections.abc import Callable
from pathlib import Path

import pytest

from diffedit import BadPicture, Client, InvalidRequest
from diffedit_worker.local.stack import LocalServices
from tests.support.factories import PEAR, PICTURE
from tests.support.services import redis_of
from tests.support.waiting import until

NEW_PICTURE = PICTURE.read_bytes() + b"of test_refusals"
"""A good picture that is not stored yet."""
REFUSED: dict[str, tuple[Callable[[Client], object], type[Exception], str]] = {
    "not a picture": (lambda c: c.edit(b"GIF89a", **PEAR), BadPicture, "not a PNG, JPEG or WebP"),
    "no such file": (lambda c: c.edit("no/such/picture.png", **PEAR), BadPicture, "cannot read"),
    "a bad mask": (lambda c: c.edit(NEW_PICTURE, **PEAR, mask=b"GIF89a"), BadPicture, "not a PNG, JPEG or WebP"),
    "strength over 1": (lambda c: c.edit(NEW_PICTURE, **PEAR, strength=2), InvalidRequest, "strength"),
    "an unknown name": (lambda c: c.preview_mask(NEW_PICTURE, **PEAR, num_steps=2), InvalidRequest, "num_steps"),
    "one bad edit of several": (
        lambda c: c.edit_many(NEW_PICTURE, ["fine", "a pear"], source_prompt="a pear"),
        InvalidRequest,
        "nothing to change",
    ),
}


def contents(stack: LocalServices) -> tuple[int, list[bytes], set[Path]]:
    """Return the number of jobs, the queues that are not empty, and the stored objects."""
    server = redis_of(stack)
    queues = sorted(server.scan_iter("diffedit.*"))
    return server.zcard("diffedit:jobs"), queues, set((stack.directory / "s3").rglob("*.*"))


@pytest.mark.parametrize("row", REFUSED)
def test_a_refused_request_leaves_nothing_in_redis_and_s3(client: Client, stack: LocalServices, row: str) -> None:
    call, kind, words = REFUSED[row]
    until(lambda: not redis_of(stack).zcard("diffedit:settled"), "the deletion of the copies of ended jobs")
    before = contents(stack)
    with pytest.raises(kind, match=words):
        call(client)
    assert contents(stack) == before
