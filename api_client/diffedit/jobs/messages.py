"""The message of a job in a Celery queue: what tells a worker that there is something to do.

It is a Celery chain of one task for each stage left. Its only argument is the job's id and contract; everything else is
in the job's record. A worker takes the first stage. When the stage is done, it puts a new message into the next queue
in the step that records the stage (`JobStore.complete_stage`), and drops the rest of the chain. A worker of 0.2.0 lets
Celery send the rest.

The message is built here and not by Celery, because it goes into the queue in the same script that changes the record:
no connection of Celery's, no round trip of its own, and no moment in which the record says that a job waits and no
message does. The form is version 2 of Celery's message protocol [1] in the envelope of kombu's virtual transports. A
test compares it with what Celery makes of the same chain.

[1] https://docs.celeryq.dev/en/stable/internals/protocol.html
"""

import json
from base64 import b64encode
from typing import Any
from uuid import uuid4

from diffedit.contract.job import Job
from diffedit.contract.stages import Stage


def task_name(stage: Stage) -> str:
    return f"diffedit.{stage.value}"


def message_of(job: Job) -> dict[str, Any]:
    """Return the argument of a task."""
    return {"id": job.id, "contract": job.contract}


def queue_message(job: Job) -> str:
    """Return what goes into the queue of the first stage left, `job.queue`, as JSON."""
    first, *later = job.stages_left
    # Celery takes the next task from the end.
    chain = [_signature(job, stage) for stage in reversed(later)]
    argument, task_id = message_of(job), str(uuid4())
    body = [[argument], {}, {"callbacks": None, "errbacks": None, "chain": chain, "chord": None}]
    headers: dict[str, Any] = {
        "lang": "py",
        "task": task_name(first),
        "id": task_id,
        "shadow": None,
        "eta": None,
        "expires": None,
        "group": None,
        "group_index": None,
        "retries": 0,
        "timelimit": [None, None],
        "root_id": task_id,
        "parent_id": None,
        "argsrepr": f"({argument!r},)",
        "kwargsrepr": "{}",
        "origin": "diffedit",
        "ignore_result": None,
        "replaced_task_nesting": 0,
        "stamped_headers": None,
        "stamps": {},
        # Tells which jobs have a message in a queue (`JobStore.jobs_without_message`).
        "job_id": job.id,
    }
    properties = {
        "correlation_id": task_id,
        "delivery_mode": 2,
        "delivery_info": {"exchange": "", "routing_key": job.queue},
        "priority": 0,
        "body_encoding": "base64",
        "delivery_tag": str(uuid4()),
    }
    return json.dumps(
        {
            "body": b64encode(json.dumps(body).encode()).decode(),
            "content-encoding": "utf-8",
            "content-type": "application/json",
            "headers": headers,
            "properties": properties,
        }
    )


def _signature(job: Job, stage: Stage) -> dict[str, Any]:
    options = {"queue": job.queue_of(stage), "headers": {"job_id": job.id}, "task_id": str(uuid4())}
    return {
        "task": task_name(stage),
        "args": [],
        "kwargs": {},
        "options": options,
        "subtask_type": None,
        "immutable": False,
    }
