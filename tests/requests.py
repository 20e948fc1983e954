"""Requests, jobs, workers and keys for tests."""

import uuid
from typing import Any

from api_client.board import WorkerInfo
from api_client.contract import STAGES, EditParams, EditRequest, Job, Slot, Stage, Terms, queue_names
from api_client.store import artifact_key

IMAGE = f"inputs/ab/{'ab' * 32}.png"
MASK = f"inputs/cd/{'cd' * 32}.png"
EXTENSIONS = dict.fromkeys(Slot, "safetensors") | {Slot.CAPTION: "json", Slot.PROMPTS: "json", Slot.MASK: "png"}
TEXTS = {"source_prompt": "a bowl of fruits", "target_prompt": "a bowl of pears"}


def a_request(params: dict[str, Any] | None = None, **fields: Any) -> EditRequest:
    """A request with two prompts, unless `fields` ask otherwise."""
    texts = {} if {"source_concept", "target_prompt"} & fields.keys() else TEXTS
    fields = {"image": IMAGE, **texts, **fields}
    return EditRequest(**fields, params=EditParams(**{"model": "tiny", **(params or {})}))


def a_job(request: EditRequest | None = None, **terms: Any) -> Job:
    """A job that nobody has seen yet."""
    return Job(id=uuid.uuid4().hex, request=request or a_request(), terms=Terms(**terms))


def done(job: Job, *stages: Stage) -> Job:
    """The job with artifacts of these stages, under keys of no recipe."""
    slots = [slot for stage in stages for slot in STAGES[stage].gives]
    return job.with_refs({slot: artifact_key(slot.value, "ab" * 32, EXTENSIONS[slot]) for slot in slots})


def a_worker(**fields: Any) -> WorkerInfo:
    """A live worker of the bundled profile."""
    given = {"id": "rig", "name": "rig@here", "profile": "tiny", "device": "cpu", "queues": queue_names("tiny")}
    return WorkerInfo(**{**given, **fields})
