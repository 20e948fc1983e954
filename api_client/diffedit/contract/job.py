"""A job: its identity, its options, its state, and its status at one moment."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Annotated

from pydantic import Field

from diffedit.contract.content import Content
from diffedit.contract.owners import Owner, Tags
from diffedit.contract.request import EditRequest
from diffedit.contract.stages import STAGE_OF, Artifact, Lane, Stage, plan, queue_name
from diffedit.contract.validation import ArtifactKeys, Frozen, JobId, StrictNumbers, Traceparent
from diffedit.contract.versions import Hint, needed_contract
from diffedit.contract.webhooks import Delivery, WebhookUrl
from diffedit.errors import ArtifactError
from diffedit.notebook import facts_html

MAX_SECONDS = 365 * 24 * 3600
MIN_KEEP = 60


class JobOptions(StrictNumbers):
    """The options of a job: its lane, its time limits, and whose it is. The result does not depend on them."""

    lane: Lane = Field(Lane.INTERACTIVE, strict=False)
    """"interactive" or "batch". A batch job runs only while no interactive job waits. Default: "interactive"."""
    start_timeout: float | None = Field(default=None, gt=0, le=MAX_SECONDS)
    """Seconds after the submission. The job expires if no worker has started it by then. Default: no limit."""
    deadline: float | None = Field(default=None, gt=0, le=MAX_SECONDS)
    """Seconds after the submission. The job expires if it has not succeeded by then. Default: no limit."""
    # These are recorded as fields of their own (`records.py`), which workers of 0.2.0 do not read.
    owner: Annotated[Owner | None, Hint()] = None
    """Whose the job is: 1 to 200 printable characters, such as a user's id. Default: nobody's."""
    tags: Annotated[Tags, Hint()] = Field(default_factory=dict)
    """Labels to find the job by: up to 10, with names of up to 40 and values of up to 100 characters."""
    keep: Annotated[float | None, Hint()] = Field(default=None, ge=MIN_KEEP, le=MAX_SECONDS)
    """Seconds for which record, pictures, artifacts and result are kept after the end of the job, at least 60.

    Then the record is gone, and the next garbage collection deletes the others. Default: the record is kept for
    `DIFFEDIT_RETENTION`, and garbage collection goes by the age of an object.
    """
    webhook: Annotated[WebhookUrl | None, Hint()] = None
    """A URL to which events are sent, such as "edit.started" and "edit.succeeded", signed by Standard Webhooks.

    `diffedit webhooks` must be running to send them. Default: none are sent.
    """
    traceparent: Annotated[Traceparent | None, Hint()] = None
    """The span that submitted the job, as in W3C Trace Context. The client sets it if the program is traced.

    No argument of `Client.edit` has this name. It is not part of what an idempotency key stands for.
    """


class Job(Frozen):
    """A job: its id, its request, its options, and the keys of the artifacts that are already made."""

    id: JobId
    request: EditRequest
    options: JobOptions = JobOptions()
    artifact_keys: ArtifactKeys = Field(default_factory=dict)
    contents: dict[Artifact, Content] = Field(default_factory=dict)
    """What is stored at these keys. It is not known of an artifact that a worker of 0.2.0 has made."""

    @property
    def contract(self) -> int:
        """The lowest contract that can serve the job (`contract.versions`)."""
        return needed_contract(self.request, self.options)

    @property
    def stages_left(self) -> tuple[Stage, ...]:
        """The stages whose artifacts are not made yet, in running order."""
        return plan(self.request.provided.keys() | self.artifact_keys.keys(), self.request.goal)

    @property
    def queue(self) -> str:
        """The queue in which this job waits for the first of the stages left."""
        return self.queue_of(self.stages_left[0])

    def queue_of(self, stage: Stage) -> str:
        return queue_name(self.request.params.profile, stage.group, self.options.lane)

    def with_artifacts(self, keys: Mapping[Artifact, str], contents: Mapping[Artifact, str] | None = None) -> "Job":
        """Return the job with artifacts at these keys, and with what is stored there, as far as it is known."""
        known = {artifact: content for artifact, content in self.contents.items() if artifact not in keys}
        update = {"artifact_keys": {**self.artifact_keys, **keys}, "contents": {**known, **(contents or {})}}
        return self.model_copy(update=update)

    def without_artifact(self, artifact: Artifact) -> "Job":
        """Return the job as it was before the stage that makes this artifact ran; later stages are undone as well."""
        first = tuple(Stage).index(STAGE_OF[artifact])
        undone = {each for stage in tuple(Stage)[first:] for each in stage.gives}
        fields = {"artifact_keys": self.artifact_keys, "contents": self.contents}
        kept = {name: {each: value[each] for each in value if each not in undone} for name, value in fields.items()}
        return self.model_copy(update=kept)

    def cache_identity(self, artifact: Artifact) -> str:
        """Return what identifies the content of an artifact: its key, or the hash of a provided text.

        Raises:
            ArtifactError: the artifact is neither provided nor made.
        """
        identity = self.request.provided.get(artifact) or self.artifact_keys.get(artifact)
        if identity is None:
            raise ArtifactError(f"the {artifact.value} is missing; an earlier stage was left out")
        return identity


class State(StrEnum):
    """The state of a job. Derived from the record, never stored."""

    QUEUED = "queued"
    """Recorded; no stage has started."""
    RUNNING = "running"
    """At least one stage has started; between two stages the job waits in a queue."""
    SUCCEEDED = "succeeded"
    """The artifact that was asked for is stored."""
    FAILED = "failed"
    """A stage failed, or its attempts are used up. The record holds the error."""
    CANCELLED = "cancelled"
    """The user cancelled the job."""
    EXPIRED = "expired"
    """Not started within `start_timeout`, or not finished within `deadline`."""


TERMINAL = frozenset({State.SUCCEEDED, State.FAILED, State.CANCELLED, State.EXPIRED})


class ErrorInfo(Frozen):
    """Why a job failed."""

    stage: Stage | None
    """The stage that failed, if one was running."""
    code: str
    """The error code, for programs."""
    message: str
    """The error message, for people."""


class JobStatus(Frozen):
    """A job's record at one moment. Times are those of the Redis server, in UTC."""

    id: str
    """The id of the job: 32 hex digits."""
    state: State
    """The state of the job."""
    stages: tuple[Stage, ...]
    """The stages of the job, in running order."""
    stage: Stage | None = None
    """The last stage that was started; None if no stage has started."""
    stage_index: int = 0
    """The index of that stage in `stages`, from 0."""
    step: int = 0
    """The steps that are done in the current stage."""
    steps: int = 0
    """All steps of the current stage; 0 before the first one is reported."""
    progress: float = 0.0
    """Progress over all stages, 0 to 1."""
    worker: str | None = None
    """The id of the worker that started the current stage. It may be gone."""
    timings: dict[Stage, float] = Field(default_factory=dict)
    """Seconds of each finished stage."""
    waits: dict[Stage, float] = Field(default_factory=dict)
    """Seconds for which each stage waited in its queue before it was last started."""
    cache_hits: tuple[Stage, ...] = ()
    """The finished stages whose artifacts already existed."""
    created_artifacts: tuple[Artifact, ...] = ()
    """The artifacts that this job had to make."""
    attempts: dict[Stage, int] = Field(default_factory=dict)
    """How often each stage was started."""
    retries: int = 0
    """How often a stage waited because S3 did not answer."""
    refused_by: dict[Stage, tuple[str, ...]] = Field(default_factory=dict)
    """The names of the workers that could not run a stage for a reason of their own, by stage."""
    refusal: ErrorInfo | None = None
    """Why the last of them could not run the stage that the job waits for or that runs now. None if none did."""
    error: ErrorInfo | None = None
    """Why the job failed; None if it did not fail."""
    artifact_keys: ArtifactKeys = Field(default_factory=dict)
    """The keys of the artifacts that exist so far."""
    contents: dict[Artifact, Content] = Field(default_factory=dict)
    """The SHA-256 and the length in bytes of what was stored at these keys: "<64 hex digits> <bytes>"."""
    request: EditRequest
    """The request, with all defaults resolved."""
    options: JobOptions = JobOptions()
    """The options of the job."""
    deliveries: tuple[Delivery, ...] = ()
    """What became of the events that are sent to the job's webhook."""
    contract: int = 1
    """The lowest contract that can serve the job. Workers of older versions leave it to newer ones."""
    created_at: datetime
    """When the job was submitted."""
    started_at: datetime | None = None
    """When the first stage started; None if no stage has started."""
    finished_at: datetime | None = None
    """When the job ended; None if it has not ended."""
    position: int | None = None
    """Jobs that are ahead in the queue. Known if asked for (`JobHandle.status(queue=True)`) and while the job waits."""
    eta: float | None = None
    """Seconds until the job is done, estimated from what stages of the profile took before. None if it is not known.

    While the job waits, it is known only if asked for (`JobHandle.status(queue=True)`).
    """

    @property
    def owner(self) -> str | None:
        """Whose the job is; None if it has no owner."""
        return self.options.owner

    @property
    def tags(self) -> dict[str, str]:
        """The labels of the job."""
        return self.options.tags

    @property
    def is_terminal(self) -> bool:
        """Whether the job has ended: it succeeded, failed, was cancelled or expired."""
        return self.state in TERMINAL

    @property
    def expires_at(self) -> datetime | None:
        """When the job expires if nothing happens before; None if it does not expire."""
        limits = [None if self.started_at else self.options.start_timeout, self.options.deadline]
        seconds = [limit for limit in limits if limit is not None]
        return self.created_at + timedelta(seconds=min(seconds)) if seconds else None

    @property
    def is_overdue(self) -> bool:
        """Whether the job should have expired by this host's clock. Only the server's clock decides."""
        return not self.is_terminal and self.expires_at is not None and self.expires_at <= datetime.now(UTC)

    def _repr_html_(self) -> str:
        """Return what a notebook shows of the job."""
        facts: dict[str, object] = {"job": self.id, "state": self.state.value}
        if self.stage and not self.is_terminal:
            facts["stage"] = f"{self.stage.value}, step {self.step} of {self.steps}"
        for stage, seconds in self.timings.items():
            facts[stage.value] = f"{seconds:.2f} s{' (cached)' if stage in self.cache_hits else ''}"
        if self.error:
            facts["error"] = f"{self.error.code}: {self.error.message}"
        return facts_html(facts, None if self.is_terminal else self.progress)

    @property
    def job(self) -> Job:
        """The job as its stages see it."""
        return Job(
            id=self.id,
            request=self.request,
            options=self.options,
            artifact_keys=self.artifact_keys,
            contents=self.contents,
        )
