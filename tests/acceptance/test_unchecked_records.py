"""Job records that no client has checked: the worker checks them again, and fails the job with the reason."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from PIL import Image

from diffedit import Client
from diffedit.contract.job import Job
from diffedit.contract.object_keys import artifact_key
from diffedit_worker.local.stack import LocalServices
from tests.support.factories import PICTURE
from tests.support.foreign_producer import ForeignProducer
from tests.support.images import plain, png_claiming, saved

pytestmark = pytest.mark.usefixtures("no_unfinished_jobs")


def exchange(producer: ForeignProducer, job: Job) -> None:
    producer.object_store.put(job.request.image, saved(plain(64, 64)))


def lose(producer: ForeignProducer, job: Job) -> None:
    producer.object_store.delete(job.request.image)


def rewrite(field: str, value: str) -> Callable[[ForeignProducer, Job], None]:
    def change(producer: ForeignProducer, job: Job) -> None:
        producer.redis.hset(f"diffedit:job:{job.id}", field, value)

    return change


OTHER_KIND = artifact_key("trajectory", "ab" * 32, "safetensors")
BYTES = PICTURE.read_bytes()
NO_FORMAT, DAMAGED = "not a PNG, JPEG or WebP", "cannot be decoded"
BOMB = png_claiming(50_000, 50_000)
SMALL, BLACK = saved(Image.new("L", (32, 32), 255)), saved(Image.new("L", (64, 64), 0))
CUT = saved(plain(256, 256), "JPEG")[:700]

# fmt: off
RECORDS: dict[str, tuple[str, str, dict[str, Any], Callable[[ForeignProducer, Job], None] | None]] = {
    # what                    code            words of the error  what is uploaded, and what happens to it then
    "a lost picture":        ("artifact_missing", "nothing is stored", {"picture": BYTES + b"lost"}, lose),
    "an exchanged picture":  ("bad_artifact", "not the one that", {"picture": BYTES + b"other"}, exchange),
    "33 MiB":                ("bad_artifact", "over the limit of", {"picture": bytes(33 * 2**20)}, None),
    "a text":                ("bad_picture",  NO_FORMAT,          {"picture": b"a bowl of pears"}, None),
    "a bomb":                ("bad_picture",  "over the limit",   {"picture": BOMB}, None),
    "a JPEG, cut":           ("bad_picture",  DAMAGED,            {"picture": CUT, "extension": "jpg"}, None),
    "a mask of other size":  ("bad_picture",  "the mask is",     {"picture": BYTES, "mask": SMALL}, None),
    "a mask of nothing":     ("bad_picture",  "selects nothing",  {"picture": BYTES, "mask": BLACK}, None),
    "no JSON":               ("bad_record",   "cannot be read",    {"picture": BYTES}, rewrite("request", "{")),
    "a foreign key": ("bad_record",   "is not under", {"picture": BYTES}, rewrite("artifact:mask", "../passwd")),
    "a key of another kind": ("bad_record",   "is not under", {"picture": BYTES}, rewrite("artifact:mask", OTHER_KIND)),
    "no number":             ("bad_record",   "ValueError",       {"picture": BYTES}, rewrite("attempts:mask", "many")),
}
# fmt: on


def test_an_unchecked_record_fails_its_job_with_the_reason(stack: LocalServices, client: Client) -> None:
    producer = ForeignProducer(stack)
    jobs = {}
    for row, (_, _, uploaded, then) in RECORDS.items():
        jobs[row] = producer.record(**uploaded)
        if then:
            then(producer, jobs[row])
        producer.job_store.send(jobs[row])
    for row, (code, words, _, _) in RECORDS.items():
        record = producer.ended(jobs[row])
        assert record["outcome"] == "failed", (row, record)
        error = json.loads(record["error"])
        assert error["code"] == code, (row, error)
        assert words in error["message"], (row, error)
    # The next tests list the jobs, and some of these records cannot be read.
    producer.redis.zrem("diffedit:jobs", *(job.id for job in jobs.values()))
    producer.assert_worker_works(client)
