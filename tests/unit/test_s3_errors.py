"""boto3's errors, and what each tells its reader to do."""

import time
from email.utils import formatdate
from typing import Any

import pytest
from botocore.exceptions import (
    ClientError,
    ConnectTimeoutError,
    EndpointConnectionError,
    IncompleteReadError,
    NoCredentialsError,
    ProfileNotFound,
    SSLError,
)
from urllib3.exceptions import ProtocolError

from diffedit.errors import ArtifactMissing, StoreRefused, StoreUnavailable
from diffedit.objects.s3_errors import ERRORS, translated

NOW = float(int(time.time()))


@pytest.fixture(autouse=True)
def now(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stop the clock, because the answers below are made long before the last test of a long run."""
    monkeypatch.setattr(time, "time", lambda: NOW)


def at(seconds: float) -> str:
    """Return a Date header of so many seconds from now."""
    return formatdate(NOW + seconds, usegmt=True)


def answer(status: int, code: str, operation: str = "PutObject", **headers: str) -> ClientError:
    metadata: Any = {"HTTPStatusCode": status, "HTTPHeaders": {"date": at(0), **headers}}
    return ClientError({"Error": {"Code": code}, "ResponseMetadata": metadata}, operation)


REFUSED = [
    (answer(301, "PermanentRedirect", **{"x-amz-bucket-region": "eu-west-1"}), "region, eu-west-1; set AWS_REGION"),
    (answer(301, "301", "HeadBucket"), "another region; set AWS_REGION"),
    (answer(400, "AuthorizationHeaderMalformed"), "another region; set AWS_REGION"),
    (answer(400, "ExpiredToken"), "check the AWS keys$"),
    (answer(403, "InvalidAccessKeyId"), "check the AWS keys$"),
    (answer(403, "SignatureDoesNotMatch"), "check the AWS keys$"),
    (answer(403, "AccessDenied"), "that the keys may s3:PutObject$"),
    (answer(403, "403", "HeadObject"), r"s3:ListBucket \(without the latter, S3 answers so for a missing object"),
    (answer(403, "AccessDenied", "ListObjectsV2"), "that the keys may s3:ListBucket$"),
    (answer(403, "RequestTimeTooSkewed", date=at(-3600)), "3600 s ahead of that of S3"),
    (answer(403, "403", "HeadObject", date=at(1800)), "1800 s behind that of S3"),
    (answer(404, "NoSuchBucket"), "create the bucket"),
    (answer(405, "MethodNotAllowed"), "does not carry out PutObject; check that DIFFEDIT_S3_ENDPOINT_URL"),
    (answer(412, "PreconditionFailed"), "does not carry out PutObject"),
    (answer(413, "EntityTooLarge"), "no object of this size"),
    (answer(501, "NotImplemented"), "does not carry out PutObject"),
    (SSLError(endpoint_url="https://s3", error="[SSL: CERTIFICATE_VERIFY_FAILED] self-signed"), "set AWS_CA_BUNDLE$"),
    (SSLError(endpoint_url="https://s3", error="[Errno 2] No such file or directory"), "file of AWS_CA_BUNDLE"),
    (SSLError(endpoint_url="https://s3", error="[X509: NO_CERTIFICATE_OR_CRL_FOUND]"), "file of AWS_CA_BUNDLE"),
    (SSLError(endpoint_url="https://s3", error="[SSL: WRONG_VERSION_NUMBER]"), "ENDPOINT_URL, http or https$"),
    (answer(400, "InvalidToken"), "check the AWS keys$"),
    (ProfileNotFound(profile="nobody"), "check AWS_PROFILE"),
    (NoCredentialsError(), "no AWS keys"),
]  # fmt: skip
PASSING = [
    answer(400, "RequestTimeout"),
    answer(409, "OperationAborted"),
    answer(429, "TooManyRequests"),
    answer(500, "InternalError"),
    answer(503, "SlowDown"),
    answer(507, "InsufficientStorage"),
    EndpointConnectionError(endpoint_url="http://s3"),
    ConnectTimeoutError(endpoint_url="http://s3"),
    SSLError(endpoint_url="https://s3", error="[SSL: TLSV1_ALERT_INTERNAL_ERROR]"),
    IncompleteReadError(actual_bytes=1, expected_bytes=2),
    ProtocolError("broken"),
]


@pytest.mark.parametrize(("error", "advice"), REFUSED)
def test_what_no_later_attempt_helps_is_refused_with_advice(error: Exception, advice: str) -> None:
    assert isinstance(error, ERRORS)
    with pytest.raises(StoreRefused, match=advice) as refusal:
        raise translated(error)
    if isinstance(error, ProfileNotFound):
        assert "ENDPOINT" not in str(refusal.value)


@pytest.mark.parametrize("error", PASSING)
def test_what_a_later_attempt_may_help_is_an_outage(error: Exception) -> None:
    assert isinstance(error, ERRORS)
    assert type(translated(error)) is StoreUnavailable


@pytest.mark.parametrize("code", ["NoSuchKey", "404"])
def test_a_missing_object_is_neither(code: str) -> None:
    assert type(translated(answer(404, code, "GetObject"))) is ArtifactMissing
