"""Doubles in memory, so that programs which use `diffedit` can be tested without services, workers and models.

>>> from PIL import Image
>>> from diffedit import testing
>>> client = testing.memory_client()
>>> job = client.edit(Image.new("RGB", (64, 64)), source_prompt="a bowl of fruits", target_prompt="a bowl of pears")
>>> job.status().state.value
'queued'
>>> testing.succeed(job, Image.new("RGB", (64, 64), "green"))
>>> job.result().image.getpixel((0, 0))
(0, 128, 0)

The project's own tests run over the doubles and over real services, so that both behave alike.
"""

import json
import math
from typing import Any

from PIL import Image

from diffedit.aio import AsyncClient
from diffedit.async_handle import AsyncJobHandle
from diffedit.client import Client
from diffedit.contract import versions
from diffedit.contract.content import content_of
from diffedit.contract.job import ErrorInfo, Job, State
from diffedit.contract.object_keys import artifact_key, manifest_key, thumbnail_key
from diffedit.contract.request import Prompts
from diffedit.contract.stages import Artifact, Stage, queue_names
from diffedit.contract.validation import digest
from diffedit.errors import BadPicture, InvalidRequest
from diffedit.handle import JobHandle
from diffedit.jobs.backend import JobBackend, memory_backend
from diffedit.jobs.memory_store import MemoryJobStore
from diffedit.jobs.workers import WorkerInfo, WorkerLimits
from diffedit.masks import read_mask
from diffedit.objects.links import UploadUrl
from diffedit.objects.memory import MemoryObjectStore
from diffedit.pictures import PROVENANCE, encode_png, read_picture, read_result
from diffedit.settings import Settings
from diffedit.thumbnails import encode_thumbnail

__all__ = [
    "JobBackend",
    "MemoryObjectStore",
    "async_memory_client",
    "fail",
    "memory_backend",
    "memory_client",
    "succeed",
    "upload",
]

_WORKER = "testing"
_EXTENSIONS = {Artifact.CAPTION: "json", Artifact.PROMPTS: "json", Artifact.MASK: "png", Artifact.RESULT: "png"}
"""Of the files of artifacts. All others hold tensors."""


def memory_client(profile: str = "tiny") -> Client:
    """Return a client over doubles in memory. One worker counts as live and serves `profile`, but it never runs a job.

    Its profile has the preset "draft" and no parameter defaults of its own.

    End the jobs with `succeed`, `fail` or `JobHandle.cancel`.
    """
    settings = Settings(profile=profile)
    backend = memory_backend(settings, WorkerLimits(worker_ttl=math.inf))
    worker = WorkerInfo(
        id=_WORKER,
        name=f"{_WORKER}@localhost",
        profile=profile,
        device="none",
        queues=queue_names(profile),
        profile_presets={"draft": {}},
        contract=versions.CONTRACT,
    )
    backend.worker_registry.send_heartbeat(worker)
    return Client(settings, backend=backend, object_store=MemoryObjectStore(), send=lambda job: None)


def async_memory_client(profile: str = "tiny") -> AsyncClient:
    """Return an asynchronous client over the same doubles as those of `memory_client`."""
    return AsyncClient.over(memory_client(profile))


def succeed(
    job: JobHandle | AsyncJobHandle,
    image: Image.Image | None = None,
    *,
    mask: Image.Image | None = None,
    caption: str = "a picture",
    prompts: Prompts | None = None,
) -> None:
    """Let a job of `memory_client` or `async_memory_client` succeed, as a worker does.

    The job may be an edit or a mask preview. `job.result()` then has its image, mask, caption, prompts, manifest and
    URL. Files of tensors are empty.

    Args:
        job: a job that has not ended.
        image: the edited picture. Default: the picture that was submitted.
        mask: white where the picture was changed. Default: white everywhere. A mask in the request is kept.
        caption: what the captioner writes, if the request has no caption.
        prompts: what the language model writes, if the request has no prompts. Default: the two concepts, or the
            caption and the target prompt.

    Raises:
        InvalidRequest: the job has ended already, or it is not of a `memory_client`.
        BadPicture: the image or the mask cannot be a result: it has another size than the picture, or the mask is
            black everywhere.
    """
    job = _blocking(job)
    finished = _with_all_artifacts(_open_job(job))
    request = finished.request
    source = request.source_concept or request.given_caption or caption
    target = request.target_concept or request.target_prompt or ""
    contents = {
        Artifact.CAPTION: json.dumps(caption).encode(),
        Artifact.PROMPTS: (prompts or Prompts(source=(source,), target=(target,))).model_dump_json().encode(),
    }
    original = read_picture(job._object_store.get(request.image)).image
    for name, given in (("image", image), ("mask", mask)):
        if given is not None and given.size != original.size:
            raise BadPicture(f"the {name} has {given.size} pixels and the picture {original.size}; use the same size")
    contents[Artifact.MASK] = encode_png((mask or Image.new("L", original.size, 255)).convert("L"))
    read_mask(contents[Artifact.MASK])
    used = request.given_prompts or Prompts.model_validate_json(contents[Artifact.PROMPTS])
    manifest = json.dumps(_manifest(finished, request.given_caption or caption, used))
    contents[Artifact.RESULT] = encode_png((image or original).convert("RGB"), text={PROVENANCE: manifest})
    result = read_result(contents[Artifact.RESULT])
    if key := finished.artifact_keys.get(Artifact.RESULT):
        job._object_store.put(manifest_key(key), manifest.encode())
        job._object_store.put(thumbnail_key(key), encode_thumbnail(result))
    for stage in _open_job(job).stages_left:
        _start(job, stage)
        _complete(job, stage, contents)


def fail(job: JobHandle | AsyncJobHandle, code: str, message: str, *, stage: Stage | None = None) -> None:
    """Let a job of `memory_client` or `async_memory_client` fail in `stage`, as a worker does. Default: in its first.

    `job.wait()` then raises JobFailed with this `error_code` and `message`.

    Raises:
        InvalidRequest: the job has ended already, or it does not need this stage.
    """
    job = _blocking(job)
    stages = _open_job(job).stages_left
    failing = Stage(stage) if stage else stages[0]  # type: ignore[call-arg] # a look-up by value
    if failing not in stages:
        raise InvalidRequest(f"stage: job {job.id} does not need the stage {failing.value}")
    for each in stages[: stages.index(failing)]:
        _start(job, each)
        _complete(job, each, {})
    _start(job, failing)
    error = ErrorInfo(stage=failing, code=code, message=message)
    job._job_store.end_job(job.id, State.FAILED, error, _WORKER)


def upload(client: Client, url: UploadUrl, data: bytes) -> None:
    """Send a picture to the bucket of a `memory_client`, as a browser does with an `upload_url`.

    Args:
        client: the client that made `url`.
        data: the file, of any content: `Client.edit` checks it.

    Raises:
        InvalidRequest: the file has another size than `url` says, so that a real server refuses it; or the client is
            not a `memory_client`.
    """
    if not isinstance(client._object_store, MemoryObjectStore):
        raise InvalidRequest("this client is not a memory_client(); send the file to the URL")
    if len(data) != url.size:
        raise InvalidRequest(f"the file has {len(data)} bytes, and the upload_url is for {url.size}")
    client._object_store.put(url.key, data)


def _blocking(job: JobHandle | AsyncJobHandle) -> JobHandle:
    return job._blocking if isinstance(job, AsyncJobHandle) else job


def _open_job(job: JobHandle) -> Job:
    if not isinstance(job._job_store, MemoryJobStore):
        raise InvalidRequest("this job is not of a memory_client(); only a worker can end it")
    status = job.status()
    if status.is_terminal:
        raise InvalidRequest(f"job {job.id} has ended already; its state is {status.state.value}")
    return status.job


def _with_all_artifacts(job: Job) -> Job:
    return job.with_artifacts({each: _key(job, each) for stage in job.stages_left for each in stage.gives})


def _key(job: Job, artifact: Artifact) -> str:
    return artifact_key(artifact.value, digest([job.id, artifact.value]), _EXTENSIONS.get(artifact, "safetensors"))


def _manifest(job: Job, caption: str, prompts: Prompts) -> dict[str, Any]:
    """Return a manifest of the form that workers write. No models were used, so it names none."""
    return {
        "request": job.request.model_dump(mode="json"),
        "texts": {"caption": caption, "prompts": prompts.model_dump(mode="json")},
        "artifacts": {artifact.value: key for artifact, key in job.artifact_keys.items()},
        "models": {},
        "stages": {stage.value: 0 for stage in job.request.stages},
        "device": "none",
        "software": {},
    }


def _start(job: JobHandle, stage: Stage) -> None:
    job._job_store.start_stage(job.id, stage, _WORKER)


def _complete(job: JobHandle, stage: Stage, files: dict[Artifact, bytes]) -> None:
    before = job.status().job
    keys = {artifact: _key(before, artifact) for artifact in stage.gives}
    contents = {artifact: content_of(files.get(artifact, b"")) for artifact in stage.gives}
    for artifact, key in keys.items():
        job._object_store.put(key, files.get(artifact, b""))
    job._job_store.complete_stage(before.with_artifacts(keys, contents), stage, 0.0, stage.gives, _WORKER)
