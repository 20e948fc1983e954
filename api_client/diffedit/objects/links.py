"""Links that a browser opens: to read an object, or to send one straight to the bucket."""

import re
import unicodedata
from datetime import datetime
from typing import Literal
from urllib.parse import quote

from pydantic import Field

from diffedit.contract.validation import Frozen
from diffedit.errors import InvalidRequest

MAX_EXPIRES = 7 * 24 * 3600
"""Seconds for which a link can be valid, at most: the longest that S3 signs for."""
MAX_FILENAME = 150
"""Characters of the name of a download, at most. File systems take 255 bytes."""

_NOT_IN_NAMES = frozenset({"Cc", "Cs", "Zl", "Zp"})
"""Unicode's categories of control characters, halves of surrogate pairs, and ends of lines and paragraphs."""
_DIRECTIONS = re.compile("[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
"""They change the direction of writing, so that "gnp.exe" can look like "exe.png"."""
_NOT_IN_FALLBACK = re.compile(r"[^ !#$&+\-.^_`|~0-9A-Za-z(),;=@\[\]{}']")
"""Neither quotes and backslashes, nor "%", which some browsers decode where the standard does not."""


class UploadUrl(Frozen):
    """A request with which a browser sends one picture straight to the bucket.

    With the method "PUT", the body is the file. With "POST", it is a form (`multipart/form-data`): all `fields`, then
    the file as the field "file".
    """

    key: str
    """What `Client.edit(uploaded=key)` takes afterwards."""
    method: Literal["PUT", "POST"]
    """The HTTP method."""
    url: str
    """Where to send the request."""
    headers: dict[str, str] = Field(default_factory=dict)
    """The headers of the request. A browser adds Content-Length itself."""
    fields: dict[str, str] = Field(default_factory=dict)
    """The fields of the form; none with "PUT"."""
    size: int
    """The bytes of the file. The server refuses a file of another size or content type."""
    expires_at: datetime
    """When the request must have arrived."""


def check_expires(expires: object) -> None:
    """Raise InvalidRequest unless `expires` is a whole number of seconds from 1 to `MAX_EXPIRES`."""
    if isinstance(expires, bool) or not isinstance(expires, int) or not 1 <= expires <= MAX_EXPIRES:
        raise InvalidRequest(f"expires must be 1 to {MAX_EXPIRES} seconds (7 days), as a whole number")


def attachment(filename: str) -> str:
    """Return the Content-Disposition of a download with this name (RFC 6266, RFC 8187).

    It has the name twice: in ASCII, with "_" for every other character, and in UTF-8 for all browsers of today.

    Raises:
        InvalidRequest: the name is empty or too long, or has a slash, a backslash, a control character or a character
            that changes the direction of writing.
    """
    if not isinstance(filename, str) or not 1 <= len(filename) <= MAX_FILENAME or not filename.strip(" ."):
        raise InvalidRequest(f"filename: give a name of 1 to {MAX_FILENAME} characters")
    if any(unicodedata.category(char) in _NOT_IN_NAMES or char in "/\\" for char in filename):
        raise InvalidRequest("filename: it must not contain slashes, backslashes or control characters")
    if _DIRECTIONS.search(filename):
        raise InvalidRequest("filename: it must not contain characters that change the direction of writing")
    fallback = _NOT_IN_FALLBACK.sub("_", filename)
    return f"attachment; filename=\"{fallback}\"; filename*=UTF-8''{quote(filename, safe='')}"
