"""The fields of a job's record, and the status that is derived from them.

| field | written by | content |
|---|---|---|
| `request`, `options` | `create_job` | the `EditRequest` and the `JobOptions` as JSON |
| `hints` | `create_job` | the fields of the request that older versions may ignore, as JSON, if there are any |
| `owner`, `tags`, `keep` | `create_job` | the options of these names, `tags` as JSON, if they are given |
| `webhook` | `create_job` | where the events of the job are sent, if they are |
| `traceparent` | `create_job` | the span that submitted the job, if its client is traced |
| `delivery:<event>` | scripts | what became of an event: a `Delivery` as JSON |
| `parked` | `park_job` | the message of a job that waits until others of its owner have ended |
| `held` | scripts | the message of a waiting job that is held back until its turn comes |
| `aged` | `start_stage` | since when a batch job takes turns with interactive ones, if it has waited for long |
| `used` | `complete_stage` | seconds of the device that the job has used and that are not counted yet |
| `pixels` | `create_job` | pixels of its picture, if they are known |
| `expected` | `create_job` | stages of the profile and the seconds that they took before, separated by spaces |
| `contract` | `create_job` | the lowest contract that can serve the job; 1 if it is missing |
| `retention` | `create_job` | seconds that the record is kept after the job has ended |
| `created`, `started`, `finished` | scripts | times of the Redis server, in seconds |
| `deadline_at` | `create_job` | when the job expires, if it has a deadline |
| `idempotency` | `create_job` | the idempotency key with its namespace, if there is one |
| `request_digest` | `create_job` | beside a key: the digest of what the user gave, which a second call must repeat |
| `next`, `queue` | scripts | the stage that the job waits for, and its queue |
| `stage`, `step`, `steps`, `worker` | `start_stage`, `report_step` | the last stage, its progress, its worker |
| `attempts:<stage>` | `start_stage` | how often the stage was started |
| `waited:<stage>` | `start_stage` | seconds that it waited before it was last started; "" if it did not |
| `cause:<stage>` | `record_cause` | why the last attempt failed |
| `refused:<stage>` | `refuse_stage` | names of the workers that could not run the stage, as a JSON list |
| `refused_since:<stage>`, `refused_error:<stage>` | `refuse_stage` | time of the first refusal, error of the last |
| `retries` | `count_retry` | how often a stage waited for a service |
| `seconds:<stage>` | `complete_stage` | duration of a finished stage |
| `created:<stage>` | `complete_stage` | the artifacts that the stage had to make, separated by spaces |
| `artifact:<artifact>` | `complete_stage` | the key of an artifact in the bucket |
| `content:<artifact>` | `complete_stage` | what is stored there (`contract/content.py`), and in which attempt |
| `revived` | `revive_job` | how often the job was retried in place |
| `moved` | `move_job` | when the job was last moved to another profile |
| `outcome`, `error` | `end_job` | how the job ended; an `ErrorInfo` as JSON if it failed |
"""

import json
import math
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from pydantic import ValidationError

from diffedit.contract import versions
from diffedit.contract.content import Content, is_content
from diffedit.contract.job import TERMINAL, ErrorInfo, Job, JobOptions, JobStatus, State
from diffedit.contract.request import EditRequest
from diffedit.contract.stages import STAGE_OF, Artifact, Stage
from diffedit.contract.validation import TRACEPARENT, explain
from diffedit.contract.versions import dump_json, hints_of, with_hints
from diffedit.errors import BadRecord, NewerRecord
from diffedit.jobs.deliveries import deliveries_in
from diffedit.jobs.estimates import eta_of
from diffedit.jobs.store import RecentStages

_COUNT = re.compile("[0-9]{1,9}")
LATEST = 1e11
"""Seconds. A later time, in the year 5138, is none: dates end before a time limit could be added to it."""


class Queueing(NamedTuple):
    """The place of a waiting job: how many jobs are ahead of it, and how many stages the workers run at once."""

    ahead: int
    at_once: int


def status_of(job_id: str, fields: Mapping[str, str] | None, queueing: Queueing | None = None) -> JobStatus:
    """Return the status of a job, derived from the fields of its record. Raises BadRecord, NewerRecord.

    `fields` is None if what is stored in the place of the record is not a hash.
    """
    if fields is None:
        raise BadRecord(job_id, "it is not a hash")
    try:
        return _status_of(job_id, fields, queueing)
    except (LookupError, TypeError, ValueError, ArithmeticError, RecursionError) as error:
        if is_newer(fields):
            raise NewerRecord(job_id) from None
        reason = explain(error) if isinstance(error, ValidationError) else type(error).__name__
        raise BadRecord(job_id, reason) from None


def outcome_in(job_id: str, text: str) -> State:
    """Return the outcome with this name. Raises NewerRecord if this version has none."""
    try:
        return State(text)
    except ValueError:
        raise NewerRecord(job_id) from None


def is_newer(fields: Mapping[str, str]) -> bool:
    """Return whether the record needs a newer contract than ours."""
    number = fields.get("contract", "1")
    return number.isdecimal() and len(number) < 10 and int(number) > versions.CONTRACT


def readable(records: Mapping[str, Mapping[str, str] | None]) -> tuple[list[JobStatus], list[str]]:
    """Return the statuses of those records that exist and can be read, and the ids of those that cannot be read."""
    statuses, unreadable = [], []
    for job_id, fields in records.items():
        try:
            statuses += [status_of(job_id, fields)] if fields != {} else []
        except BadRecord:
            unreadable.append(job_id)
    return statuses, unreadable


def _status_of(job_id: str, fields: Mapping[str, str], queueing: Queueing | None) -> JobStatus:
    request = request_in(fields)
    stages = request.stages
    stage = Stage(fields["stage"]) if "stage" in fields else None  # type: ignore[call-arg] # a look-up by value
    index = stages.index(stage) if stage in stages else 0
    step, steps = int(fields.get("step", 0)), int(fields.get("steps", 0))
    done = [stage for stage in stages if f"seconds:{stage.value}" in fields]
    created = {stage: tuple(map(Artifact, fields[f"created:{stage.value}"].split())) for stage in done}

    state = State(fields["outcome"]) if "outcome" in fields else State.RUNNING if stage else State.QUEUED
    left = [stage for stage in stages if stage not in done] if state not in TERMINAL else []
    wait = queueing.ahead / queueing.at_once if queueing and queueing.at_once else None
    return JobStatus(
        id=job_id,
        state=state,
        stages=stages,
        stage=stage,
        stage_index=index,
        step=step,
        steps=steps,
        progress=1.0 if state is State.SUCCEEDED else _progress(stages, stage, done, step, steps),
        worker=fields.get("worker"),
        refused_by={stage: names for stage in stages if (names := refused_by(fields, stage))},
        refusal=_refusal(fields),
        retries=int(fields.get("retries", 0)),
        timings={stage: float(fields[f"seconds:{stage.value}"]) for stage in done},
        waits={stage: float(waited) for stage in stages if (waited := fields.get(f"waited:{stage.value}"))},
        cache_hits=tuple(stage for stage in done if not created[stage]),
        created_artifacts=tuple(artifact for artifacts in created.values() for artifact in artifacts),
        attempts={stage: int(fields[name]) for stage in stages if (name := f"attempts:{stage.value}") in fields},
        error=ErrorInfo.model_validate_json(fields["error"], extra="ignore") if "error" in fields else None,
        artifact_keys={
            artifact: fields[name] for artifact in Artifact if (name := f"artifact:{artifact.value}") in fields
        },
        contents=_contents(fields),
        request=request,
        options=_options_in(fields),
        deliveries=deliveries_in(fields),
        contract=int(fields.get("contract", 1)),
        created_at=_moment(fields["created"]),
        started_at=_moment(fields["started"]) if "started" in fields else None,
        finished_at=_moment(fields["finished"]) if "finished" in fields else None,
        position=queueing.ahead if queueing and left else None,
        eta=eta_of(fields, left, stage, step / steps if steps else 0.0, wait if queueing or not stage else 0.0),
    )


def _options_in(fields: Mapping[str, str]) -> JobOptions:
    options = json.loads(fields["options"])
    given = {name: fields.get(name) for name in ("owner", "webhook")} | {"tags": json.loads(fields.get("tags", "{}"))}
    # No job fails because its trace is damaged.
    trace = text if TRACEPARENT.fullmatch(text := fields.get("traceparent", "")) else None
    given |= {"traceparent": trace}
    keep = float(fields["keep"]) if "keep" in fields else None
    return JobOptions.model_validate_json(json.dumps({**options, **given, "keep": keep}), extra="ignore")


def request_in(fields: Mapping[str, str]) -> EditRequest:
    text = fields["request"]
    if "hints" in fields:
        text = json.dumps(with_hints(json.loads(text), json.loads(fields["hints"])))
    return EditRequest.model_validate_json(text, extra="ignore")


def _refusal(fields: Mapping[str, str]) -> ErrorInfo | None:
    """Return why the last worker could not run the stage that the job waits for."""
    text = fields.get(f"refused_error:{fields.get('next')}")
    return ErrorInfo.model_validate_json(text, extra="ignore") if text and "outcome" not in fields else None


def _contents(fields: Mapping[str, str]) -> dict[Artifact, Content]:
    """Return what is stored as each artifact, as far as it is known.

    A worker of 0.2.0 that makes an artifact again, perhaps with other bytes, leaves this field as it was. So the field
    names the attempt at the stage that it belongs to. After another attempt the content counts as unknown, because
    a reader would take the new artifact for a damaged one.
    """
    contents = {}
    for artifact, stage in STAGE_OF.items():
        content, _, attempt = fields.get(f"content:{artifact.value}", "").rpartition(" ")
        made = f"artifact:{artifact.value}" in fields and attempt == fields.get(f"attempts:{stage.value}")
        if made and is_content(content):
            contents[artifact] = content
    return contents


def _progress(stages: Sequence[Stage], stage: Stage | None, done: Sequence[Stage], step: int, steps: int) -> float:
    """Return the progress over all stages, 0 to 1. Each stage has the same share."""
    # A finished stage is the current one until the next starts; it must not count twice.
    within = step / steps if steps and stage not in done else 0.0
    return round(min((len(done) + within) / len(stages), 1.0), 4) if stages else 0.0


def new_fields(job: Job, retention: int) -> dict[str, str]:
    """Return what the caller writes into the record of a new job."""
    hints, options = hints_of(job.request), job.options
    return {
        "request": dump_json(job.request),
        **({"hints": json.dumps(hints)} if hints else {}),
        "options": dump_json(job.options),
        "contract": str(job.contract),
        # A version that does not know of `keep` goes by this field as well.
        "retention": str(math.ceil(options.keep or retention)),
        **({"owner": options.owner} if options.owner else {}),
        **({"tags": json.dumps(options.tags)} if options.tags else {}),
        **({"keep": str(options.keep)} if options.keep else {}),
        **({"webhook": options.webhook} if options.webhook else {}),
        **({"traceparent": options.traceparent} if options.traceparent else {}),
    }


STARTED_OVER = frozenset(
    ["outcome", "error", "finished", "started", "stage", "step", "steps", "worker", "retries", "parked", "held", "aged"]
)
STARTED_OVER_BY_STAGE = frozenset(
    [
        "attempts",
        "cause",
        "refused",
        "refused_since",
        "refused_error",
        "seconds",
        "created",
        "waited",
        "artifact",
        "content",
    ]
)
"""What the record of a job that starts over loses: the fields of the first tuple, and those with these prefixes."""


def done_fields(job: Job, stage: Stage, seconds: float, created: Sequence[Artifact]) -> dict[str, str]:
    """Return what a finished stage adds to the record."""
    return {
        f"seconds:{stage.value}": f"{seconds:.4f}",
        f"created:{stage.value}": " ".join(artifact.value for artifact in created),
        **{f"artifact:{artifact.value}": job.artifact_keys[artifact] for artifact in stage.gives},
    }


def content_fields(job: Job, stage: Stage, attempt: str) -> dict[str, str]:
    """Return what a stage that is finished in this attempt adds to the record about its artifacts."""
    known = [artifact for artifact in stage.gives if artifact in job.contents]
    return {f"content:{artifact.value}": f"{job.contents[artifact]} {attempt}" for artifact in known}


def undone_fields(job: Job) -> list[str]:
    """Return the fields to delete when the stages left must run again."""
    fields = []
    for stage in job.stages_left:
        artifacts = [artifact for artifact in stage.gives if artifact not in job.artifact_keys]
        fields += [
            f"seconds:{stage.value}",
            f"created:{stage.value}",
            *(f"{field}:{artifact.value}" for artifact in artifacts for field in ("artifact", "content")),
        ]
    return fields


def refused_by(fields: Mapping[str, str], stage: Stage) -> tuple[str, ...]:
    """Return the names of the workers that could not run the stage."""
    return tuple(json.loads(fields.get(f"refused:{stage.value}", "[]")))


def recent_stages_in(fields: Mapping[str, str]) -> RecentStages | None:
    """Return the stages that were counted in one minute, or None if it cannot be read."""
    numbers = [fields.get(result, "0") for result in RecentStages._fields]
    return RecentStages(*map(int, numbers)) if all(_COUNT.fullmatch(number) for number in numbers) else None


def _moment(text: str) -> datetime:
    seconds = float(text)
    if not 0 <= seconds < LATEST:
        raise ValueError(f"{text} is no time")
    return datetime.fromtimestamp(seconds, UTC)
