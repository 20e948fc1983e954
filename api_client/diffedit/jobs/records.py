"""The fields of a job's record, and the status that is derived from them."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime

from pydantic import ValidationError

from diffedit.contract.job import ErrorInfo, Job, JobOptions, JobStatus, State
from diffedit.contract.request import EditRequest
from diffedit.contract.stages import Artifact, Stage
from diffedit.contract.validation import explain
from diffedit.errors import BadRecord


def status_of(job_id: str, fields: Mapping[str, str]) -> JobStatus:
    """A job's status, derived from the fields of its record. Raises BadRecord."""
    try:
        return _status_of(job_id, fields)
    except ValidationError as error:
        raise BadRecord(job_id, explain(error)) from None
    except (LookupError, ValueError) as error:
        raise BadRecord(job_id, type(error).__name__) from None


def readable(records: Mapping[str, Mapping[str, str]]) -> list[JobStatus]:
    statuses = []
    for job_id, fields in records.items():
        with suppress(BadRecord):
            statuses += [status_of(job_id, fields)] if fields else []
    return statuses


def _status_of(job_id: str, fields: Mapping[str, str]) -> JobStatus:
    request = EditRequest.model_validate_json(fields["request"])
    stages = request.stages
    stage = Stage(fields["stage"]) if "stage" in fields else None  # type: ignore[call-arg] # a look-up by value
    index = stages.index(stage) if stage in stages else 0
    step, steps = int(fields.get("step", 0)), int(fields.get("steps", 0))
    done = [stage for stage in stages if f"seconds:{stage.value}" in fields]
    created = {stage: tuple(map(Artifact, fields[f"created:{stage.value}"].split())) for stage in done}

    if "outcome" in fields:
        state = State(fields["outcome"])
    else:
        state = State.RUNNING if stage else State.QUEUED
    if state is State.SUCCEEDED:
        progress = 1.0
    else:
        # A finished stage stays the current one until the next begins; it must not count twice.
        within = step / steps if steps and stage not in done else 0.0
        progress = (len(done) + within) / len(stages) if stages else 0.0

    return JobStatus(
        id=job_id,
        state=state,
        stages=stages,
        stage=stage,
        stage_index=index,
        step=step,
        steps=steps,
        progress=round(min(progress, 1.0), 4),
        worker=fields.get("worker"),
        retries=int(fields.get("retries", 0)),
        timings={stage: float(fields[f"seconds:{stage.value}"]) for stage in done},
        cache_hits=tuple(stage for stage in done if not created[stage]),
        created_artifacts=tuple(artifact for artifacts in created.values() for artifact in artifacts),
        attempts={stage: int(fields[name]) for stage in stages if (name := f"attempts:{stage.value}") in fields},
        error=ErrorInfo.model_validate_json(fields["error"]) if "error" in fields else None,
        artifact_keys={
            artifact: fields[name] for artifact in Artifact if (name := f"artifact:{artifact.value}") in fields
        },
        request=request,
        options=JobOptions.model_validate_json(fields["options"]),
        created_at=_moment(fields["created"]),
        started_at=_moment(fields["started"]) if "started" in fields else None,
        finished_at=_moment(fields["finished"]) if "finished" in fields else None,
    )


def new_fields(job: Job) -> dict[str, str]:
    """What the record of a new job holds besides times and keys of the board's own."""
    return {"request": job.request.model_dump_json(), "options": job.options.model_dump_json()}


def done_fields(job: Job, stage: Stage, seconds: float, created: Sequence[Artifact]) -> dict[str, str]:
    """What a finished stage adds to the record."""
    return {
        f"seconds:{stage.value}": f"{seconds:.4f}",
        f"created:{stage.value}": " ".join(artifact.value for artifact in created),
        **{f"artifact:{artifact.value}": job.artifact_keys[artifact] for artifact in stage.gives},
    }


def undone_fields(job: Job) -> list[str]:
    """What the stages that are left, in running order, had added to the record if they were done before."""
    fields = []
    for stage in job.stages_left:
        artifacts = [artifact for artifact in stage.gives if artifact not in job.artifact_keys]
        fields += [
            f"seconds:{stage.value}",
            f"created:{stage.value}",
            *(f"artifact:{artifact.value}" for artifact in artifacts),
        ]
    return fields


def _moment(seconds: str) -> datetime:
    return datetime.fromtimestamp(float(seconds), UTC)
