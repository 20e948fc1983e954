"""Requests, jobs, workers and keys for tests."""

import uuid
from typing import Any

from diffedit.contract.job import Job, JobOptions
from diffedit.contract.object_keys import artifact_key
from diffedit.contract.request import EditParams, EditRequest
from diffedit.contract.stages import Artifact, Stage, queue_names
from diffedit.jobs.store import WorkerInfo

IMAGE = f"inputs/ab/{'ab' * 32}.png"
MASK = f"inputs/cd/{'cd' * 32}.png"
EXTENSIONS = dict.fromkeys(Artifact, "safetensors") | {
    Artifact.CAPTION: "json",
    Artifact.PROMPTS: "json",
    Artifact.MASK: "png",
}
TEXTS = {"source_prompt": "a bowl of fruits", "target_prompt": "a bowl of pears"}


def a_request(params: dict[str, Any] | None = None, **fields: Any) -> EditRequest:
    """A request with two prompts, unless `fields` ask otherwise."""
    texts = {} if {"source_concept", "target_prompt"} & fields.keys() else TEXTS
    fields = {"image": IMAGE, **texts, **fields}
    return EditRequest(**fields, params=EditParams(**{"profile": "tiny", **(params or {})}))


def a_job(request: EditRequest | None = None, **options: Any) -> Job:
    """A job that nobody has seen yet."""
    return Job(id=uuid.uuid4().hex, request=request or a_request(), options=JobOptions(**options))


def done(job: Job, *stages: Stage) -> Job:
    """The job with artifacts of these stages, under keys of no recipe."""
    artifacts = [artifact for stage in stages for artifact in stage.gives]
    return job.with_artifacts(
        {artifact: artifact_key(artifact.value, "ab" * 32, EXTENSIONS[artifact]) for artifact in artifacts}
    )


def a_worker(**fields: Any) -> WorkerInfo:
    """A live worker of the bundled profile."""
    given = {"id": "rig", "name": "rig@here", "profile": "tiny", "device": "cpu", "queues": queue_names("tiny")}
    return WorkerInfo(**{**given, **fields})
