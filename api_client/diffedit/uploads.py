"""Pictures from a program, in any of the forms that a picture has there, on their way to the object store."""

import base64
import inspect
import io
import os
import re
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol, cast

from PIL import ExifTags, Image

from diffedit.contract.object_keys import input_key
from diffedit.decoding import pixel_budget
from diffedit.errors import BadPicture, DecodingBusy
from diffedit.masks import read_mask
from diffedit.objects.store import ObjectStore
from diffedit.picture_files import lean_file
from diffedit.pictures import MAX_PICTURE_BYTES, Size, check_bytes, check_size, read_picture
from diffedit.salts import salted_file


class Readable(Protocol):
    """An open binary file, or anything that is read like one, such as `io.BytesIO` or an upload of Django."""

    def read(self, size: int, /) -> bytes: ...


class HasFile(Protocol):
    """An upload with an open binary file in `.file`, as Starlette and FastAPI have it."""

    @property
    def file(self) -> Readable: ...


class HasStream(Protocol):
    """An upload with an open binary file in `.stream`, as Flask has it."""

    @property
    def stream(self) -> Readable: ...


PictureLike = str | os.PathLike[str] | bytes | bytearray | memoryview | Readable | HasFile | HasStream | Image.Image
"""A picture: the path of a file, the bytes of a file, an open binary file or upload, a PIL image, a data URI.

A `str` is a path, unless it is a data URI or the Base64 text of a file.

Files are PNG, JPEG or WebP. A file is read from its current position.
"""

_TEXT_FORM = re.compile(
    r"(?P<url>(?i:https?|s3|ftp)://)|(?P<head>(?i:data:[^,]{0,100};base64,))|(iVBORw0KGgo|/9j/|UklGR)[A-Za-z0-9+/\s]{80}"
)
"""A `str` that is no path: a URL, a data URI, or Base64."""

SENT_UNASKED = 2**18
"""Bytes of a file that is sent even if it is stored already. To ask first takes about as long, and most are new."""

ASYNCHRONOUS = "read() of this file is asynchronous; await it yourself and give the bytes"


@dataclass(frozen=True)
class Upload:
    """A checked picture or mask: its key, the bytes of its file, and the size of the upright picture."""

    key: str
    data: bytes
    size: Size


def image_upload(image: PictureLike) -> Upload:
    """Return the upload of a picture. Raises BadPicture."""
    data = picture_bytes(image, "picture")
    picture = read_picture(data)
    return Upload(input_key(data, picture.extension), data, picture.image.size)


def mask_upload(mask: PictureLike, size: Size) -> Upload:
    """Return the upload of the mask of a picture of this size. Raises BadPicture."""
    data = picture_bytes(mask, "mask")
    read_mask(data, size)
    return Upload(input_key(data, lean_file(data, "mask").extension), data, size)


def salted(upload: Upload, salt: str) -> Upload:
    """Return the upload with a salt in its file, under the key of that file. Raises BadPicture if it gets too large."""
    data = salted_file(upload.data, salt)
    check_bytes(len(data), "picture")
    return Upload(input_key(data, upload.key.rpartition(".")[2]), data, upload.size)


def store(upload: Upload, object_store: ObjectStore) -> None:
    """Store an upload. A large one that exists is not sent."""
    if len(upload.data) <= SENT_UNASKED or not object_store.exists(upload.key):
        object_store.put(upload.key, upload.data)


def picture_bytes(picture: PictureLike, what: str) -> bytes:
    """Return the bytes of the file of a picture: at most MAX_PICTURE_BYTES + 1, enough to see that it is too large.

    Raises:
        BadPicture: this is not a picture, or it cannot be read. The message calls it `what`.
    """
    try:
        return _picture_bytes(picture, what)
    except OSError as error:
        reason = f"cannot read {_name(picture, what)}: {error.strerror or error}"
        raise BadPicture(reason).with_public(f"the {what} cannot be read") from error
    except ValueError as error:  # a NUL in the path, a character that the file system cannot store, a closed file
        reason = f"cannot read {_name(picture, what)}: {error}"
        raise BadPicture(reason).with_public(f"the {what} cannot be read") from error


def _picture_bytes(picture: Any, what: str) -> bytes:
    if isinstance(picture, bytes):
        return picture
    if isinstance(picture, Image.Image):
        return _encoded(picture, what)
    if isinstance(picture, bytearray | memoryview):
        view = memoryview(picture)
        check_bytes(view.nbytes, what)
        return view.tobytes()
    if isinstance(picture, str) and (text := _TEXT_FORM.match(picture)):
        return _from_text(picture, text, what)
    # `open` accepts a number, as a file descriptor.
    if isinstance(picture, str | os.PathLike):
        with open(picture, "rb") as file:
            return _read(file, what)
    return _read(_file_of(picture), what)


def _encoded(image: Image.Image, what: str) -> bytes:
    buffer = io.BytesIO()
    check_size(image.size, what)
    try:
        with pixel_budget().taken(image.width * image.height):
            image.load()
    except (MemoryError, DecodingBusy):
        raise
    except Exception as error:  # Pillow raises errors of many kinds, and AssertionError for a file that was closed
        reason = str(error) or "its file was closed"
        raise BadPicture(
            f"the PIL image cannot be read ({reason}); call its load() before its file is closed"
        ) from error
    exif = Image.Exif()
    with suppress(Exception):  # Pillow can read EXIF that it cannot write, so only what is needed is written
        exif[ExifTags.Base.Orientation] = int(image.getexif()[ExifTags.Base.Orientation])
    try:
        image.save(buffer, "PNG", exif=exif)
    except (OSError, ValueError) as error:
        raise BadPicture(f"the PIL image cannot be sent as PNG ({error}); convert it to RGB first") from error
    return buffer.getvalue()


def _from_text(picture: str, text: re.Match[str], what: str) -> bytes:
    """Return the picture in a data URI, or in Base64 that begins like a PNG, JPEG or WebP file."""
    if text["url"]:
        raise BadPicture(f"the {what} is given as a URL, and nothing is fetched here; download it and give its bytes")
    check_bytes(len(picture) * 3 // 4, what)
    try:
        return base64.b64decode(re.sub(r"\s", "", picture[len(text["head"] or "") :]), validate=True)
    except ValueError as error:
        raise BadPicture(f"the {what} is given as Base64 text that cannot be decoded ({error})") from error


def _file_of(picture: Any) -> Readable:
    """Return what can be read: the object itself, or the file in it if its own `read` is missing or asynchronous."""
    if isinstance(picture, io.TextIOBase):
        raise BadPicture('the file is open in text mode; open it with "rb"')
    for file in (picture, getattr(picture, "file", None), getattr(picture, "stream", None)):
        read = getattr(file, "read", None)
        if callable(read) and not inspect.iscoroutinefunction(read):
            return cast(Readable, file)
    if callable(getattr(picture, "read", None)):
        raise BadPicture(ASYNCHRONOUS)
    if hasattr(picture, "__array_interface__"):
        raise BadPicture("an array is no picture; make a PIL image of it with PIL.Image.fromarray")
    kinds = "a path, the bytes of a file, an open binary file or a PIL image"
    raise BadPicture(f"a {type(picture).__name__} is no picture; give {kinds}")


def _read(file: Any, what: str) -> bytes:
    # A read may return less than it was asked for. One byte over the limit is enough to refuse the picture.
    parts, left = [], MAX_PICTURE_BYTES + 1
    while left > 0 and (part := file.read(left)):
        if inspect.iscoroutine(part):
            part.close()
            raise BadPicture(ASYNCHRONOUS)
        if not isinstance(part, bytes | bytearray | memoryview):
            raise BadPicture(f'read() gave a {type(part).__name__} instead of bytes; open the file with "rb"')
        parts.append(bytes(part))
        left -= len(part)
    if not parts:
        raise BadPicture(f"the {what} is empty; check the file, or call seek(0) if it was read before")
    return b"".join(parts)


def _name(picture: Any, what: str) -> str:
    if not isinstance(picture, str | os.PathLike):
        return f"the {what}"
    name = os.fspath(picture)
    return str(name if len(name) <= 200 else f"{name[:200]!r}...")
