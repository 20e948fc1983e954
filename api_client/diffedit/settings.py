"""The settings of a client. A worker has more: `diffedit_worker.settings`. Only these two read the environment."""

import os
from collections.abc import Mapping
from typing import Literal, Self
from urllib.parse import urlsplit

from pydantic import (
    AliasChoices,
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic.fields import FieldInfo

from diffedit.contract.validation import ProfileName, explain
from diffedit.decoding import MAX_PIXELS
from diffedit.errors import InvalidRequest
from diffedit.logs import LogFormat
from diffedit.pictures import MIN_SIDE
from diffedit.redis_url import RedisUrl, is_malformed, parse_redis_url, with_password


class Settings(BaseModel):
    """Where the services are, and how this process uses them.

    `Settings.from_env()` reads each field from the variable that is named as its alias. `Settings(redis_url=...)` takes
    the fields by name. Without AWS keys boto3 looks for them in its usual places (profile, instance role).
    """

    # An invalid value may contain a password.
    model_config = ConfigDict(frozen=True, populate_by_name=True, extra="forbid", hide_input_in_errors=True)

    redis_password: SecretStr | None = Field(default=None, validation_alias="DIFFEDIT_REDIS_PASSWORD")
    """The password of Redis, with any characters. It becomes part of `redis_url`, unless that has a password."""
    redis_url: SecretStr = Field(
        default=SecretStr("redis://127.0.0.1:6379/0"), validation_alias="DIFFEDIT_REDIS_URL", validate_default=True
    )
    """The broker and the job records: redis:// or, with TLS, rediss://.

    With Sentinel: redis+sentinel://[user:password@]host:26379,host:26379,host:26379/NAME/db, or rediss+sentinel:// with
    TLS for sentinels and servers. NAME is what the sentinels call the primary. User and password are those of the
    servers; for those of the sentinels add ?sentinel_username=...&sentinel_password=...
    """
    s3_bucket: str = Field(default="diffedit", validation_alias="DIFFEDIT_S3_BUCKET", min_length=3, max_length=63)
    """The bucket for pictures and artifacts."""
    s3_endpoint_url: str | None = Field(
        default=None,
        validation_alias=AliasChoices("DIFFEDIT_S3_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"),
    )
    """The URL of the S3 server, if it is not AWS."""
    s3_public_url: str | None = Field(default=None, validation_alias="DIFFEDIT_S3_PUBLIC_URL")
    """Client: the URL at which browsers reach the S3 server. Links are signed for it. Default: the URL above.

    A proxy in between must pass on the host name and the path as they are, because both are part of the signature.
    """
    s3_upload_method: Literal["put", "post"] = Field(default="put", validation_alias="DIFFEDIT_S3_UPLOAD_METHOD")
    """Client: how browsers send pictures to the bucket. All servers take "put"; AWS and some others take "post" too."""
    aws_access_key_id: str | None = Field(default=None, validation_alias="AWS_ACCESS_KEY_ID")
    """As for any S3 program. If it is unset, boto3 searches in its usual places."""
    aws_secret_access_key: SecretStr | None = Field(default=None, validation_alias="AWS_SECRET_ACCESS_KEY")
    """As for any S3 program."""
    aws_session_token: SecretStr | None = Field(default=None, validation_alias="AWS_SESSION_TOKEN")
    """As for any S3 program."""
    aws_region: str | None = Field(default=None, validation_alias=AliasChoices("AWS_REGION", "AWS_DEFAULT_REGION"))
    """The region of the bucket."""

    s3_addressing_style: Literal["path", "virtual", "auto"] | None = Field(
        default=None, validation_alias="DIFFEDIT_S3_ADDRESSING_STYLE"
    )
    """Where a request names the bucket: in the path, or in the host name ("virtual"). "auto" leaves it to boto3."""

    profile: ProfileName | None = Field(default=None, validation_alias="DIFFEDIT_PROFILE")
    """Client: the profile of jobs that name none. Worker: the profile that it serves."""
    max_queued: int = Field(default=10_000, validation_alias="DIFFEDIT_MAX_QUEUED", ge=1)
    """How many jobs may wait in a lane of a profile. A further job is rejected (QueueFull)."""
    max_connections: int = Field(default=20, validation_alias="DIFFEDIT_MAX_CONNECTIONS", ge=4)
    """The most connections to Redis that a client opens. A thread waits up to 10 s if all of them are in use.

    An `AsyncClient` makes its calls in half as many threads.
    """
    retention: int = Field(default=7 * 24 * 3600, validation_alias="DIFFEDIT_RETENTION", ge=60)
    """Seconds for which the record of a job is kept after it has ended."""

    max_pixels: int = Field(default=MAX_PIXELS, validation_alias="DIFFEDIT_MAX_PIXELS", ge=MIN_SIDE**2, le=MAX_PIXELS)
    """Pixels of a picture that a user sends, at most. It can only be lowered; use the same number everywhere."""

    namespace: str = Field(default="", validation_alias="DIFFEDIT_NAMESPACE", pattern=r"^[A-Za-z0-9._-]{0,64}$")
    """Client: the scope of its idempotency keys. Give each application that shares the Redis its own."""

    log_format: LogFormat = Field(default="text", validation_alias="DIFFEDIT_LOG_FORMAT")
    """How workers, web server, exporter and sender of webhooks log: as "text", or as "json", one object a line."""

    webhook_secrets: SecretStr | None = Field(default=None, validation_alias="DIFFEDIT_WEBHOOK_SECRETS")
    """What webhooks are signed with: `whsec_` and 24 to 64 bytes as Base64. `diffedit webhooks --new-secret` makes one.

    Several, separated by commas, are in force together, so that a receiver can change from the old one to the new one.
    Jobs with an owner are signed with a secret that is derived from it for this owner (`Client.webhook_secrets`).
    """
    webhook_allow: str = Field(default="", validation_alias="DIFFEDIT_WEBHOOK_ALLOW")
    """Networks with private addresses to which webhooks may be sent, such as "10.1.0.0/16, ::1/128". Default: none."""

    @property
    def redis(self) -> RedisUrl:
        """What `redis_url` says, in its parts."""
        return parse_redis_url(self.redis_url.get_secret_value())

    @property
    def addressing_style(self) -> str:
        """The addressing style in force. Self-hosted servers rarely have wildcard DNS, so theirs is "path"."""
        return self.s3_addressing_style or ("path" if self.s3_endpoint_url else "auto")

    @property
    def public_addressing_style(self) -> str:
        """The addressing style of links for browsers: `s3_public_url` names the server, not the bucket."""
        return self.s3_addressing_style or ("path" if self.s3_public_url else self.addressing_style)

    @field_validator("redis_url")
    @classmethod
    def _check_redis_url(cls, url: SecretStr, info: ValidationInfo) -> SecretStr:
        parse_redis_url(url.get_secret_value())
        password: SecretStr | None = info.data.get("redis_password")
        return SecretStr(with_password(url.get_secret_value(), password.get_secret_value())) if password else url

    @field_validator("s3_endpoint_url", "s3_public_url")
    @classmethod
    def _check_s3_url(cls, url: str | None, info: ValidationInfo) -> str | None:
        if url and is_malformed(url, "http", "https"):
            raise ValueError("must be http://host:port or https://host")
        if url and "@" in urlsplit(url).netloc:
            raise ValueError("must not contain a password; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY instead")
        if url and (urlsplit(url).path.strip("/") or urlsplit(url).query):
            if info.field_name == "s3_public_url":
                raise ValueError(
                    "must end with the host or the port; behind a path S3 would see another path than the signed one, "
                    "so give the server a host name or a port of its own"
                )
            raise ValueError("must end with the host or the port; the name of the bucket goes into DIFFEDIT_S3_BUCKET")
        return url

    @classmethod
    def from_env(cls, environ: Mapping[str, str] = os.environ) -> Self:
        """Return the settings of this environment. A variable that is set to "" counts as unset.

        Raises:
            InvalidRequest: a variable has an invalid value. The message names the variable.
        """
        # Of several variables for one field the first one counts; the others may be set as well.
        given = [[name for name in _variables(field) if environ.get(name)] for field in cls.model_fields.values()]
        try:
            return cls.model_validate({names[0]: environ[names[0]] for names in given if names})
        except ValidationError as error:
            raise InvalidRequest(f"the environment is not usable: {explain(error)}") from None


def _variables(field: FieldInfo) -> list[str]:
    """Return the environment variables of a field, in order of precedence."""
    alias = field.validation_alias
    return [str(choice) for choice in alias.choices] if isinstance(alias, AliasChoices) else [str(alias)]
