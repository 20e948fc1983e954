"""The client refuses bad pictures, bad arguments and bad calls, and stores, records and sends nothing for them.

tests/acceptance/test_refusals.py checks a few refusals over Redis and S3.
"""

import pickle
import zipfile
from collections.abc import Callable, Iterator
from datetime import timedelta
from io import BytesIO

import pytest
from PIL import Image

from diffedit import BadPicture, Client, InvalidRequest, JobNotFound, Settings
from diffedit.contract.job import Job
from diffedit.testing import MemoryObjectStore, memory_backend
from tests.support.factories import PICTURE, SAMPLES, TEXTS, a_worker
from tests.support.images import animation, plain, png_claiming, saved

BYTES = PICTURE.read_bytes()


def zipped() -> bytes:
    buffer = BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("picture.png", BYTES)
    return buffer.getvalue()


NO_FORMAT, DAMAGED = "not a PNG, JPEG or WebP", "cannot be decoded"

# fmt: off
PICTURES = {
    # what                    the picture                                       words of the error
    "nothing":               (b"",                                              "is empty"),
    "GIF":                   (saved(plain(), "GIF"),                            NO_FORMAT),
    "BMP":                   (saved(plain(), "BMP"),                            NO_FORMAT),
    "TIFF":                  (saved(plain(), "TIFF"),                           NO_FORMAT),
    "PDF":                   (saved(plain(), "PDF"),                            NO_FORMAT),
    "SVG":                   (b"<svg xmlns='http://www.w3.org/2000/svg'/>",     NO_FORMAT),
    "HTML":                  (b"<!doctype html><h1>404</h1>",                   NO_FORMAT),
    "a text":                (b"a bowl of pears",                               NO_FORMAT),
    "a zip":                 (zipped(),                                         NO_FORMAT),
    "a pickle":              (pickle.dumps({"a": 1}),                           NO_FORMAT),
    "PNG, signature alone":  (BYTES[:8],                                        DAMAGED),
    "PNG, cut":              (BYTES[: len(BYTES) // 2],                         DAMAGED),
    "PNG, a wrong checksum": (BYTES[:60] + bytes([BYTES[60] ^ 1]) + BYTES[61:], DAMAGED),
    "JPEG, cut":             (saved(plain(256, 256), "JPEG")[:700],             DAMAGED),
    "WebP, cut":             (saved(plain(256, 256), "WEBP")[:40],              DAMAGED),
    "a bomb":                (png_claiming(50_000, 50_000),                     "over the limit of 40 million"),
    "33 MiB":                (b"\x89PNG\r\n\x1a\n" + bytes(33 * 2**20),         "more than 32 MiB"),
    "endless":               ("/dev/zero",                                      "more than 32 MiB"),
    "one pixel":             (saved(plain(1, 1)),                               "at least 8"),
    "a thread":              (saved(plain(400, 10)),                            "over 8 times the other"),
    "animated PNG":          (animation("PNG"),                                  "animation of 2 frames"),
    "animated WebP":         (animation("WEBP"),                                 "animation of 2 frames"),
    "PIL, not for PNG":      (Image.new("F", (32, 32)),                         "convert it to RGB"),
    "no such file":          ("no/such/picture.png",                            "No such file"),
    "a directory":           (SAMPLES,                                          "Is a directory"),
    "a NUL in the path":     ("picture\0.png",                                  "cannot read"),
    "half a surrogate":      ("picture\ud800.png",                              "cannot read"),
    "a URL":                 ("https://example.org/picture.png",                "nothing is fetched here"),
    "no path":               ("",                                               "No such file"),
    "None":                  (None,                                             "a NoneType is no picture"),
    "a file descriptor":     (0,                                                "a int is no picture"),
    "a list":                ([PICTURE],                                        "a list is no picture"),
}

SMALL, WHITE, BLACK, CLEAR = (saved(Image.new(mode, size, colour)) for mode, size, colour in (
    ("L", (32, 32), 255), ("L", (64, 64), 255), ("L", (64, 64), 0), ("LA", (64, 64), (255, 0))))
PEARS = "\N{PEAR}" * 300

ASKED = {
    # what                    arguments besides two good prompts               words of the error
    "mask of another size":  ({"mask": SMALL},                                  "the mask is 32 x 32 pixels"),
    "mask of nothing":       ({"mask": BLACK},                                  "selects nothing"),
    "mask of clear white":   ({"mask": CLEAR},                                  "selects nothing"),
    "mask that is none":     ({"mask": b"GIF89a"},                              NO_FORMAT),
    "mask, missing":         ({"mask": "no/such/mask.png"},                     "No such file"),
    "no steps":              ({"num_inference_steps": 0},                       "num_inference_steps"),
    "half a step":           ({"num_inference_steps": 1.5},                     "num_inference_steps"),
    "too many steps":        ({"num_inference_steps": 501},                     "num_inference_steps"),
    "steps beyond reason":   ({"num_inference_steps": 10**5000},                "num_inference_steps"),
    "steps as a text":       ({"num_inference_steps": "50"},                    "num_inference_steps"),
    "steps as a bool":       ({"num_inference_steps": True},                    "num_inference_steps"),
    "steps: None":           ({"num_inference_steps": None},                    "num_inference_steps"),
    "strength 0":            ({"strength": 0},                                  "strength"),
    "strength over 1":       ({"strength": 1.01},                               "strength"),
    "strength NaN":          ({"strength": float("nan")},                       "strength"),
    "strength inf":          ({"strength": float("inf")},                       "strength"),
    "strength a bool":       ({"strength": True},                               "strength"),
    "less than one step":    ({"strength": 0.01, "num_inference_steps": 20},    "below one step"),
    "guidance under 1":      ({"guidance_scale": 0.5},                          "guidance_scale"),
    "guidance -inf":         ({"guidance_scale": float("-inf")},                "guidance_scale"),
    "a word for a ratio":    ({"mask_thresholding_ratio": "auto"},              "mask_thresholding_ratio"),
    "a number for a bool":   ({"mask_cleanup": 1},                              "mask_cleanup"),
    "seed -1":               ({"seed": -1},                                     "seed"),
    "seed 2**32":            ({"seed": 2**32},                                  "seed"),
    "seed 2**400":           ({"seed": 2**400},                                 "seed"),
    "seed of a bool":        ({"seed": False},                                  "seed"),
    "another scheduler":     ({"scheduler": "euler"},                           "scheduler"),
    "an unknown name":       ({"num_steps": 5},                                 "num_steps"),
    "a name of ours":        ({"goal": "mask"},                                 "goal"),
    "a key of S3":           ({"image_key": "inputs/x"},                        "image_key"),
    "profile, a path":        ({"profile": "../../etc/passwd"},                "profile"),
    "profile, empty":         ({"profile": ""},                                "profile"),
    "profile, a queue":       ({"profile": "tiny.language"},                   "profile"),
    "profile, a newline":     ({"profile": "tiny\n"},                          "profile"),
    "profile, a list":        ({"profile": ["tiny"]},                          "profile"),
    "text, empty":           ({"source_prompt": ""},                            "source_prompt: .*empty"),
    "text, blank":           ({"target_prompt": " \t\n"},                       "target_prompt: .*empty"),
    "text, a number":        ({"target_prompt": 7},                             "target_prompt"),
    "text, too long":        ({"target_prompt": "pear " * 201},                 "1000"),
    "texts, too long":       ({"source_prompt": PEARS, "caption": PEARS},        "too long together"),
    "text, an escape":       ({"source_prompt": "a \x1b[2Jbowl"},               "control characters"),
    "text, a NUL":           ({"target_prompt": "a\0pear"},                     "control characters"),
    "text, C1 control":      ({"caption": "a\x9bpear"},                         "control characters"),
    "text, half surrogate":  ({"target_prompt": "a \ud83c pear"},               "target_prompt"),
    "nothing changes":       ({"source_prompt": "A  Bowl", "target_prompt": "a bowl"}, "nothing to change"),
    "prompts and concepts":  ({"source_concept": "a", "target_concept": "b"},   "not both"),
    "no target":             ({"target_prompt": None},                          "nothing says what to change"),
    "key, empty":            ({"idempotency_key": ""},                          "idempotency_key"),
    "key, too long":         ({"idempotency_key": "k" * 201},                   "idempotency_key"),
    "key, a number":         ({"idempotency_key": 7},                           "idempotency_key"),
    "key, a list":           ({"idempotency_key": ["k"]},                       "idempotency_key"),
    "key, a newline":        ({"idempotency_key": "k\nk"},                      "idempotency_key"),
    "key, half surrogate":   ({"idempotency_key": "\ud800"},                    "idempotency_key"),
}

CALLS: dict[str, tuple[Callable[[Client], object], type[Exception], str]] = {
    "half a pair of concepts": (lambda c: c.edit(PICTURE, source_concept="bowl"),           InvalidRequest, "in pairs"),
    "nothing asked":           (lambda c: c.edit(PICTURE),                                  InvalidRequest, "nothing"),
    "a caption alone":         (lambda c: c.edit(PICTURE, caption="a bowl"),                InvalidRequest, "nothing"),
    "a mask for a mask":       (lambda c: c.preview_mask(PICTURE, **TEXTS, mask=WHITE),      InvalidRequest, "given"),
    "one bad of several":      (lambda c: c.edit_many(PICTURE, ["a bowl", " "]),            InvalidRequest, "empty"),
    "a text for a list":       (lambda c: c.edit_many(PICTURE, "a bowl"),                   InvalidRequest, "list"),
    "one key for several":     (lambda c: c.edit_many(PICTURE, ["a"], idempotency_key="k"), InvalidRequest, "its own"),
    "no such state":           (lambda c: c.jobs(state="lost"),                             InvalidRequest, "lost"),
    "id, unknown":             (lambda c: c.job("0" * 32).status(),                         JobNotFound, "0" * 32),
    "id, empty":               (lambda c: c.job(""),                                        JobNotFound, "not found"),
    "id, a path":              (lambda c: c.job("../../etc/passwd"),                        JobNotFound, "not found"),
    "id, a pattern":           (lambda c: c.job("*"),                                       JobNotFound, "not found"),
    "id, in capitals":         (lambda c: c.job("A" * 32),                                  JobNotFound, "not found"),
    "id, a newline more":      (lambda c: c.job("a" * 32 + "\n"),                           JobNotFound, "not found"),
    "id, half a surrogate":    (lambda c: c.job("\ud800" * 32),                             JobNotFound, "not found"),
    "id, a number":            (lambda c: c.job(7),                                         JobNotFound, "not found"),
}
# fmt: on


@pytest.fixture
def client() -> Iterator[Client]:
    """A client over the memory doubles. The test fails if it leaves an object, a job or a message behind."""
    settings, object_store = Settings(), MemoryObjectStore()
    backend = memory_backend(settings)
    sent: list[Job] = []
    backend.worker_registry.send_heartbeat(a_worker())
    client = Client(settings, backend=backend, object_store=object_store, send=sent.append)
    yield client
    assert object_store.older_than(timedelta(days=-1)) == []  # of any age
    assert client.jobs() == []
    assert sent == []


@pytest.mark.parametrize("row", PICTURES)
def test_a_bad_picture_is_refused(client: Client, row: str) -> None:
    picture, words = PICTURES[row]
    for call in (client.edit, client.preview_mask):
        with pytest.raises(BadPicture, match=words):
            call(picture, **TEXTS)


@pytest.mark.parametrize("row", ASKED)
def test_a_bad_argument_is_refused(client: Client, row: str) -> None:
    asked, words = ASKED[row]
    with pytest.raises(InvalidRequest, match=words) as caught:
        client.edit(PICTURE, **{**TEXTS, **asked})
    # The error names what is wrong and does not repeat it: it may be long, private, or an attack on a terminal.
    assert all(char.isprintable() for char in str(caught.value))
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("row", CALLS)
def test_a_bad_call_is_refused(client: Client, row: str) -> None:
    call, kind, words = CALLS[row]
    with pytest.raises(kind, match=words):
        call(client)
