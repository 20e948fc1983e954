"""The object store in S3."""

import functools
import math
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from importlib import import_module
from typing import Any, ParamSpec, TypeVar

from diffedit.contract.object_keys import CONTENT_TYPES, FOLDERS, INPUTS
from diffedit.errors import StoreRefused
from diffedit.forks import PerProcess
from diffedit.objects.links import UploadUrl
from diffedit.objects.store import Stored, check_content, check_size
from diffedit.retries import DOWNLOAD_ATTEMPTS, S3_ATTEMPTS, S3_SECONDS, repeated
from diffedit.settings import Settings

P = ParamSpec("P")
R = TypeVar("R")

SMALL = 2**20
"""Bytes of a body that is sent without `Expect: 100-continue`."""
_MOST_DELETED = 1000
"""Objects that S3 deletes in one request, at most."""
_STARTED = "diffedit_started"
"""When a request began, in boto3's context of it."""


_boto3 = PerProcess(lambda: import_module("boto3"))
"""boto3, which takes 0.2 s to import: a client that only polls never needs it. A fork waits for the import."""


def translate_errors(method: Callable[P, R]) -> Callable[P, R]:
    """Raise our errors instead of boto3's. boto3 has retried before."""

    @functools.wraps(method)
    def translated(*args: P.args, **kwargs: P.kwargs) -> R:
        _boto3()
        from diffedit.objects import s3_errors

        try:
            return method(*args, **kwargs)
        except s3_errors.ERRORS as error:
            raise s3_errors.translated(error) from error

    return translated


def _send_small_bodies_at_once(request: Any, **_: Any) -> None:
    """Drop `Expect: 100-continue` for small bodies: it saves a round trip. Links have neither the header nor a body."""
    if "Expect" in request.headers and len(request.data.getbuffer()) <= SMALL:
        del request.headers["Expect"]


def _note_start(context: dict[str, Any], **_: Any) -> None:
    context[_STARTED] = time.monotonic()


def _end_attempts(request_dict: dict[str, Any], caught_exception: Exception | None, **_: Any) -> None:
    """Let no further attempt begin after `S3_SECONDS`. boto3 counts attempts, and each may take its whole timeout."""
    if caught_exception and time.monotonic() - request_dict["context"][_STARTED] > S3_SECONDS:
        raise caught_exception


def _boto3_client(settings: Settings, endpoint_url: str | None, addressing_style: str) -> Any:
    from botocore.config import Config

    secret, token = settings.aws_secret_access_key, settings.aws_session_token
    session = _boto3().session.Session()
    s3 = session.client(
        "s3",
        endpoint_url=endpoint_url,
        region_name=settings.aws_region or session.region_name or "us-east-1",
        aws_access_key_id=settings.aws_access_key_id,
        aws_secret_access_key=secret and secret.get_secret_value(),
        aws_session_token=token and token.get_secret_value(),
        config=Config(
            # boto3 composes its own anew, twice for each request, which takes a tenth of the request's CPU time.
            user_agent=f"diffedit boto3/{_boto3().__version__}",
            # Without "s3v4" boto3 presigns in a form that rclone and newer AWS regions refuse.
            signature_version="s3v4",
            s3={"addressing_style": addressing_style},
            retries={"mode": "standard", "max_attempts": S3_ATTEMPTS},
            connect_timeout=5,
            read_timeout=S3_SECONDS,
            # The stages of a worker, or the threads of a program, share this one boto3 client.
            max_pool_connections=16,
            # Several S3 servers refuse the trailing checksums that boto3 sends otherwise.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        ),
    )
    s3.meta.events.register("before-sign.s3.PutObject", _send_small_bodies_at_once)
    s3.meta.events.register("before-call.s3", _note_start)
    s3.meta.events.register_first("needs-retry.s3", _end_attempts)
    return s3


class S3ObjectStore:
    """An `ObjectStore` in a bucket of any S3 server, for any thread."""

    def __init__(self, settings: Settings) -> None:
        self._bucket = settings.s3_bucket
        self._upload_method = settings.s3_upload_method
        places = settings.s3_endpoint_url, settings.addressing_style
        self._client = PerProcess(functools.partial(_boto3_client, settings, *places))
        # Signs links and sends nothing.
        public = settings.s3_public_url or places[0], settings.public_addressing_style
        self._signer = PerProcess(functools.partial(_boto3_client, settings, *public)) if public != places else None

    @property
    def _s3(self) -> Any:
        return self._client()

    @property
    def _public_s3(self) -> Any:
        return (self._signer or self._client)()

    @translate_errors
    def put(self, key: str, data: bytes) -> None:
        self._s3.put_object(Bucket=self._bucket, Key=key, Body=data, ContentType=_content_type(key))

    @translate_errors
    def get(self, key: str) -> bytes:
        from botocore.exceptions import IncompleteReadError, ResponseStreamingError

        # boto3 retries until an answer begins, but not when the body breaks off.
        data: bytes = repeated(DOWNLOAD_ATTEMPTS, IncompleteReadError, ResponseStreamingError)(self._read, key)
        return data

    def _read(self, key: str) -> bytes:
        answer = self._s3.get_object(Bucket=self._bucket, Key=key)
        # The body's own `with` gives urllib3's raw stream, whose errors are not boto3's.
        with closing(answer["Body"]) as body:
            check_size(key, answer.get("ContentLength", math.inf))
            data: bytes = body.read()
        check_content(key, data)
        return data

    @translate_errors
    def exists(self, key: str) -> bool:
        from botocore.exceptions import ClientError

        try:
            self._s3.head_object(Bucket=self._bucket, Key=key)
        except ClientError as error:
            if error.response.get("ResponseMetadata", {}).get("HTTPStatusCode") == 404:
                return False
            raise
        return True

    @translate_errors
    def delete(self, key: str) -> None:
        self._s3.delete_object(Bucket=self._bucket, Key=key)

    @translate_errors
    def delete_all(self, keys: Sequence[str]) -> None:
        for start in range(0, len(keys), _MOST_DELETED):
            objects = [{"Key": key} for key in keys[start : start + _MOST_DELETED]]
            answer = self._s3.delete_objects(Bucket=self._bucket, Delete={"Objects": objects, "Quiet": True})
            # The answer is 200 even if every single object was refused. Some servers ask for a permission for the whole
            # bucket for this request, and not for a single object.
            for refused in answer.get("Errors", ()):
                self._s3.delete_object(Bucket=self._bucket, Key=refused["Key"])

    @translate_errors
    def stored_in(self, folder: str) -> dict[str, float]:
        pages = self._s3.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=folder)
        return {each["Key"]: each["LastModified"].timestamp() for page in pages for each in page.get("Contents", ())}

    @translate_errors
    def older_than(self, age: timedelta, folders: Sequence[str] = FOLDERS) -> list[Stored]:
        before = datetime.now(UTC) - age
        paginator = self._s3.get_paginator("list_objects_v2")
        return [
            Stored(each["Key"], each["Size"])
            for folder in folders
            for page in paginator.paginate(Bucket=self._bucket, Prefix=folder)
            for each in page.get("Contents", ())
            if each["LastModified"] < before
        ]

    @translate_errors
    def url(self, key: str, expires: int, disposition: str | None = None) -> str:
        # A server that loses the content type of an object, or got another one, must not make a page of a picture.
        answer = {"ResponseContentType": _content_type(key), "ResponseContentDisposition": disposition}
        params = {"Bucket": self._bucket, "Key": key, **{name: value for name, value in answer.items() if value}}
        link: str = self._public_s3.generate_presigned_url("get_object", Params=params, ExpiresIn=expires)
        return link

    @translate_errors
    def upload_url(self, key: str, content_type: str, size: int, expires: int) -> UploadUrl:
        expires_at = datetime.now(UTC) + timedelta(seconds=expires)
        if self._upload_method == "post":
            form = self._public_s3.generate_presigned_post(
                self._bucket,
                key,
                Fields={"Content-Type": content_type},
                Conditions=[{"Content-Type": content_type}, ["content-length-range", size, size]],
                ExpiresIn=expires,
            )
            return UploadUrl(
                key=key, method="POST", url=form["url"], fields=form["fields"], size=size, expires_at=expires_at
            )
        # The length is signed as well, so the server refuses a file of any other.
        params = {"Bucket": self._bucket, "Key": key, "ContentType": content_type, "ContentLength": size}
        url = self._public_s3.generate_presigned_url("put_object", Params=params, ExpiresIn=expires)
        headers = {"Content-Type": content_type}
        return UploadUrl(key=key, method="PUT", url=url, headers=headers, size=size, expires_at=expires_at)

    @translate_errors
    def now(self) -> float | None:
        date = self._head_bucket()["ResponseMetadata"]["HTTPHeaders"].get("date")
        return parsedate_to_datetime(date).timestamp() if date else None

    @translate_errors
    def ping(self) -> None:
        self._head_bucket()

    def _head_bucket(self) -> Any:
        from botocore.exceptions import ClientError

        try:
            return self._s3.head_bucket(Bucket=self._bucket)
        except ClientError as error:
            status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
            if status == 404:
                raise StoreRefused(f"no bucket {self._bucket!r}; create it, or check DIFFEDIT_S3_BUCKET") from error
            if status in (400, 401, 403):
                # The answer to a HEAD has no body, so it cannot say whether the keys are wrong or may too little.
                self._s3.list_objects_v2(Bucket=self._bucket, Prefix=INPUTS, Delimiter="/", MaxKeys=1)
            raise

    def close(self) -> None:
        for client in filter(None, (self._client, self._signer)):
            if s3 := client.made:
                s3.close()


def _content_type(key: str) -> str:
    return CONTENT_TYPES[key.rpartition(".")[2]]
