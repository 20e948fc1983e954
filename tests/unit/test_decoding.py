"""Decoding is bounded: how much at once, how many pixels, how long, and that what is unknown ends as well."""

import itertools
import struct
import threading
import time
import warnings
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO

import pytest
from PIL import Image

from diffedit import BadPicture, Client, InvalidRequest, Settings, decoding, picture_files
from diffedit.contract.job import State
from diffedit.contract.stages import Stage
from diffedit.deadline import deadline
from diffedit.decoding import MAX_PIXELS, PixelBudget, decoding_limits, pixel_budget
from diffedit.errors import DecodingBusy
from diffedit.masks import read_mask
from diffedit.picture_files import lean_file
from diffedit.pictures import encode_png, read_picture, read_result
from diffedit.testing import MemoryObjectStore, memory_backend
from tests.support.factories import a_worker
from tests.support.forking import fork_in_c, in_child
from tests.support.icc_profiles import SRGB, many_elements
from tests.support.images import gradient, png_chunk, same, saved, speckled
from tests.support.inline_worker import QUICK, TEXTS, InlineWorker

SIDE = 200
PICTURE = saved(speckled((SIDE, SIDE)))


@pytest.fixture
def small_budget(monkeypatch: pytest.MonkeyPatch) -> PixelBudget:
    """The pixels of two pictures."""
    monkeypatch.setattr(decoding.pixel_budget, "_made", [PixelBudget(2 * SIDE * SIDE)])
    return pixel_budget()


class Crowd:
    """Counts how many pictures are decoded at the same time."""

    def __init__(self) -> None:
        self._lock, self._now, self.most = threading.Lock(), 0, 0

    def read(self, read: Callable[[bytes], object]) -> None:
        entered = False

        def enter() -> None:
            nonlocal entered
            with self._lock:
                self._now += not entered
                self.most = max(self.most, self._now)
            entered = True
            time.sleep(0.001)

        with decoding_limits(MAX_PIXELS, enter):
            read(PICTURE)

    def leave(self) -> None:
        with self._lock:
            self._now -= 1


@pytest.mark.parametrize("read", [read_picture, read_mask, read_result])
def test_a_process_decodes_no_more_pixels_at_once_than_its_budget(
    read: Callable[[bytes], object], small_budget: PixelBudget, monkeypatch: pytest.MonkeyPatch
) -> None:
    crowd, taken = Crowd(), small_budget.taken

    class Watched(PixelBudget):
        @decoding.contextmanager
        def taken(self, pixels: int):
            with taken(pixels):
                yield
                crowd.leave()

    monkeypatch.setattr(decoding.pixel_budget, "_made", [Watched(0)])
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(crowd.read, [read] * 24))
    assert crowd.most == 2


def test_a_picture_that_waits_until_the_deadline_of_its_caller_is_refused(small_budget: PixelBudget) -> None:
    with small_budget.taken(2 * SIDE * SIDE), deadline(0.01), pytest.raises(DecodingBusy, match="too many pictures"):
        read_picture(PICTURE)
    assert read_picture(PICTURE).image.size == (SIDE, SIDE)


def test_a_large_picture_is_not_passed_by_small_ones_for_ever(small_budget: PixelBudget) -> None:
    order: list[str] = []

    def take(name: str, pixels: int) -> None:
        with small_budget.taken(pixels):
            order.append(name)

    with small_budget.taken(1):
        large = threading.Thread(target=take, args=("large", 2 * SIDE * SIDE))
        large.start()
        while not small_budget._first_in_line.locked():
            time.sleep(0.001)
        small = threading.Thread(target=take, args=("small", 1))
        small.start()
        small.join(0.05)
    large.join()
    small.join()
    assert order == ["large", "small"]


@pytest.mark.parametrize("fork", [None, fork_in_c])
def test_a_child_that_is_forked_while_pictures_are_decoded_has_a_budget_of_its_own(
    fork: Callable[[], int] | None, small_budget: PixelBudget
) -> None:
    options = {"fork": fork} if fork else {}
    with small_budget.taken(2 * SIDE * SIDE), small_budget._first_in_line:
        assert in_child(lambda: read_picture(PICTURE).image.size, **options) == (SIDE, SIDE)


def test_an_error_gives_the_pixels_back(small_budget: PixelBudget) -> None:
    for _ in range(5):
        with pytest.raises(BadPicture):
            read_picture(PICTURE[: len(PICTURE) // 2])
    assert small_budget._left == 2 * SIDE * SIDE


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP"])
def test_a_lowered_limit_of_pixels_refuses_what_is_larger_with_both_numbers(format: str) -> None:
    client = Client(Settings(max_pixels=1000), backend=memory_backend(), object_store=MemoryObjectStore(), send=print)
    for given in (saved(gradient((40, 26)), format), gradient((40, 26))):
        with pytest.raises(BadPicture, match=r"40 x 26 = 0\.0 million pixels, over the limit of 0\.001 million"):
            client.edit(given, **TEXTS, **QUICK)
    client._backend.worker_registry.send_heartbeat(a_worker())
    assert client.edit(saved(gradient((40, 25)), format), **TEXTS, **QUICK).id


def test_a_worker_has_the_same_limit() -> None:
    worker = InlineWorker()
    worker.restart(max_pixels=1000)
    status = worker.edit().status()
    assert status.error and (status.error.code, status.state) == ("bad_picture", State.FAILED)
    assert "over the limit of 0.001 million" in status.error.message


def test_the_limit_of_pixels_can_only_be_lowered() -> None:
    assert Settings.from_env({"DIFFEDIT_MAX_PIXELS": "1000000"}).max_pixels == 1_000_000
    assert Settings().max_pixels == MAX_PIXELS
    for number in ("50000000", "1", "many"):
        with pytest.raises(InvalidRequest, match="DIFFEDIT_MAX_PIXELS"):
            Settings.from_env({"DIFFEDIT_MAX_PIXELS": number})


LONG = [saved(speckled((900, 900))), saved(speckled((1500, 1500)), "JPEG", quality=95)]
"""Files of several blocks."""


@pytest.mark.parametrize("data", LONG, ids=["PNG", "JPEG"])
def test_decoding_ends_between_two_blocks_when_its_time_is_over(data: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = itertools.count()
    monkeypatch.setattr(decoding.time, "thread_time", lambda: next(clock))
    monkeypatch.setattr(decoding, "MAX_SECONDS", 10**9)
    read_picture(data)
    reads = next(clock)
    assert reads > 5
    clock = itertools.count()
    monkeypatch.setattr(decoding, "MAX_SECONDS", reads - 3)
    with pytest.raises(BadPicture, match="takes more than .* s to decode"):
        read_picture(data)
    assert next(clock) <= reads


@pytest.mark.parametrize("data", LONG, ids=["PNG", "JPEG"])
def test_what_the_check_of_the_context_raises_ends_decoding_and_stays_what_it_is(data: bytes) -> None:
    calls = itertools.count(1)

    def check() -> None:
        if next(calls) == 5:
            raise KeyError("ended")

    with decoding_limits(MAX_PIXELS, check), pytest.raises(KeyError, match="ended"):
        read_picture(data)
    assert next(calls) == 6


@pytest.mark.parametrize("outcome", [State.CANCELLED, State.EXPIRED])
def test_a_worker_stops_in_the_middle_of_a_picture_when_its_job_has_ended(outcome: State) -> None:
    worker, stopped_in = InlineWorker(), []

    def end(job_id: str, step: int) -> None:
        if worker.stage_of(job_id) is not Stage.MASK or stopped_in:
            return
        stopped_in.append(step)
        if outcome is State.CANCELLED:
            worker.client.job(job_id).cancel()
        else:
            worker.job_store._state.records[job_id]["created"] = "1"

    worker.before_report(end)
    status = worker.client.edit(LONG[0], **TEXTS, **QUICK, deadline=60).status()
    assert stopped_in == [0], "before the first step of the mask"
    assert (status.state, status.stage, status.step) == (outcome, Stage.MASK, 0)


def test_padding_between_segments_and_in_scans_costs_no_more_than_its_bytes() -> None:
    """A decoder that waits for more data reads the padding from its begin each time: 32 MiB took hours."""
    data = saved(gradient((64, 64)), "JPEG")
    scan = data.index(b"\xff\xda")
    padding = b"\xff" * 2**20
    for place in (2, scan, len(data) - 2):
        padded = data[:place] + padding + data[place:]
        assert len(lean_file(padded, "picture").data) <= len(data) + 1
        assert same(read_picture(padded).image, read_picture(data).image)
    assert same(read_picture(data[:2] + padding + b"\0" + data[2:]).image, read_picture(data).image)


def test_a_profile_whose_elements_share_their_bytes_is_ignored() -> None:
    """With 100,000 elements (800 KB) lcms takes minutes, for a picture of any size."""
    profile = many_elements(100_000)
    for format in ("PNG", "JPEG", "WEBP"):
        assert read_picture(saved(gradient((64, 64)), format, icc_profile=profile)).icc_profile is None


def test_only_the_first_profile_of_a_png_is_inflated(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each chunk of 8 KB can inflate to 8 MiB, and a file has room for thousands."""
    calls: list[int] = []
    inflater = zlib.decompressobj
    monkeypatch.setattr(picture_files.zlib, "decompressobj", lambda: calls.append(1) or inflater())
    bomb = png_chunk(b"iCCP", b"name\0\0" + zlib.compress(bytes(2**23 + 1)))
    data = saved(gradient((64, 64)))
    assert read_picture(data[:33] + bomb * 50 + data[33:]).icc_profile is None
    assert calls == [1]


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP"])
def test_exif_of_many_damaged_tags_gives_no_warnings_and_keeps_its_orientation(format: str) -> None:
    tags = b"".join(struct.pack("<HHII", tag, 7, 2**30, 9) for tag in range(0x200, 0x1300))
    exif = b"II*\0\x08\0\0\0" + struct.pack("<H", 0x1101) + struct.pack("<HHIHH", 0x112, 3, 1, 6, 0) + tags
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_picture(saved(gradient((40, 20)), format, exif=b"Exif\0\0" + exif)).image.size == (20, 40)


JPEG = saved(gradient((64, 64)), "JPEG")


def second_frame() -> bytes:
    begin = JPEG.index(b"\xff\xc0")
    return JPEG[:begin] + JPEG[begin : begin + 19] + JPEG[begin:]


def second_header() -> bytes:
    data = saved(gradient((64, 64)))
    return data[:33] + png_chunk(b"IHDR", struct.pack(">IIBBBBB", 9000, 9000, 8, 2, 0, 0, 0)) + data[33:]


def no_palette() -> bytes:
    data = saved(gradient((64, 64)).quantize(4))
    return data[: data.index(b"PLTE") - 4] + data[data.index(b"IDAT") - 4 :]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        pytest.param(second_frame(), "more than one frame", id="two frames"),
        pytest.param(JPEG.replace(b"\xff\xc0", b"\xff\xc9"), "a rare kind", id="arithmetic"),
        pytest.param(second_header(), "two sizes", id="two headers"),
        pytest.param(no_palette(), "cannot be decoded", id="a palette that is missing"),
        pytest.param(b"\xff\xd8\xff\xfe\0\2\xff\xd9", "no frame", id="no frame"),
        pytest.param(b"RIFF\0\0\0\0WEBPVP8L", "header is incomplete", id="end"),
    ],
)  # fmt: skip
def test_what_a_header_says_twice_or_not_at_all_is_refused(data: bytes, reason: str) -> None:
    with pytest.raises(BadPicture, match=reason):
        read_picture(data)


@pytest.mark.parametrize("options", [{"lossless": True}, {"quality": 80}, {"exif": b"Exif\0\0II*\0\x08\0\0\0\0\0"}])
@pytest.mark.parametrize("size", [(8, 9), (300, 200), (2000, 1000)])
def test_the_size_of_a_webp_is_seen_before_it_is_opened(options: dict[str, object], size: tuple[int, int]) -> None:
    for mode in ("RGB", "RGBA"):
        data = saved(gradient(size).convert(mode), "WEBP", **options)
        assert read_picture(data).image.size == size
        with decoding_limits(size[0] * size[1] - 1), pytest.raises(BadPicture, match="over the limit"):
            read_picture(data)


def test_a_pil_image_is_not_decoded_before_its_size_is_checked() -> None:
    client = Client(Settings(max_pixels=100), backend=memory_backend(), object_store=MemoryObjectStore(), send=print)
    image = Image.open(BytesIO(encode_png(gradient((64, 64)), icc_profile=SRGB)))
    with pytest.raises(BadPicture, match="over the limit"):
        client.edit(image, **TEXTS, **QUICK)
    assert image.tile, "it was decoded"
