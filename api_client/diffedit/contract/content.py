"""What an object contains, in a form that a record can keep: the SHA-256 and the length of its bytes.

An artifact of a job is damaged if its bytes are not those that a worker has stored, even if they can be decoded: a bit
was flipped, or the server gave the answer to another request.
"""

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated

from pydantic import StringConstraints

from diffedit.errors import ArtifactError

_FORM = re.compile(r"[0-9a-f]{64} \d+")

Content = Annotated[str, StringConstraints(pattern=rf"^{_FORM.pattern}$")]
"""The SHA-256 of an object as 64 hex digits, a space, and its length in bytes."""

ContentsOf = Callable[[Sequence[str]], Mapping[str, Content]]
"""Returns what was last stored at some keys, as far as it is known (`JobStore.contents_of`)."""


def content_of(data: bytes) -> Content:
    """Return the content of an object with these bytes."""
    return f"{hashlib.sha256(data).hexdigest()} {len(data)}"


def is_content(text: str) -> bool:
    """Return whether this is a content. In Redis it may be something that only a newer version can read."""
    return _FORM.fullmatch(text) is not None


def check_stored(key: str, data: bytes, recorded: Content | None, contents_of: ContentsOf) -> None:
    """Check that these bytes of an artifact are what a worker has stored at the key.

    Args:
        recorded: what the job's record says. None if a worker of 0.2.0 has made the artifact; then nothing is checked.
        contents_of: is asked if the record says something else, since another job may have made the artifact again.

    Raises:
        ArtifactError: the bytes are neither of both.
    """
    content = content_of(data)
    if recorded and content != recorded and contents_of([key]).get(key) != content:
        raise ArtifactError("its bytes are not those that were stored")
