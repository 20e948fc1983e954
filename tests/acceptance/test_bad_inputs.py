"""What is refused, and how: a table of bad requests to the client, and one of bad messages to the worker.

What a client refuses leaves no trace in Redis or S3. What a foreign producer puts into a queue changes no job, and the
worker lives on.
"""

import json
import pickle
import struct
import uuid
import zlib
from base64 import b64encode
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
import redis
from PIL import Image

from diffedit import BadPicture, Client, InvalidRequest, JobNotFound, Settings, State
from diffedit.contract.job import Job
from diffedit.contract.object_keys import artifact_key, input_key
from diffedit.jobs.backend import redis_backend
from diffedit.jobs.dispatch import celery_app, message_of, send
from diffedit.objects.s3 import S3ObjectStore
from diffedit_worker.local.stack import Stack
from tests.acceptance.conftest import PEAR, QUICK, SAMPLES, until
from tests.support.factories import a_job, a_request

PICTURE = SAMPLES / "06.png"
BYTES = PICTURE.read_bytes()

pytestmark = pytest.mark.usefixtures("cleared_desk")


def saved(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    buffer = BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def plain(width: int = 32, height: int = 32) -> Image.Image:
    return Image.new("RGB", (width, height), "green")


def animated(kind: str) -> bytes:
    return saved(plain(), kind, save_all=True, append_images=[Image.new("RGB", (32, 32), "red")])


def png_claiming(width: int, height: int) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def zipped() -> bytes:
    import zipfile

    buffer = BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("picture.png", BYTES)
    return buffer.getvalue()


NO_FORMAT, DAMAGED = "not a PNG, JPEG or WebP", "cannot be decoded"
BOMB = png_claiming(50_000, 50_000)

# fmt: off
PICTURES = {
    # what                    the picture                                       what is said of it
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
    "a bomb":                (BOMB,                                             "over the limit of 40 million"),
    "33 MiB":                (b"\x89PNG\r\n\x1a\n" + bytes(33 * 2**20),         "more than 32 MiB"),
    "endless":               ("/dev/zero",                                      "more than 32 MiB"),
    "one pixel":             (saved(plain(1, 1)),                               "at least 8"),
    "a thread":              (saved(plain(400, 10)),                            "over 8 times the other"),
    "animated PNG":          (animated("PNG"),                                  "animation of 2 frames"),
    "animated WebP":         (animated("WEBP"),                                 "animation of 2 frames"),
    "PIL, not for PNG":      (Image.new("F", (32, 32)),                         "convert it to RGB"),
    "no such file":          ("no/such/picture.png",                            "No such file"),
    "a directory":           (SAMPLES,                                          "Is a directory"),
    "a NUL in the path":     ("picture\0.png",                                  "cannot read"),
    "half a surrogate":      ("picture\ud800.png",                              "cannot read"),
    "a URL":                 ("https://example.org/picture.png",                "No such file"),
    "no path":               ("",                                               "No such file"),
    "None":                  (None,                                             "a NoneType is no picture"),
    "a file descriptor":     (0,                                                "a int is no picture"),
    "a list":                ([PICTURE],                                        "a list is no picture"),
}

SMALL, WHITE, BLACK, CLEAR = (saved(Image.new(mode, size, colour)) for mode, size, colour in (
    ("L", (32, 32), 255), ("L", (64, 64), 255), ("L", (64, 64), 0), ("LA", (64, 64), (255, 0))))
PEARS = "\N{PEAR}" * 300

ASKED = {
    # what                    what is asked besides two good prompts             what is said of it
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
    "profile, a path":         ({"profile": "../../etc/passwd"},                    "profile"),
    "profile, empty":          ({"profile": ""},                                    "profile"),
    "profile, a queue":        ({"profile": "tiny.language"},                       "profile"),
    "profile, a newline":      ({"profile": "tiny\n"},                              "profile"),
    "profile, a list":         ({"profile": ["tiny"]},                              "profile"),
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
    "a mask for a mask":       (lambda c: c.preview_mask(PICTURE, **PEAR, mask=WHITE),      InvalidRequest, "leave"),
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


@pytest.fixture(scope="module")
def server(stack: Stack) -> redis.Redis:
    return redis.Redis.from_url(stack.environment["DIFFEDIT_REDIS_URL"])


@pytest.fixture
def nothing_is_left(stack: Stack, server: redis.Redis):
    """Whatever happens inside, no job, no message and no object comes to be."""

    def traces() -> tuple[int, list[bytes], set[Path]]:
        queues = sorted(server.scan_iter("diffedit.*"))
        return server.zcard("diffedit:jobs"), queues, set((stack.directory / "s3").rglob("*.*"))

    before = traces()
    yield
    assert traces() == before


@pytest.mark.usefixtures("nothing_is_left")
class TestTheClientRefuses:
    @pytest.mark.parametrize("row", PICTURES)
    def test_a_picture(self, client: Client, row: str) -> None:
        picture, words = PICTURES[row]
        for call in (client.edit, client.preview_mask):
            with pytest.raises(BadPicture, match=words):
                call(picture, **PEAR)

    @pytest.mark.parametrize("row", ASKED)
    def test_what_is_asked(self, client: Client, row: str) -> None:
        asked, words = ASKED[row]
        with pytest.raises(InvalidRequest, match=words) as caught:
            client.edit(PICTURE, **{**PEAR, **asked})
        # What was wrong is named and not repeated: it may be long, private, or made to steer a terminal.
        assert all(char.isprintable() for char in str(caught.value))
        assert len(str(caught.value)) < 300

    @pytest.mark.parametrize("row", CALLS)
    def test_a_call(self, client: Client, row: str) -> None:
        call, kind, words = CALLS[row]
        with pytest.raises(kind, match=words):
            call(client)


LANGUAGE = "diffedit.tiny.language"
EMBED = "diffedit.embed"


def envelope(content: Any = ([7], {}, {}), headers: Any = None, properties: Any = None, **more: Any) -> str:
    """A message as Celery puts it into Redis, but for what is given."""
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    message = {
        "body": b64encode(body).decode(),
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": {"lang": "py", "task": EMBED, "id": str(uuid.uuid4())} if headers is None else headers,
        "properties": {
            "delivery_tag": str(uuid.uuid4()),
            "body_encoding": "base64",
            "delivery_info": {"exchange": "", "routing_key": LANGUAGE},
            **(properties or {}),
        },
    }
    return json.dumps({**message, **{name.replace("_", "-"): value for name, value in more.items()}})


def headed(**headers: Any) -> str:
    return envelope(headers={"task": EMBED, "id": "a", **headers})


# fmt: off
RAW = {
    "bytes":                 b"\xff\xfe\x00\x01",
    "nothing":               b"",
    "a word":                b"hello",
    "a pickle":              pickle.dumps([[7], {}, {}]),
    "null":                  b"null",
    "a list":                b"[1, 2]",
    "an object":             b"{}",
    "deeply nested":         b"[" * 100_000,
    "a huge number":         b"1" * 10_000,
    "NaN":                   b'{"properties": NaN}',
    "no properties":         json.dumps({"properties": None, "body": "x"}),
    "no delivery tag":       json.dumps({"properties": {}, "body": "x"}),
    "a tag of another type": envelope(properties={"delivery_tag": {"a": 1}}),
    "body, a number":        envelope(body=7),
    "body, no base64":       envelope(body="%%%"),
    "body, unknown coding":  envelope(properties={"body_encoding": "rot13"}),
    "body, no triple":       envelope({"a": 1}),
    "a pickled task":        envelope(pickle.dumps([[7], {}, {}]), content_type="application/x-python-serialize"),
    "YAML":                  envelope(b"a: 1", content_type="application/x-yaml"),
    "an unknown type":       envelope(content_type="foo/bar"),
    "an unknown charset":    envelope(content_encoding="klingon"),
    "headers, a list":       envelope(headers=[1]),
    "headers, a text":       envelope(headers="abc"),
    "no task":               envelope(headers={"id": "a"}),
    "no task's id":          envelope(headers={"task": EMBED}),
    "an unknown task":       headed(task="os.system"),
    "a task of no name":     headed(task=["x"]),
    "Celery's own task":     envelope([[[], []], {}, {}], headers={"task": "celery.chord", "id": "a"}),
    "an id of no text":      headed(id=[1]),
    "no gzip":               headed(compression="gzip"),
    "times of no use":       headed(eta="soon", expires="never"),
    "a limit of no use":     headed(timelimit="x"),
    "arguments, a text":     envelope(["abc", {}, {}]),
    "arguments, an object":  envelope([{"a": 1}, {}, {}]),
    "keywords, a list":      envelope([[7], [1], {}]),
    "what follows, a list":  envelope([[7], {}, [1]]),
    "what follows, null":    envelope([[7], {}, None]),
    "a chain of numbers":    envelope([[7], {}, {"chain": [7]}]),
    "callbacks of numbers":  envelope([[7], {}, {"callbacks": [7], "errbacks": [7]}]),
    "protocol 1":            envelope({"task": EMBED, "id": "p1", "args": [7], "kwargs": {}}, headers={}),
    "protocol 1, spoilt":    envelope({"task": EMBED, "id": "p1", "args": 7, "kwargs": 7}, headers={}),
}
VICTIM = "f" * 32
TASKS = {
    # what                    task, args, kwargs
    "no arguments":          (EMBED, (), {}),
    "too many arguments":    (EMBED, ({"id": VICTIM}, 7, 8), {}),
    "keywords":              (EMBED, (), {"job": {"id": VICTIM}}),
    "another stage's":       (EMBED, ({"id": VICTIM}, "edit"), {}),
    "not a job":             (EMBED, (7,), {}),
    "null":                  (EMBED, (None,), {}),
    "a text":                (EMBED, ("x" * 2_000_000,), {}),
    "no id":                 (EMBED, ({},), {}),
    "an id of a number":     (EMBED, ({"id": 7},), {}),
    "an id like a path":     (EMBED, ({"id": "../../etc/passwd"},), {}),
    "an id and a newline":   (EMBED, ({"id": VICTIM + "\n"},), {}),
    "an unknown job":        (EMBED, ({"id": "e" * 32},), {}),
    "an unknown task":       ("diffedit.paint", ({"id": VICTIM},), {}),
}
FORGED = {
    # What a message says of a waiting job besides its id, and for which stage.
    "another request":       (EMBED, {"request": a_request(target_prompt="forged").model_dump(mode="json")}),
    "a request of NaN":      (EMBED, {"request": {"params": {"strength": float("nan")}}}),
    "foreign keys":          (EMBED, {"artifact_keys": {"mask": "../../etc/passwd", "image": "/etc/shadow"}}),
    "keys of another kind":  (EMBED, {"artifact_keys": {"mask": artifact_key("trajectory", "ab" * 32, "safetensors")}}),
    "another version":       (EMBED, {"version": 9}),
    "more fields":           (EMBED, {"owner": "root", "texts": "x" * 100_000}),
    "a stage out of turn":   ("diffedit.edit", {}),
    "a stage not planned":   ("diffedit.caption", {}),
    "a stage not planned 2": ("diffedit.prompts", {"artifact_keys": {}}),
}
# fmt: on


class Bench:
    """Puts things into the queue of a live worker, and jobs on the board, as a foreign producer would."""

    def __init__(self, stack: Stack, server: redis.Redis) -> None:
        settings = Settings.from_env(stack.environment)
        self.app, self.job_store, self.object_store = (
            celery_app(settings),
            redis_backend(settings).job_store,
            S3ObjectStore(settings),
        )
        self.server, self.worker = server, stack.processes["worker"]

    def record(self, picture: bytes, extension: str = "png", mask: bytes | None = None) -> Job:
        """A job that no client has checked, waiting for its first stage without a message."""
        keys = {"image": input_key(picture, extension)}
        if mask is not None:
            keys["mask"] = input_key(mask, "png")
            self.object_store.put(keys["mask"], mask)
        job = a_job(a_request(params={**QUICK, "seed": 5}, **keys))
        self.object_store.put(job.request.image, picture)
        self.job_store.create_job(job)
        return job

    def until_taken(self) -> None:
        """Wait until the worker has taken all that is in its queue."""
        until(lambda: self.worker.poll() is not None or not self.server.llen(LANGUAGE), "an empty queue", timeout=20)
        assert self.worker.poll() is None

    def ended(self, job: Job) -> dict[str, str]:
        """The record of a job, once that has its outcome. Not by way of the board, which may not be able to read it."""
        until(lambda: self.server.hexists(f"diffedit:job:{job.id}", "outcome"), f"the end of job {job.id}", timeout=30)
        fields = self.server.hgetall(f"diffedit:job:{job.id}")
        return {name.decode(): value.decode() for name, value in fields.items()}

    def assert_unharmed(self, client: Client) -> None:
        """The same process finishes a good edit, and nothing waits or is left unacknowledged."""
        assert client.edit(PICTURE, **PEAR, **QUICK).wait(timeout=60).state is State.SUCCEEDED
        assert self.worker.poll() is None
        assert [self.server.llen(name) for name in (LANGUAGE, "diffedit.tiny.diffusion")] == [0, 0]
        until(lambda: not self.server.hlen("unacked"), "no message unacknowledged", timeout=5)


@pytest.fixture
def bench(stack: Stack, server: redis.Redis) -> Bench:
    return Bench(stack, server)


class TestTheWorkerLivesOnAfter:
    @pytest.mark.parametrize("row", RAW)
    def test_what_is_no_message(self, bench: Bench, row: str) -> None:
        bench.server.lpush(LANGUAGE, RAW[row])
        bench.until_taken()

    @pytest.mark.parametrize("row", RAW)
    def test_what_is_no_command(self, bench: Bench, row: str) -> None:
        # Celery subscribes anew after some of them.
        until(lambda: bench.server.publish("/0.celery.pidbox", RAW[row]), "a worker that listens")
        assert bench.worker.poll() is None

    @pytest.mark.parametrize("row", TASKS)
    def test_a_task_that_names_no_job(self, bench: Bench, row: str) -> None:
        task, args, kwargs = TASKS[row]
        bench.app.send_task(task, args=args, kwargs=kwargs, queue=LANGUAGE)
        bench.until_taken()

    def test_and_edits(self, bench: Bench, client: Client) -> None:
        bench.assert_unharmed(client)


def test_no_message_changes_a_job_or_fails_it(bench: Bench, client: Client) -> None:
    honest = bench.record(BYTES)
    # One job for each row: what one message leaves undone, the next could hide.
    jobs = {row: bench.record(BYTES) for row in FORGED}
    for row, (task, said) in FORGED.items():
        bench.app.send_task(task, args=({**said, **message_of(jobs[row])},), queue=LANGUAGE)
    bench.assert_unharmed(client)
    for job in (honest, *jobs.values()):
        status = bench.job_store.status(job.id)
        assert not status.is_terminal
        send(bench.app, status.job)
    assert bench.ended(honest)["outcome"] == "succeeded"
    for row, job in jobs.items():
        assert bench.ended(job)["outcome"] == "succeeded", row
        # Of the same recipe, so made from what the record says.
        assert bench.job_store.status(job.id).artifact_keys == bench.job_store.status(honest.id).artifact_keys, row


def exchange(bench: Bench, job: Job) -> None:
    bench.object_store.put(job.request.image, saved(plain(64, 64)))


def lose(bench: Bench, job: Job) -> None:
    bench.object_store.delete(job.request.image)


def rewrite(field: str, value: str) -> Callable[[Bench, Job], None]:
    def change(bench: Bench, job: Job) -> None:
        bench.server.hset(f"diffedit:job:{job.id}", field, value)

    return change


def newer(bench: Bench, job: Job) -> None:
    asked = json.loads(job.request.model_dump_json())
    rewrite("request", json.dumps({**asked, "negative_mask": 1}))(bench, job)


ELSEWHERE = artifact_key("trajectory", "ab" * 32, "safetensors")
CUT = saved(plain(256, 256), "JPEG")[:700]

# fmt: off
RECORDS: dict[str, tuple[str, str, dict[str, Any], Callable[[Bench, Job], None] | None]] = {
    # what                    code            what is said        what is uploaded, and what happens then
    "a lost picture":        ("bad_artifact", "nothing is stored", {"picture": BYTES + b"lost"}, lose),
    "an exchanged picture":  ("bad_artifact", "not the one that", {"picture": BYTES + b"other"}, exchange),
    "33 MiB":                ("bad_artifact", "over the limit of", {"picture": bytes(33 * 2**20)}, None),
    "a text":                ("bad_picture",  NO_FORMAT,          {"picture": b"a bowl of pears"}, None),
    "a bomb":                ("bad_picture",  "over the limit",   {"picture": BOMB}, None),
    "a JPEG, cut":           ("bad_picture",  DAMAGED,            {"picture": CUT, "extension": "jpg"}, None),
    "a mask of other size":  ("bad_picture",  "same size",        {"picture": BYTES, "mask": SMALL}, None),
    "a mask of nothing":     ("bad_picture",  "selects nothing",  {"picture": BYTES, "mask": BLACK}, None),
    "a newer client's":      ("bad_record",   "negative_mask",    {"picture": BYTES}, newer),
    "no JSON":               ("bad_record",   "one version",      {"picture": BYTES}, rewrite("request", "{")),
    "a foreign key": ("bad_record",   "is not under", {"picture": BYTES}, rewrite("artifact:mask", "../passwd")),
    "a key of another kind": ("bad_record",   "is not under", {"picture": BYTES}, rewrite("artifact:mask", ELSEWHERE)),
    "no number":             ("bad_record",   "ValueError",       {"picture": BYTES}, rewrite("attempts:mask", "many")),
}
# fmt: on


def test_a_record_that_no_client_has_checked_fails_its_job_with_the_reason(bench: Bench, client: Client) -> None:
    jobs = {}
    for row, (_, _, uploaded, then) in RECORDS.items():
        jobs[row] = bench.record(**uploaded)
        if then:
            then(bench, jobs[row])
        send(bench.app, jobs[row])
    for row, (code, words, _, _) in RECORDS.items():
        record = bench.ended(jobs[row])
        assert record["outcome"] == "failed", (row, record)
        error = json.loads(record["error"])
        assert error["code"] == code, (row, error)
        assert words in error["message"], (row, error)
    # Whoever lists the jobs would stumble over those that cannot be read.
    bench.server.zrem("diffedit:jobs", *(job.id for job in jobs.values()))
    bench.assert_unharmed(client)
