"""Requests, jobs, workers and object keys, and what tests ask the client for."""

import uuid
from typing import Any

from diffedit.contract.job import Job, JobOptions
from diffedit.contract.object_keys import artifact_key
from diffedit.contract.request import EditParams, EditRequest
from diffedit.contract.stages import Artifact, Stage, queue_names
from diffedit.contract.versions import CONTRACT
from diffedit.jobs.workers import WorkerInfo
from diffedit_worker.models.profiles import SAMPLES

PICTURE = SAMPLES / "06.png"
"""A pear on a green table, 64 x 64 pixels."""
PEAR = {
    "source_prompt": "a photograph of a pear on a green table",
    "target_prompt": "a photograph of some cherries on a green table",
}
"""The prompts of an edit of `PICTURE` that the bundled model can make."""
QUICK = {"num_inference_steps": 4, "num_maps_per_mask": 2}
"""Parameters of an edit with little to compute."""
IMAGE = f"inputs/ab/{'ab' * 32}.png"
MASK = f"inputs/cd/{'cd' * 32}.png"
EXTENSIONS = dict.fromkeys(Artifact, "safetensors") | {
    Artifact.CAPTION: "json",
    Artifact.PROMPTS: "json",
    Artifact.MASK: "png",
}
TEXTS = {"source_prompt": "a bowl of fruits", "target_prompt": "a bowl of pears"}


def slow() -> dict[str, object]:
    """Return arguments of an edit whose inversion runs for seconds and is shared with no other job."""
    caption = f"a pear {uuid.uuid4().hex}"
    # Tests act during the inversion. Guidance would only double what comes after it.
    return {"num_inference_steps": 500, "num_maps_per_mask": 2, "guidance_scale": 1.0, "caption": caption}


def a_request(params: dict[str, Any] | None = None, **fields: Any) -> EditRequest:
    """Return a request with two prompts, unless `fields` say otherwise."""
    texts = {} if {"source_concept", "target_prompt"} & fields.keys() else TEXTS
    fields = {"image": IMAGE, **texts, **fields}
    return EditRequest(**fields, params=EditParams(**{"profile": "tiny", **(params or {})}))


def a_job(request: EditRequest | None = None, **options: Any) -> Job:
    """Return a job that is in no job store yet."""
    return Job(id=uuid.uuid4().hex, request=request or a_request(), options=JobOptions(**options))


def done(job: Job, *stages: Stage) -> Job:
    """Return the job with the artifacts of these stages, under keys that follow from no content."""
    artifacts = [artifact for stage in stages for artifact in stage.gives]
    return job.with_artifacts(
        {artifact: artifact_key(artifact.value, "ab" * 32, EXTENSIONS[artifact]) for artifact in artifacts}
    )


def a_worker(**fields: Any) -> WorkerInfo:
    """Return the heartbeat of a worker of the bundled profile."""
    given = {"id": "rig", "name": "rig@here", "profile": "tiny", "device": "cpu", "queues": queue_names("tiny")}
    return WorkerInfo(**{"contract": CONTRACT, **given, **fields})
