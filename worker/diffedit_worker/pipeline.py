"""All stages in one table, the cache key of an artifact, and the manifest of a result.

To add a stage, name it in `diffedit.contract.stages` and write `stages/<name>.py`: a function and its `DEFINITION`.
"""

from collections.abc import Callable
from functools import cache
from importlib import import_module
from importlib.metadata import version
from typing import Any

from diffedit.contract.job import Job
from diffedit.contract.object_keys import artifact_key
from diffedit.contract.request import EditParams, EditRequest
from diffedit.contract.stages import STAGE_OF, Artifact, Stage
from diffedit.contract.validation import digest
from diffedit.pictures import Size
from diffedit_worker.codecs import PICTURE, Codec
from diffedit_worker.models.loading import Models
from diffedit_worker.stages.definition import StageDefinition


def _definition(stage: Stage) -> StageDefinition:
    """Import a stage's definition and check that it agrees with the contract."""
    definition: StageDefinition = import_module(f"diffedit_worker.stages.{stage.value}").DEFINITION
    fields = EditRequest.model_fields.keys() | EditParams.model_fields.keys()
    # Without these checks, a definition that disagrees with the contract would fail in the middle of a job.
    assert set(definition.outputs) == set(stage.gives), f"{stage}: the outputs are not those of the contract"
    assert definition.needs == set(stage.needs), f"{stage}: the function takes other artifacts than the contract says"
    assert fields.issuperset(definition.params), f"{stage}: the function takes a parameter that no request has"
    for output in definition.outputs.values():
        assert fields.union(("models", "size")).issuperset(output.check_arguments), f"{stage}: no request has this"
    return definition


PIPELINE: dict[Stage, StageDefinition] = {stage: _definition(stage) for stage in Stage}

CODECS: dict[Artifact, Codec] = {
    Artifact.IMAGE: PICTURE,
    **{artifact: output.codec for stage in PIPELINE.values() for artifact, output in stage.outputs.items()},
}
"""How each artifact is stored: the uploaded image, and the outputs of each stage."""


def param(request: EditRequest, name: str) -> Any:
    """Return the field with this name, of the request or of its params."""
    return getattr(request if name in EditRequest.model_fields else request.params, name)


def cache_key(stage: Stage, artifact: Artifact, job: Job, models: Models) -> str:
    """Return the key of this job's artifact. Equal inputs of one owner give equal keys, on any worker."""
    definition = PIPELINE[stage]
    inputs = {
        "stage": stage.value,
        "version": definition.version,
        "artifact": artifact.value,
        "model": models.identity(definition.component, stage.group),
        "params": {name: param(job.request, name) for name in definition.params_of(artifact)},
        # Pictures of two owners differ (`diffedit.salts`), but texts may be equal.
        **({"owner": job.options.owner} if job.options.owner else {}),
        "parents": {parent.value: job.cache_identity(parent) for parent in stage.outputs[artifact]},
    }
    return artifact_key(artifact.value, digest(inputs), CODECS[artifact].extension)


def check_artifact(
    artifact: Artifact, value: Any, request: EditRequest, models: Models, size: Callable[[], Size]
) -> None:
    """Check that a value, as its codec has decoded it, can be this artifact of this request.

    Args:
        size: returns the size of the picture. It is called if the check needs it.

    Raises:
        ArtifactError, BadPicture: its shape or size is another one.
    """
    if artifact not in STAGE_OF:
        return
    output = PIPELINE[STAGE_OF[artifact]].outputs[artifact]
    known: dict[str, Callable[[], Any]] = {"models": lambda: models, "size": size}
    given = {name: known[name]() if name in known else param(request, name) for name in output.check_arguments}
    output.check(value, **given)


def effective_request(request: EditRequest) -> EditRequest:
    """Return the request without everything that its result does not depend on.

    Jobs with the same result have the same effective request. A parameter that no stage uses has its default, the seed
    is 0. A caption that is used as the source prompt is given as that.
    """
    used = {each for stage in request.stages for output in stage.gives for each in PIPELINE[stage].params_of(output)}
    defaults = EditParams.model_construct(profile=request.params.profile, seed=0)
    unused = {name: getattr(defaults, name) for name in EditParams.model_fields if name not in used}
    source = request.given_prompts and request.given_prompts.source[0]
    caption = request.given_caption if request.given_caption != source else None
    params = request.params.model_copy(update=unused)
    return request.model_copy(update={"params": params, "source_prompt": source, "caption": caption})


def manifest(job: Job, models: Models, texts: dict[str, Any]) -> dict[str, Any]:
    """Return everything that is needed to make this job's result again, as JSON.

    It is stored with the result and serves other jobs as well, so it holds nothing that is this job's alone. `texts`
    are the caption and the prompts that were used, so that the manifest is complete without the bucket.
    """
    return {
        "request": effective_request(job.request).model_dump(mode="json"),
        "texts": texts,
        "artifacts": {artifact.value: key for artifact, key in job.artifact_keys.items()},
        # The worker that runs the edit stage may not have the language models, so it gives only their names.
        "models": {
            component: models.identity(component)
            if component == PIPELINE[Stage.EDIT].component
            else models.name(component)
            for component in dict.fromkeys(PIPELINE[stage].component for stage in job.request.stages)
        },
        "stages": {stage.value: PIPELINE[stage].version for stage in job.request.stages},
        "device": models.device.type,
        # With several, the rounding of the results depends on the jobs that shared passes.
        "batch_jobs": models.batch_jobs,
        "software": software(),
    }


@cache
def software() -> dict[str, str]:
    """Return the versions of the software that a result may depend on. Cached, because reading takes milliseconds."""
    return {name: version(name) for name in ("diffedit-service", "diffusers", "transformers", "torch")}
