"""The object store in S3."""

import functools
import math
from collections.abc import Callable
from contextlib import closing, suppress
from datetime import UTC, datetime, timedelta
from typing import Any, ParamSpec, TypeVar

from diffedit.contract.object_keys import FOLDERS
from diffedit.errors import ArtifactError, StoreRefused, StoreUnavailable
from diffedit.objects.store import Stored, check_content, check_size
from diffedit.settings import Settings

P = ParamSpec("P")
R = TypeVar("R")

CONTENT_TYPES = {
    "png": "image/png",
    "jpg": "image/jpeg",
    "webp": "image/webp",
    "json": "application/json",
    "safetensors": "application/octet-stream",
}
SMALL = 2**20
"""Bytes that are sent without asking first."""
BREAKS = 2
"""Downloads in a row that may break off before it counts as an outage."""


def _speaking(method: Callable[P, R]) -> Callable[P, R]:
    """boto3's own errors, as ours; boto3 has retried by then."""

    @functools.wraps(method)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
        from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, PartialCredentialsError
        from urllib3.exceptions import HTTPError

        try:
            return method(*args, **kwargs)
        except ClientError as error:
            code = error.response.get("Error", {}).get("Code", "unknown")
            status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
            if code in ("NoSuchKey", "404", "NotFound"):
                raise ArtifactError("nothing is stored under this key; it was deleted or never made") from error
            # A request that came too slowly is answered with 400, too.
            if status in (400, 401, 403, 404) and code != "RequestTimeout":
                raise StoreRefused(f"S3 refuses ({code}); check the AWS keys and DIFFEDIT_S3_BUCKET") from error
            raise StoreUnavailable(f"S3 cannot serve us now ({code})") from error
        except (NoCredentialsError, PartialCredentialsError) as error:
            raise StoreRefused(
                "no AWS keys; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a profile or role that boto3 finds"
            ) from error
        except (BotoCoreError, HTTPError) as error:  # urllib3's own, where a refusal breaks off in the middle
            raise StoreUnavailable(f"S3 does not answer: {error}; check DIFFEDIT_S3_ENDPOINT_URL") from error

    return guarded


def _no_permission_to_send(request: Any, **_: Any) -> None:
    """boto3 asks the server before it sends a body (`Expect: 100-continue`): a round trip more, which a large body that
    is refused is worth, and a small one is not."""
    if len(request.data.getbuffer()) <= SMALL:
        del request.headers["Expect"]


class S3ObjectStore:
    """A bucket on any S3 server."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._bucket = settings.s3_bucket

    @functools.cached_property
    def _s3(self) -> Any:
        # boto3 costs 0.2 s to import; a client that only polls never needs it.
        import boto3
        from botocore.config import Config

        settings = self._settings
        secret, token = settings.aws_secret_access_key, settings.aws_session_token
        session = boto3.session.Session()
        s3 = session.client(
            "s3",
            endpoint_url=settings.s3_endpoint_url,
            region_name=settings.aws_region or session.region_name or "us-east-1",
            aws_access_key_id=settings.aws_access_key_id,
            aws_secret_access_key=secret and secret.get_secret_value(),
            aws_session_token=token and token.get_secret_value(),
            config=Config(
                # Without "s3v4" boto3 presigns in a form that rclone and newer regions refuse.
                signature_version="s3v4",
                # Self-hosted servers rarely have wildcard DNS; AWS proper is left to boto3.
                s3={"addressing_style": "path" if settings.s3_endpoint_url else "auto"},
                retries={"mode": "standard", "max_attempts": 4},
                connect_timeout=5,
                read_timeout=30,
                # A worker's stages and a client's threads share this one client.
                max_pool_connections=16,
                # Only what the operation requires: several S3 servers choke on the trailing checksums sent otherwise.
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
            ),
        )
        s3.meta.events.register("before-sign.s3.PutObject", _no_permission_to_send)
        return s3

    @_speaking
    def put(self, key: str, data: bytes) -> None:
        content_type = CONTENT_TYPES[key.rpartition(".")[2]]
        self._s3.put_object(Bucket=self._bucket, Key=key, Body=data, ContentType=content_type)

    @_speaking
    def get(self, key: str) -> bytes:
        from botocore.exceptions import IncompleteReadError, ResponseStreamingError

        # boto3 tries again until an answer begins; one that breaks off in the middle is left to us.
        for _ in range(BREAKS):
            with suppress(IncompleteReadError, ResponseStreamingError):
                return self._read(key)
        return self._read(key)

    def _read(self, key: str) -> bytes:
        answer = self._s3.get_object(Bucket=self._bucket, Key=key)
        # Not the body's own `with`, which gives the raw stream, whose errors are not boto3's.
        with closing(answer["Body"]) as body:
            check_size(key, answer.get("ContentLength", math.inf))
            data: bytes = body.read()
        check_content(key, data)
        return data

    @_speaking
    def exists(self, key: str) -> bool:
        from botocore.exceptions import ClientError

        try:
            self._s3.head_object(Bucket=self._bucket, Key=key)
        except ClientError as error:
            if error.response.get("ResponseMetadata", {}).get("HTTPStatusCode") == 404:
                return False
            raise
        return True

    @_speaking
    def delete(self, key: str) -> None:
        self._s3.delete_object(Bucket=self._bucket, Key=key)

    @_speaking
    def older_than(self, age: timedelta) -> list[Stored]:
        before = datetime.now(UTC) - age
        paginator = self._s3.get_paginator("list_objects_v2")
        return [
            Stored(each["Key"], each["Size"])
            for folder in FOLDERS
            for page in paginator.paginate(Bucket=self._bucket, Prefix=folder)
            for each in page.get("Contents", ())
            if each["LastModified"] < before
        ]

    @_speaking
    def url(self, key: str, expires: int) -> str:
        params = {"Bucket": self._bucket, "Key": key}
        link: str = self._s3.generate_presigned_url("get_object", Params=params, ExpiresIn=expires)
        return link

    @_speaking
    def ping(self) -> None:
        from botocore.exceptions import ClientError

        try:
            self._s3.head_bucket(Bucket=self._bucket)
        except ClientError as error:
            if error.response.get("ResponseMetadata", {}).get("HTTPStatusCode") == 404:
                raise StoreRefused(f"no bucket {self._bucket!r}; create it, or check DIFFEDIT_S3_BUCKET") from error
            raise
