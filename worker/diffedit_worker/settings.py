"""What only a worker reads from its environment."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from diffedit.contract.stages import Stage
from diffedit.jobs.workers import WorkerLimits
from diffedit.settings import Settings
from diffedit.status_server import ALL_ADDRESSES

Seconds = Annotated[float, Field(gt=0)]
Dtype = Literal["float32", "float16", "bfloat16"]


class StageTimeouts(BaseModel):
    """Seconds without a step after which a stage counts as stuck: `default`, or the stage's own number in `stages`."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    default: Seconds = 1800
    stages: dict[Stage, Seconds] = Field(default_factory=dict)

    def of(self, stage: Stage) -> float:
        return self.stages.get(stage, self.default)


class WorkerSettings(Settings):
    """Where the services are, and how a worker works.

    `WorkerSettings.from_env()` reads each field from the variable that is named as its alias.
    """

    profiles_file: Path | None = Field(default=None, validation_alias="DIFFEDIT_PROFILES")
    """A TOML file with more profiles."""
    device: str | None = Field(default=None, validation_alias="DIFFEDIT_DEVICE")
    """"cuda", "cuda:1", "mps" or "cpu". If it is unset, the worker chooses the best device of the machine."""
    dtype: Dtype | None = Field(default=None, validation_alias="DIFFEDIT_DTYPE")
    """The number type of the models: "float32", "float16" or "bfloat16". Unset: float16 on CUDA, else float32.

    It is part of the cache keys, because the results depend on it. The VAE has a number type of its own.
    """
    vae_dtype: Dtype = Field(default="float32", validation_alias="DIFFEDIT_VAE_DTYPE")
    """The number type of the VAE. In float16, the VAE of Stable Diffusion 2.1 returns NaN for some pictures.

    It is part of the cache keys of mask, inversion and edit if it is not that of the other models.
    """
    preload: bool = Field(default=False, validation_alias="DIFFEDIT_PRELOAD")
    """Load the models of the worker's queues before it takes a job, and do not start if one cannot be loaded.

    `diffedit worker` has the options --preload and --no-preload instead. Off by default: a worker on a developer's
    machine reads all queues, and jobs that bring their own prompts need neither captioner nor prompter ("sd21": 1
    billion parameters to download and hold).
    """
    batch_jobs: int | None = Field(default=None, validation_alias="DIFFEDIT_BATCH_JOBS", ge=1, le=64)
    """How many stages a worker runs at once. Those that call the same UNet share its passes.

    Unset: what suits the device and the profile (`cpu_jobs` on a CPU, 4 on CUDA). With 1, a result is equal to the last
    bit whenever it is made; otherwise its rounding depends on the jobs beside it. `diffedit worker` has the option
    --batch-jobs instead.
    """
    drain: Literal["step", "stage"] = Field(default="step", validation_alias="DIFFEDIT_DRAIN")
    """What a worker does with its running stages on SIGTERM, "step" or "stage". It takes no more messages.

    "step" stops them at their next step, and other workers start them again: for a machine that disappears soon.
    "stage" lets them end: for scale-in. Give the process as long as the longest stage takes. A second SIGTERM stops
    them at their next step.
    """
    worker_ttl: float = Field(default=20, validation_alias="DIFFEDIT_WORKER_TTL", ge=1, le=86400)
    """Seconds without a heartbeat after which a worker counts as dead and its jobs go to other workers."""
    max_attempts: int = Field(default=3, validation_alias="DIFFEDIT_MAX_ATTEMPTS", ge=1)
    """How often a stage of a job is started before the job fails. A regular shutdown of a worker does not count."""
    refusal_patience: float = Field(default=300, validation_alias="DIFFEDIT_REFUSAL_PATIENCE", ge=0, le=31536000)
    """Seconds after which a job fails that is refused once more and that no other live worker can try.

    It fails sooner if three different workers could not run it. While a worker is left that has not tried, it waits.
    """
    batch_age: float = Field(default=3600, validation_alias="DIFFEDIT_BATCH_AGE", ge=1, le=31536000)
    """Seconds after which a batch job takes turns with interactive ones: one stage in four, until it has ended.

    Before that, a stage of a batch job starts only while no interactive job waits. The leader among the workers
    decides, so give all of them the same value.
    """
    cache_bytes: int = Field(default=128 * 2**20, validation_alias="DIFFEDIT_CACHE_BYTES", ge=0)
    """How many bytes of artifacts a worker keeps in memory, so that the next stage need not download them."""
    s3_retry_timeout: float = Field(default=60, validation_alias="DIFFEDIT_S3_RETRY_TIMEOUT", ge=0, le=31536000)
    """Seconds for which a stage waits for an S3 server that does not answer. Then the attempt has failed."""
    stage_timeouts: StageTimeouts = Field(default=StageTimeouts(), validation_alias="DIFFEDIT_STAGE_TIMEOUT")
    """Seconds without a step after which a stage counts as stuck: "1800", or "1800,caption=60" for single stages.

    The process of a worker with a stuck stage ends, and another worker tries the stage again. While models are
    downloaded or loaded, no stage counts as stuck.
    """

    metrics_port: int | None = Field(default=None, validation_alias="DIFFEDIT_METRICS_PORT", ge=0, le=65535)
    """A port on which the worker serves its metrics (`/metrics`) and probes (`/livez`, `/readyz`).

    0 takes a free port, which the log names.

    Unset: it serves none. Workers on the same machine need different ports.
    """
    metrics_host: str = Field(default=ALL_ADDRESSES, validation_alias="DIFFEDIT_METRICS_HOST", min_length=1)
    """The address on which it serves them: that of one network, "::" for IPv6, or all of IPv4 by default."""
    heartbeat_file: Path | None = Field(default=None, validation_alias="DIFFEDIT_HEARTBEAT_FILE")
    """A file that the worker writes every 5 s, for `diffedit alive`. Each worker needs a file of its own.

    Unset: it writes none.
    """

    @field_validator("stage_timeouts", mode="wrap")
    @classmethod
    def _parse_stage_timeouts(cls, value: Any, validate: Callable[[Any], StageTimeouts]) -> StageTimeouts:
        try:
            return validate(_table_of(value) if isinstance(value, str | int | float) else value)
        except (ValidationError, ValueError):
            stages = ", ".join(stage.value for stage in Stage)
            form = "must be seconds, then perhaps seconds for single stages, like 1800 or 1800,caption=60,edit=3600"
            raise ValueError(f"{form}; the stages are {stages}") from None

    @property
    def limits(self) -> WorkerLimits:
        """What the job backend of a worker must know."""
        return WorkerLimits(
            self.max_attempts,
            self.worker_ttl,
            refusal_patience=self.refusal_patience,
            batch_age=self.batch_age,
        )


def _table_of(text: str | float) -> dict[str, Any]:
    """Return the fields of `StageTimeouts` that "1800,caption=60" stands for."""
    default, *pairs = str(text).split(",")
    return {"default": default, "stages": dict(pair.split("=") for pair in pairs)}
