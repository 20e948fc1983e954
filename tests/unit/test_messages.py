"""The message that we put into a queue, against the one that Celery makes of the same chain."""

import json
from base64 import b64decode
from typing import Any

import pytest
from celery import chain
from kombu.transport import memory

from diffedit import Settings, Stage
from diffedit.contract.job import Job
from diffedit.jobs.dispatch import celery_app
from diffedit.jobs.messages import message_of, queue_message, task_name
from tests.support.factories import a_job, done

PER_MESSAGE = {"id", "root_id", "task_id", "correlation_id", "delivery_tag", "origin", "reply_to"}
"""What differs between two messages of Celery's, and who is to get a result: there are no results."""

JOBS = {
    "all stages": a_job(),
    "some stages": done(a_job(lane="batch"), Stage.EMBED),
    "the last stage": done(a_job(), Stage.EMBED, Stage.MASK, Stage.INVERT),
}


def sent_by_celery(job: Job, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Return the queue's name and the message that Celery would put into Redis."""
    sent: list[tuple[str, dict[str, Any]]] = []
    monkeypatch.setattr(memory.Channel, "_put", lambda channel, queue, message, **_: sent.append((queue, message)))
    app = celery_app(Settings())
    app.conf.update(broker_transport="memory", broker_url="memory://")
    tasks = [
        app.signature(task_name(stage), queue=job.queue_of(stage), headers={"job_id": job.id})
        for stage in job.stages_left
    ]
    tasks[0].args = (message_of(job),)
    chain(*tasks, app=app).apply_async()
    ((queue, message),) = sent
    assert queue == job.queue
    return read(json.dumps(message))


def read(text: str) -> dict[str, Any]:
    message: dict[str, Any] = json.loads(text)
    return {**message, "body": json.loads(b64decode(message["body"]))}


def comparable(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: comparable(each) for name, each in value.items() if name not in PER_MESSAGE}
    return [comparable(each) for each in value] if isinstance(value, list) else value


@pytest.mark.parametrize("job", JOBS.values(), ids=JOBS)
def test_it_is_what_celery_makes_of_the_same_chain(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    assert comparable(read(queue_message(job))) == comparable(sent_by_celery(job, monkeypatch))


def test_each_task_has_an_id_of_its_own() -> None:
    first, second = (read(queue_message(JOBS["all stages"])) for _ in range(2))
    ids = [each["options"]["task_id"] for message in (first, second) for each in message["body"][2]["chain"]]
    ids += [message["headers"]["id"] for message in (first, second)]
    ids += [message["properties"]["delivery_tag"] for message in (first, second)]
    assert len(set(ids)) == len(ids) == 10


def test_it_names_the_job_where_the_search_for_lost_jobs_looks() -> None:
    job = a_job()
    assert read(queue_message(job))["headers"]["job_id"] == job.id
