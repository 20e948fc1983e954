"""The forms in which a program may give a picture, and what is refused."""

import array
import base64
import io
import struct
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from diffedit import MAX_PICTURE_BYTES, BadPicture, Client, Settings
from diffedit.contract.object_keys import SUBMISSIONS
from diffedit.pictures import read_picture
from diffedit.testing import MemoryObjectStore
from diffedit.uploads import SENT_UNASKED, Upload, picture_bytes, store
from tests.support.fake_service import TEXTS, FakeService, png


@pytest.fixture
def service() -> FakeService:
    return FakeService()


class FlaskUpload:
    """Flask's FileStorage: it forwards everything to the stream inside."""

    def __init__(self, data: bytes) -> None:
        self.stream = io.BytesIO(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


class DjangoUpload:
    """Django's UploadedFile: a file with `read` that also has the file inside as `.file`."""

    def __init__(self, data: bytes) -> None:
        self.file = io.BytesIO(data)

    def read(self, size: int | None = None) -> bytes:
        return self.file.read(size)


class StarletteUpload:
    """Starlette's UploadFile, and so FastAPI's: an asynchronous `read`, and the file inside as `.file`."""

    def __init__(self, data: bytes) -> None:
        self.file = tempfile.SpooledTemporaryFile(max_size=2**20)  # noqa: SIM115
        self.file.write(data)
        self.file.seek(0)

    async def read(self, size: int = -1) -> bytes:
        return self.file.read(size)


class Trickle:
    """A file that returns at most 7 bytes for each read, as a socket may."""

    def __init__(self, data: bytes) -> None:
        self.file = io.BytesIO(data)

    def read(self, size: int, /) -> bytes:
        return self.file.read(min(size, 7))


FORMS: dict[str, Callable[[Path], object]] = {
    "Path": lambda path: path,
    "str": str,
    "bytes": lambda path: path.read_bytes(),
    "bytearray": lambda path: bytearray(path.read_bytes()),
    "memoryview": lambda path: memoryview(path.read_bytes()),
    "memoryview of numbers": lambda path: memoryview(array.array("B", path.read_bytes())),
    "BytesIO": lambda path: io.BytesIO(path.read_bytes()),
    "open file": lambda path: path.open("rb"),
    "open file, unbuffered": lambda path: path.open("rb", buffering=0),
    "file that returns few bytes": lambda path: Trickle(path.read_bytes()),
    "Flask": lambda path: FlaskUpload(path.read_bytes()),
    "Django": lambda path: DjangoUpload(path.read_bytes()),
    "Starlette": lambda path: StarletteUpload(path.read_bytes()),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
def test_a_file_may_have_any_form_and_is_stored_unchanged(service: FakeService, tmp_path: Path, form: str) -> None:
    path = tmp_path / "picture.png"
    path.write_bytes(png())
    service.client.edit(FORMS[form](path), **TEXTS, mask=io.BytesIO(png(colour="white")))
    request = service.sent[0].request
    assert service.object_store.get(request.image) == png()
    assert service.object_store.get(request.mask) == png(colour="white")


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "P"])
def test_a_pil_image_is_sent_as_png(service: FakeService, mode: str) -> None:
    service.client.edit(Image.new(mode, (32, 24)), **TEXTS)
    assert service.sent[0].request.image.endswith(".png")


def test_a_jpeg_is_stored_unchanged(service: FakeService) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (32, 24)).save(buffer, "JPEG")
    service.client.edit(buffer.getvalue(), **TEXTS)
    assert service.sent[0].request.image.endswith(".jpg")
    assert service.object_store.get(service.sent[0].request.image) == buffer.getvalue()


class AsynchronousFile:
    async def read(self, size: int = -1) -> bytes:
        return b""


class AsynchronousWithoutTelling:
    def read(self, size: int = -1) -> Any:
        return AsynchronousFile().read(size)


class TextStream:
    def read(self, size: int = -1) -> str:
        return "text"


def closed_file() -> io.BytesIO:
    file = io.BytesIO(png())
    file.close()
    return file


def read_before() -> io.BytesIO:
    file = io.BytesIO(png())
    file.read()
    return file


def broken() -> object:
    class Broken(io.RawIOBase):
        def read(self, size: int = -1) -> bytes:
            raise OSError(5, "Input/output error")

    return Broken()


@pytest.mark.parametrize(
    ("picture", "words"),
    [
        pytest.param(io.StringIO("text"), 'text mode; open it with "rb"', id="text mode"),
        pytest.param(TextStream(), 'str instead of bytes; open the file with "rb"', id="a stream of text"),
        pytest.param(AsynchronousFile(), "asynchronous; await it yourself", id="asynchronous"),
        pytest.param(AsynchronousWithoutTelling(), "asynchronous; await it yourself", id="asynchronous, seen late"),
        pytest.param(closed_file(), "cannot read the picture: I/O operation on closed file", id="closed"),
        pytest.param(read_before(), r"the picture is empty; .*call seek\(0\)", id="read before"),
        pytest.param(broken(), "cannot read the picture: Input/output error", id="read error"),
        pytest.param(bytearray(), "the picture is empty", id="empty bytearray"),
        pytest.param(memoryview(bytes(MAX_PICTURE_BYTES + 1)), "more than 32 MiB", id="large memoryview"),
        pytest.param(3.5, "a float is no picture", id="number"),
        pytest.param({"file": png()}, "a dict is no picture", id="dict"),
    ],
)
def test_what_is_not_a_picture_is_refused_with_advice(service: FakeService, picture: object, words: str) -> None:
    with pytest.raises(BadPicture, match=words):
        service.client.edit(picture, **TEXTS)


def test_a_text_file_is_recognised_before_it_is_decoded(service: FakeService, tmp_path: Path) -> None:
    path = tmp_path / "picture.png"
    path.write_bytes(png())
    with path.open() as file, pytest.raises(BadPicture, match="text mode"):
        service.client.edit(file, **TEXTS)


def test_an_endless_file_is_read_to_one_byte_over_the_limit() -> None:
    class Endless:
        received = 0

        def read(self, size: int, /) -> bytes:
            self.received += size
            return bytes(size)

    endless = Endless()
    assert len(picture_bytes(endless, "picture")) == endless.received == MAX_PICTURE_BYTES + 1


def test_a_file_is_read_from_its_position_and_stays_open(service: FakeService) -> None:
    file = io.BytesIO(b"header" + png())
    file.seek(6)
    service.client.edit(file, **TEXTS)
    assert not file.closed
    assert service.object_store.get(service.sent[0].request.image) == png()


def test_a_pil_image_whose_file_was_closed_is_refused_with_the_reason(tmp_path: Path) -> None:
    path = tmp_path / "picture.png"
    path.write_bytes(png())
    with Image.open(path) as image:
        pass
    with pytest.raises(BadPicture, match=r"cannot be read .*call its load\(\)"):
        picture_bytes(image, "picture")


class CountingStore(MemoryObjectStore):
    """Counts the calls that a client makes for pictures."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: Counter[str] = Counter()

    def put(self, key: str, data: bytes) -> None:
        if not key.startswith(SUBMISSIONS):
            self.calls["put"] += 1
        super().put(key, data)

    def exists(self, key: str) -> bool:
        self.calls["exists"] += 1
        return super().exists(key)


@pytest.mark.parametrize(
    ("size", "calls"),
    [
        pytest.param(SENT_UNASKED, {"put": 2}, id="small"),
        pytest.param(SENT_UNASKED + 1, {"put": 1, "exists": 2}, id="large"),
    ],
)
def test_a_large_file_is_not_sent_if_it_is_stored_already(size: int, calls: dict[str, int]) -> None:
    objects = CountingStore()
    for _ in range(2):
        store(Upload("inputs/a.png", bytes(size), (1, 1)), objects)
    assert objects.calls == calls


def test_a_small_picture_that_was_changed_in_the_bucket_is_stored_again(service: FakeService) -> None:
    key = service.client.edit(png(), **TEXTS).status().request.image
    service.object_store.put(key, b"another")
    service.client.edit(png(), **TEXTS)
    assert service.object_store.get(key) == png()


def test_edits_that_are_queued_together_send_their_picture_once(service: FakeService) -> None:
    objects = CountingStore()
    client = Client(Settings(), backend=service.backend, object_store=objects, send=service.send)
    client.edit_many(png(), ["a bowl of pears", "a bowl of plums"], source_prompt="a bowl of fruits")
    assert objects.calls == {"put": 1}


def jpeg_with_exif(tag: int, kind: int, count: int, value: bytes, beyond: bytes = b"") -> bytes:
    """Return a JPEG file with one EXIF entry. `beyond` is what offset 26, which may be its value, points to."""
    entry = struct.pack("<HHI", tag, kind, count) + value.ljust(4, b"\0")
    exif = b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<H", 1) + entry + struct.pack("<I", 0) + beyond
    buffer = io.BytesIO()
    Image.new("RGB", (40, 20)).save(buffer, "JPEG", exif=exif)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("data", "size"),
    [
        pytest.param(jpeg_with_exif(0x11A, 10, 1, struct.pack("<I", 26), struct.pack("<ii", -1, 3)), (40, 20), id="10"),
        pytest.param(jpeg_with_exif(0x100, 9, 1, struct.pack("<i", -5)), (40, 20), id="a negative number"),
        pytest.param(
            jpeg_with_exif(0x112, 12, 1, struct.pack("<I", 26), struct.pack("<d", 6.0)), (20, 40), id="double"
        ),
        pytest.param(jpeg_with_exif(0x112, 3, 1, struct.pack("<H", 6)), (20, 40), id="orientation"),
    ],
)
def test_exif_that_pillow_reads_and_cannot_write_does_not_matter(data: bytes, size: tuple[int, int]) -> None:
    assert read_picture(data).image.size == size
    with Image.open(io.BytesIO(data)) as image:
        assert read_picture(picture_bytes(image, "picture")).image.size == size


@pytest.mark.parametrize("head", ["data:image/png;base64,", "DATA:image/png;name=a;base64,", ""])
def test_base64_text_is_a_picture(head: str) -> None:
    data = png((64, 64))
    text = base64.encodebytes(data).decode()
    assert picture_bytes(head + text, "picture") == data


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("https://example.com/a.png", "given as a URL, and nothing is fetched"),
        ("S3://bucket/a.png", "given as a URL, and nothing is fetched"),
        ("data:image/png;base64,iVBO*", "Base64 text that cannot be decoded"),
        ("data:image/png;base64," + "A" * 50_000_000, "more than 32 MiB"),
        ("x" * 3_000_000, "cannot read"),
    ],
)
def test_text_that_is_no_picture_is_refused_in_one_short_line(text: str, words: str) -> None:
    with pytest.raises(BadPicture, match=words) as refusal:
        picture_bytes(text, "picture")
    assert len(str(refusal.value)) < 400
