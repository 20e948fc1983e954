"""Messages of a foreign producer: the worker survives each of them, and none of them changes a job."""

import json
import pickle
import zlib
from typing import Any

import pytest

from diffedit import Client
from diffedit.contract.object_keys import artifact_key
from diffedit.jobs.messages import message_of
from diffedit_worker.local.stack import LocalServices
from tests.support.factories import PICTURE, a_request
from tests.support.foreign_producer import EMBED, LANGUAGE, ForeignProducer, envelope
from tests.support.waiting import until

pytestmark = pytest.mark.usefixtures("no_unfinished_jobs")


def with_headers(**headers: Any) -> str:
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
    "an unknown task":       with_headers(task="os.system"),
    "a task of no name":     with_headers(task=["x"]),
    "Celery's own task":     envelope([[[], []], {}, {}], headers={"task": "celery.chord", "id": "a"}),
    "an id of no text":      with_headers(id=[1]),
    "no gzip":               with_headers(compression="gzip"),
    "a compressed task":     envelope(zlib.compress(b"[[], {}, {}]"),
                                      headers={"task": EMBED, "id": "a", "compression": "application/x-gzip"}),
    "times of no use":       with_headers(eta="soon", expires="never"),
    "a limit of no use":     with_headers(timelimit="x"),
    "arguments, a text":     envelope(["abc", {}, {}]),
    "arguments, an object":  envelope([{"a": 1}, {}, {}]),
    "keywords, a list":      envelope([[7], [1], {}]),
    "what follows, a list":  envelope([[7], {}, [1]]),
    "what follows, null":    envelope([[7], {}, None]),
    "a chain of numbers":    envelope([[7], {}, {"chain": [7]}]),
    "callbacks of numbers":  envelope([[7], {}, {"callbacks": [7], "errbacks": [7]}]),
    "protocol 1":            envelope({"task": EMBED, "id": "p1", "args": [7], "kwargs": {}}, headers={}),
    "protocol 1, damaged":   envelope({"task": EMBED, "id": "p1", "args": 7, "kwargs": 7}, headers={}),
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
    # what                    task, and the message's fields besides the id of a waiting job
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


@pytest.fixture
def producer(stack: LocalServices) -> ForeignProducer:
    return ForeignProducer(stack)


@pytest.mark.parametrize("row", RAW)
def test_a_worker_survives_what_is_not_a_message(producer: ForeignProducer, row: str) -> None:
    producer.redis.lpush(LANGUAGE, RAW[row])
    producer.wait_until_taken()


@pytest.mark.parametrize("row", RAW)
def test_a_worker_survives_what_is_not_a_remote_control_command(producer: ForeignProducer, row: str) -> None:
    # After some of them Celery subscribes again, which takes a moment.
    until(lambda: producer.redis.publish("/0.celery.pidbox", RAW[row]), "a worker that is subscribed")
    assert producer.worker.poll() is None


@pytest.mark.parametrize("row", TASKS)
def test_a_worker_survives_a_task_without_a_job(producer: ForeignProducer, row: str) -> None:
    task, args, kwargs = TASKS[row]
    producer.app.send_task(task, args=args, kwargs=kwargs, queue=LANGUAGE)
    producer.wait_until_taken()


def test_the_worker_edits_after_all_these_messages(producer: ForeignProducer, client: Client) -> None:
    producer.assert_worker_works(client)


def test_no_message_changes_a_job_or_fails_it(producer: ForeignProducer, client: Client) -> None:
    picture = PICTURE.read_bytes()
    # No worker leads meanwhile: the leader sends jobs again that wait without a message.
    producer.redis.set("diffedit:leader", "nobody", ex=100)
    honest = producer.record(picture)
    # One job for each row, so that no message can hide the effect of another.
    jobs = {row: producer.record(picture) for row in FORGED}
    for row, (task, said) in FORGED.items():
        producer.app.send_task(task, args=({**said, **message_of(jobs[row])},), queue=LANGUAGE)
    producer.assert_worker_works(client)
    # Whoever sent the message for the stage that a job waits for, its worker sends those for the others.
    unsent = [honest, *(jobs[row] for row, (task, _) in FORGED.items() if task != EMBED)]
    for job in unsent:
        status = producer.job_store.status(job.id)
        assert not status.is_terminal
        producer.job_store.send(status.job)
    producer.redis.delete("diffedit:leader")
    assert producer.ended(honest)["outcome"] == "succeeded"
    expected = producer.job_store.status(honest.id).artifact_keys
    for row, job in jobs.items():
        assert producer.ended(job)["outcome"] == "succeeded", row
        # Equal keys follow from equal inputs, so the job was run as its record says.
        assert producer.job_store.status(job.id).artifact_keys == expected, row
