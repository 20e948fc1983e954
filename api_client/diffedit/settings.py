"""One frozen settings object; the environment is read here and nowhere else."""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Self
from urllib.parse import parse_qs, urlsplit

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator

from diffedit.contract.stages import Stage
from diffedit.contract.validation import ProfileName, explain
from diffedit.errors import InvalidRequest


class Settings(BaseModel):
    """Where the services are, and how this process uses them.

    Each field is read from the variable named as its alias (`Settings.from_env()`) or given by name
    (`Settings(redis_url=...)`). Without AWS keys boto3 looks for them where it always does (profile, instance role).
    """

    # A value that is refused may hold a password.
    model_config = ConfigDict(frozen=True, populate_by_name=True, extra="ignore", hide_input_in_errors=True)

    redis_url: SecretStr = Field(SecretStr("redis://127.0.0.1:6379/0"), alias="DIFFEDIT_REDIS_URL")
    """The broker and the job records: redis:// or, with TLS, rediss://."""
    s3_bucket: str = Field("diffedit", alias="DIFFEDIT_S3_BUCKET", min_length=3, max_length=63)
    """The bucket for pictures and artifacts."""
    s3_endpoint_url: str | None = Field(
        None, validation_alias=AliasChoices("DIFFEDIT_S3_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
    )
    """The URL of the S3 server, if it is not AWS."""
    aws_access_key_id: str | None = Field(None, alias="AWS_ACCESS_KEY_ID")
    """As for any S3 program. If it is unset, boto3 searches in its usual places."""
    aws_secret_access_key: SecretStr | None = Field(None, alias="AWS_SECRET_ACCESS_KEY")
    """As for any S3 program."""
    aws_session_token: SecretStr | None = Field(None, alias="AWS_SESSION_TOKEN")
    """As for any S3 program."""
    aws_region: str | None = Field(None, validation_alias=AliasChoices("AWS_REGION", "AWS_DEFAULT_REGION"))
    """The region of the bucket."""

    profile: ProfileName | None = Field(None, alias="DIFFEDIT_PROFILE")
    """Client: the model profile of jobs that name none. Worker: the profile that it serves."""
    profiles_file: Path | None = Field(None, alias="DIFFEDIT_PROFILES")
    """Worker: a TOML file with further profiles."""
    device: str | None = Field(None, alias="DIFFEDIT_DEVICE")
    """Worker: "cuda", "cuda:1", "mps", "cpu"; None takes the best there is."""
    preload: bool = Field(False, alias="DIFFEDIT_PRELOAD")
    """Worker: load the models of its queues before it takes a job, and do not start if one cannot be loaded.

    Off unless asked for: a worker at a desk reads all queues, and jobs that bring their own prompts need neither
    captioner nor prompter ("sd21": 1 billion parameters to download and hold).
    """
    max_queued: int = Field(10_000, alias="DIFFEDIT_MAX_QUEUED", ge=1)
    """Client: how many jobs may wait in the lane of a profile before a further one is refused (QueueFull)."""
    max_connections: int = Field(20, alias="DIFFEDIT_MAX_CONNECTIONS", ge=4)
    """How many connections to Redis a process opens at most. Threads that find all of them in use wait for one."""
    retention: int = Field(7 * 24 * 3600, alias="DIFFEDIT_RETENTION", ge=60)
    """Seconds for which the record of an ended job is kept."""
    worker_ttl: float = Field(20, alias="DIFFEDIT_WORKER_TTL", ge=1)
    """Worker: seconds without a sign of life after which it counts as dead, and its job goes to another."""
    max_attempts: int = Field(3, alias="DIFFEDIT_MAX_ATTEMPTS", ge=1)
    """Worker: how often a stage of a job is begun before the job fails; leaving in good order does not count."""
    cache_bytes: int = Field(128 * 2**20, alias="DIFFEDIT_CACHE_BYTES", ge=0)
    """Worker: how much of what went through it is remembered, so that the job's next stage need not download it."""
    s3_retry_timeout: float = Field(60, alias="DIFFEDIT_S3_RETRY_TIMEOUT", ge=0)
    """Worker: seconds for which a stage waits for S3 to answer, before it is given up and counts as an attempt."""
    stage_timeout: float = Field(1800, alias="DIFFEDIT_STAGE_TIMEOUT", gt=0)
    """Worker: seconds after which a stage counts as stuck; the worker's process ends and the job is tried again."""
    stage_timeouts: dict[Stage, Annotated[float, Field(gt=0)]] = Field({}, alias="DIFFEDIT_STAGE_TIMEOUTS")
    """Worker: where it differs from that, like "caption=60,edit=3600"."""

    def timeout_of(self, stage: Stage) -> float:
        """Seconds after which this stage counts as stuck."""
        return self.stage_timeouts.get(stage, self.stage_timeout)

    @property
    def publisher_connections(self) -> int:
        """How many of `max_connections` are for sending messages; kombu opens two for each of its own."""
        return max(1, self.max_connections // 8)

    @field_validator("stage_timeouts", mode="before")
    @classmethod
    def _pairs(cls, text: object) -> object:
        return dict(pair.partition("=")[::2] for pair in text.split(",")) if isinstance(text, str) else text

    @field_validator("redis_url")
    @classmethod
    def _a_redis_url(cls, url: SecretStr) -> SecretStr:
        if _broken(url.get_secret_value(), "redis", "rediss"):
            raise ValueError("must be redis://[:password@]host:port/db, special characters of the password as %XX")
        parts = urlsplit(url.get_secret_value())
        # Of other options, redis-py and kombu understand different ones.
        options = [name for name in parse_qs(parts.query) if not name.startswith("ssl_")]
        if options or not re.fullmatch(r"(/\d*)?", parts.path):
            raise ValueError("must end with the number of the database, or with ?ssl_ca_certs=... or the like after it")
        return url

    @field_validator("s3_endpoint_url")
    @classmethod
    def _an_http_url(cls, url: str | None) -> str | None:
        if url and _broken(url, "http", "https"):
            raise ValueError("must be http://host:port or https://host")
        if url and "@" in urlsplit(url).netloc:
            raise ValueError("must hold no password, which S3 does not ask for; AWS_SECRET_ACCESS_KEY is the place")
        return url

    @classmethod
    def from_env(cls, environ: Mapping[str, str] = os.environ) -> Self:
        """The settings of this environment; a variable set to "" counts as unset.

        Raises:
            InvalidRequest: a variable has a value that cannot be; the message names it.
        """
        try:
            return cls.model_validate({name: value for name, value in environ.items() if value})
        except ValidationError as error:
            raise InvalidRequest(f"the environment is not usable: {explain(error)}") from None


def _broken(url: str, *schemes: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme not in schemes or not (parts.hostname or parts.path) or (parts.port or 1) < 1
    except ValueError:  # a port that is no number, brackets that do not close
        return True
